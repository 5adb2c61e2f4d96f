//! The HTTP face of the mesh: the Mesos master's endpoints on one address, Marathon's on another, both answered
//! for by gRPC calls to the allocator and the app-scheduler.
//!
//! Stateless. Reads are answered from local views that follow the leaders' `Watch` streams (see [`views`]), so
//! they scale with the replicas and never load a leader; writes go to the leader and wait until the local view
//! contains them. What is sent and what is answered is decided by pure code ([`mesos`], [`marathon`]); only
//! [`http`], [`client`] and [`service`] touch sockets.

pub mod config;
pub mod error;
mod service;

pub(crate) mod client;
pub(crate) mod http;
pub(crate) mod marathon;
pub(crate) mod mesos;
pub(crate) mod metrics;
pub(crate) mod replicas;
pub(crate) mod views;

pub use config::{Config, GatewayArgs};
pub use error::Error;
pub use service::{Handle, start};
