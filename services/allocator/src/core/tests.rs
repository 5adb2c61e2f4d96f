//! The core as its frameworks, agents and readers see it.

mod accept;
mod agents;
mod executors;
mod frameworks;
pub(crate) mod harness;
mod hostile;
mod many;
mod metrics;
mod offers;
pub(crate) mod operations;
mod order;
mod policies;
mod random;
mod roles;
mod tasks;
mod wishes;
