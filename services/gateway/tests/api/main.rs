//! The gateway over real HTTP, before hand-driven leaders.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod calls;
mod client;
mod fakes;
mod leaving;
mod marathon;
mod mesos;
mod operator;
mod scene;
mod streams;
mod trace;
mod wire;
