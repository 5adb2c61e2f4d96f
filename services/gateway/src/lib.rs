//! `meshos-gateway`.
