//! `meshos-agent`.
