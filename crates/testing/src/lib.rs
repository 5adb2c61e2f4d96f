//! `meshos-testing`.
