//! `meshos-store`.
