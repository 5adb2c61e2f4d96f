//! Clusters for tests: a whole one in this process in real time ([`cluster`]), the same in simulated time from
//! a seed ([`sim`]), and real processes ([`process`]); with waiting for conditions ([`wait`]), a plain HTTP
//! client ([`http`]), event streams ([`events`]) and free ports ([`ports`]).
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "test support fails by panicking")]

pub mod cluster;
pub mod events;
pub mod http;
pub mod ports;
pub mod process;
pub mod sim;
pub mod wait;

pub use cluster::{Cluster, ClusterOptions};
pub use events::EventStream;
pub use http::{Http, Response};
pub use process::{Local, LocalCluster};
