//! Frameworks, operators and real clients against a real `meshos local`, over the Mesos HTTP APIs alone.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod agent_files;
mod agent_needs;
mod clients;
mod containers;
mod docker;
mod endpoints;
mod executors;
mod frameworks;
mod gone;
mod images;
mod launches;
mod offers;
mod operators;
mod policies;
mod reconcile;
mod replicas;
mod settings;
mod support;
mod tasks;
mod transport;
