//! What can go wrong in the controller.

use std::{io, path::PathBuf};

use meshos_mesh::TransportError;

/// Failures of start-up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the lb-controller cannot start")]
    Transport(#[from] TransportError),
    #[error("directory {dir}: {source}; choose another with --haproxy-dir")]
    Directory { dir: PathBuf, source: io::Error },
    #[error(
        "{binary} cannot be run: {source}; install HAProxy 2.6 or newer, or name it with --haproxy-binary"
    )]
    Binary { binary: String, source: io::Error },
    #[error("the head of the configuration cannot be used: {message}")]
    Head { message: String },
    #[error("marathon cannot be followed: {0}")]
    Marathon(String),
    #[error("kernel setting {setting} cannot be made: {message}; HAPROXY_SYSCTL_NONSTRICT lets that pass")]
    Sysctl { setting: String, message: String },
    #[error("no certificate can be made for the HTTPS port: {0}; give some with --ssl-certs")]
    Certificate(#[from] rcgen::Error),
}
