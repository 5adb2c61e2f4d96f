//! Who is in the cluster: admits agents, holds their sessions, judges whether they live, and keeps what must
//! survive of agents and frameworks. Any replica serves any agent; what the replicas share is in the store.
//!
//! A broken stream makes an agent *disconnected* at once; only silence for the whole ping timeout makes it
//! *unreachable*. Nothing about an agent is visible to others before its record is committed: every replica
//! serves `Watch` from the store's own watch.

pub mod config;
pub mod error;
pub mod judge;
pub mod membership;
pub mod metrics;
pub mod service;
pub mod store;

mod grpc;
mod held;
mod past;
mod removals;
mod roll;
mod session;
mod view;

pub use config::{Config, Rate, RegistryArgs};
pub use error::Error;
pub use service::{Handle, start};
