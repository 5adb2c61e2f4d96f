//! `meshos-mesh`.
