//! A whole agent against a registry and an allocator of this test.
#![allow(clippy::unwrap_used, reason = "a test")]

mod api;
mod exchange;
mod executors;
mod fakes;
mod links;
mod settings;
