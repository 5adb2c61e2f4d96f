//! One node of the mesh: detects what it has, runs tasks through containerizers, watches them and reports.
//!
//! The decisions stand in [`core`], a state machine without I/O; [`service`] drives it. Task processes are
//! children of the [`supervisor`], a small process of its own that outlives the agent, so that a restart or
//! an upgrade of the agent never touches a task.

mod beneath;
pub mod checkpoint;
pub mod config;
mod console;
pub mod containerizer;
pub mod core;
mod detect;
mod disk;
pub mod error;
mod executors;
pub mod fetcher;
pub mod gc;
mod grpc;
mod housekeeping;
mod http;
pub mod images;
pub mod journal;
mod link;
pub mod network;
mod procfs;
mod reconfiguration;
pub mod rotation;
mod runner;
pub mod service;
mod session;
pub mod supervisor;
mod tarball;
pub mod token;
mod workdir;

pub use config::Config;
pub use error::Error;
pub use service::{Handle, clean_up, start};

/// The Mesos version whose behaviour this agent has; clients compare it.
pub const MESOS_VERSION: &str = "1.12.0";
