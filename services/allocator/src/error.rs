//! Why an allocator cannot start, or stops leading.

use meshos_mesh::TransportError;

/// Errors of the service.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be bound.
    #[error("allocator: {0}")]
    Listen(#[from] TransportError),
    /// A setting is not valid.
    #[error("--{flag} is '{value}': {problem}")]
    Setting { flag: &'static str, value: String, problem: String },
}
