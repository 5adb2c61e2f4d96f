//! Who gets what: offers, frameworks, tasks.
//!
//! One leader holds all of it in memory, in one pure [`core`]; standbys wait. The core takes an input (a call of
//! a framework, a message of an agent, a change in the registry, the end of a timer) and leaves effects (events
//! for frameworks, commands for agents, records to persist, changes to publish). The shell around it
//! ([`service`]) owns the streams and does the I/O. A new leader learns tasks and frameworks from the agents
//! that link to it; nothing per task is stored.

pub mod config;
pub mod core;
pub mod error;
mod grpc;
pub mod metrics;
pub mod service;
mod store;
mod timings;

pub use config::{AllocatorArgs, Config};
pub use error::Error;
pub use service::{Handle, start};
