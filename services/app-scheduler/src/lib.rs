//! `meshos-app-scheduler`.
