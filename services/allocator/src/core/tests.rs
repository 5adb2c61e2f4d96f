//! The core as its frameworks, agents and readers see it.

mod accept;
mod agents;
mod frameworks;
mod harness;
mod offers;
mod operations;
mod random;
mod roles;
mod speed;
mod tasks;
mod wishes;
