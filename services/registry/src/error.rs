//! What can go wrong in the registry.

use meshos_mesh::TransportError;
use tonic::Status;

/// Failures of start-up and of calls.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the registry cannot start")]
    Transport(#[from] TransportError),
    #[error("the store did not do what the registry asked")]
    Store(#[from] meshos_store::Error),
    #[error("agent {agent_id}: the store does not tell whether session {session} was recorded")]
    Unsure { agent_id: String, session: u64, source: meshos_store::Error },
    #[error("agent {agent_id}: its record changed {attempts} times while it was written; try again")]
    Contended { agent_id: String, attempts: u32 },
    #[error("Agent '{agent_id}' not found")]
    UnknownAgent { agent_id: String },
    #[error("epoch {epoch} does not lead the allocator any more: the write was refused")]
    Fenced { epoch: u64 },
    #[error("this replica has lost contact with the store and serves nobody until it is back; use another")]
    CutOff,
    #[error("{field}: {reason}")]
    Invalid { field: &'static str, reason: String },
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let message = chain(&error);
        match error {
            Error::Invalid { .. } => Status::invalid_argument(message),
            Error::UnknownAgent { .. } => Status::not_found(message),
            Error::Fenced { .. } => Status::failed_precondition(message),
            Error::Contended { .. } | Error::CutOff | Error::Unsure { .. } => Status::unavailable(message),
            Error::Store(cause) if cause.retryable() => Status::unavailable(message),
            Error::Store(
                meshos_store::Error::ValueTooLarge { .. } | meshos_store::Error::TxnTooLarge { .. },
            ) => Status::invalid_argument(message),
            Error::Store(_) | Error::Transport(_) => Status::internal(message),
        }
    }
}

/// The error and its causes in one line: sources do not cross the wire.
fn chain(error: &dyn std::error::Error) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        message.push_str(": ");
        message.push_str(&cause.to_string());
        source = cause.source();
    }
    message
}
