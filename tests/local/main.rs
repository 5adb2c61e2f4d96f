//! `meshos local` as a real process, met over its HTTP APIs.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod bad_input;
mod common;
mod first_app;
mod restart;
mod trace;
mod unprivileged;
