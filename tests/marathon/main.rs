//! Marathon's API as its clients meet it, against a real `meshos local`. Tests are named after the lines of the
//! behaviour reference that they show.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod changes;
mod checks;
mod clients;
mod common;
mod containers;
mod courses;
mod definitions;
mod deployments;
mod events;
mod groups;
mod health;
mod hosts;
mod kills;
mod leader;
mod openapi;
mod placement;
mod queries;
mod queue;
mod readiness;
mod secrets;
mod servers;
mod settings;
mod stream;
mod tasks;
