//! Why an agent cannot start.

use std::{io, net::SocketAddr, path::PathBuf};

use meshos_mesh::TransportError;

use crate::containerizer::ContainerizerError;

/// Why an agent cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("work directory {}: cannot {what}: {source}", dir.display())]
    WorkDir { dir: PathBuf, what: &'static str, source: io::Error },
    #[error("work directory {} is used by another agent; stop it or choose another --work_dir", .0.display())]
    WorkDirTaken(PathBuf),
    #[error("checkpoint {}: {reason}; move it away to start as a new agent", path.display())]
    Checkpoint { path: PathBuf, reason: String },
    #[error("--{flag}: {reason}")]
    Flag { flag: &'static str, reason: String },
    #[error("the agent's configuration changed: {0}")]
    Reconfiguration(String),
    #[error("cannot listen on {address} (--ip, --port): {source}; choose another port or stop what holds it")]
    Listen { address: SocketAddr, source: io::Error },
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error(transparent)]
    Containerizer(#[from] ContainerizerError),
}
