//! `meshos-allocator`.
