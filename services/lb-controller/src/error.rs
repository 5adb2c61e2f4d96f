//! What can go wrong in the controller.

use meshos_mesh::TransportError;

/// Failures of start-up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the lb-controller cannot start")]
    Transport(#[from] TransportError),
}
