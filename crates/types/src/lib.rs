//! `meshos-types`.
