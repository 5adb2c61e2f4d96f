//! `meshos-registry`.
