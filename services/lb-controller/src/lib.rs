//! Publishes apps through HAProxy: one controller beside each HAProxy.
//!
//! [`core`] is pure: apps and tasks go in, texts of HAProxy's configuration, places of tasks and entries of maps
//! come out. [`driver`] follows the app-scheduler and brings HAProxy to that: by commands while it runs wherever
//! HAProxy takes them, by a reload of a configuration that it has looked at before where it must. What lies on disk
//! is always what runs, so a HAProxy that dies is back at once, and a new controller takes over without a reload.

pub mod config;
pub mod core;
pub mod deploy;
pub mod driver;
pub mod error;
pub mod haproxy;
pub mod metrics;
pub mod service;
pub mod source;

mod follower;
mod grpc;
mod http;
mod marathon;
mod sysctl;

pub use config::{Config, LbArgs, MarathonLbArgs};
pub use error::Error;
pub use service::{Handle, start};
