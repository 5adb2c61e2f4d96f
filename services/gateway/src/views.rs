//! Local views of what the leaders publish: a snapshot, then changes (`Watch` streams). All reads are answered
//! from them. While a stream is broken the last view goes on answering; the next snapshot replaces it.

pub(crate) mod apps;
pub(crate) mod cluster;
mod follow;
mod shared;

use std::sync::Arc;

use meshos_mesh::Env;

use crate::client::Leader;

pub(crate) use apps::Apps;
pub(crate) use cluster::Cluster;
pub(crate) use shared::{Position, Shared};

/// Starts to follow the leading allocator.
pub(crate) fn follow_cluster(env: &Env, leader: &Arc<Leader>) -> Shared<Cluster> {
    follow::spawn(env, "cluster-view", leader)
}

/// Starts to follow the leading app-scheduler.
pub(crate) fn follow_apps(env: &Env, leader: &Arc<Leader>) -> Shared<Apps> {
    follow::spawn(env, "apps-view", leader)
}
