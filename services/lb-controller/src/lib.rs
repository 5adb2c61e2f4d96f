//! `meshos-lb-controller`.
