//! Clusters for tests: a whole one in this process in real time ([`cluster`]), the same in simulated time from
//! a seed ([`sim`]), and real processes ([`process`]); with waiting for conditions ([`wait`]) and a plain HTTP
//! client ([`http`]).
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "test support fails by panicking")]

pub mod cluster;
pub mod http;
pub mod process;
pub mod sim;
pub mod wait;

pub use http::{Http, Response};
pub use process::{Local, LocalCluster};
