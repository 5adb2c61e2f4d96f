//! Marathon's job: keeps apps running. A framework of the allocator like any other, over gRPC.
//!
//! Everything is decided in [`core`], which is pure: requests, offers, task statuses and ticks go in, records to
//! store, calls to the allocator and answers come out. [`service`] is the shell around it: one leader among several
//! replicas holds a core, writes its records (fenced by its epoch), and only then sends what depends on them, so a
//! change of leader forgets nothing that was answered and launches nothing twice.

pub mod backoff;
pub mod config;
pub mod core;
pub mod deployment;
pub mod error;
pub mod framework;
pub mod health;
pub mod matcher;
pub mod metrics;
pub mod service;
pub mod store;
pub mod update;
pub mod validate;
pub mod view;

mod grpc;

pub use config::{Config, MarathonArgs};
pub use error::Error;
pub use service::{Handle, start};
