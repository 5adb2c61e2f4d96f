//! Publishes apps through HAProxy: one controller beside each HAProxy.
//!
//! So far it follows the app-scheduler and reports what it sees; rendering and applying HAProxy's
//! configuration build on [`view::View`].

pub mod config;
pub mod error;
pub mod metrics;
pub mod service;
pub mod view;

mod grpc;

pub use config::{Config, LbArgs};
pub use error::Error;
pub use service::{Handle, start};
