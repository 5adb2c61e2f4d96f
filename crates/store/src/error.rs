//! The errors of the store, classified once.

use std::path::PathBuf;
use std::time::Duration;

use crate::model::{LeaseId, Revision};

/// The result of a call to the store.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong in a store. Cheap to clone, so that one failed batch can answer many callers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A value is larger than the store takes.
    #[error(
        "the value of key {key:?} has {size} bytes and the store takes {limit}; store less under one key"
    )]
    ValueTooLarge { key: String, size: usize, limit: usize },
    /// Keys and values of a transaction are together larger than the store takes.
    #[error("the transaction has {size} bytes and the store takes {limit}; split it")]
    TxnTooLarge { size: usize, limit: usize },
    /// A transaction has more operations (or compares) than the store takes.
    #[error("the transaction has {count} operations and the store takes {limit}; split it")]
    TooManyOps { count: usize, limit: usize },
    /// A delete by prefix would touch more keys than one transaction may.
    #[error("more than {limit} keys start with {prefix:?}; list them and delete them in parts")]
    PrefixTooWide { prefix: String, limit: usize },
    /// A key that no store takes.
    #[error("the key {key:?} is refused: {why}")]
    InvalidKey { key: String, why: &'static str },
    /// Two operations of a transaction touch the same key.
    #[error("the transaction touches key {key:?} twice; leave one operation for each key")]
    DuplicateKey { key: String },
    /// The lease has expired, was revoked or never existed.
    #[error("lease {0} does not exist (expired or revoked); take a new one and write its keys again")]
    LeaseNotFound(LeaseId),
    /// A watch asked for history that is no longer kept.
    #[error(
        "the history of revision {requested} is no longer kept (compacted up to {compacted}); list again"
    )]
    Compacted { requested: Revision, compacted: Revision },
    /// A revision lies in the future where it must not.
    #[error("revision {requested} lies ahead of the store's revision {current}")]
    FutureRevision { requested: Revision, current: Revision },
    /// The reader of a watch was too slow and was cut off.
    #[error("the watch of {prefix:?} was cut off because its reader is more than {buffered} changes behind")]
    Lagged { prefix: String, buffered: usize },
    /// A watch stream broke.
    #[error("the watch of {prefix:?} was disconnected: {why}; watch again")]
    Disconnected { prefix: String, why: String },
    /// The writer no longer leads: another one has the key, or nobody has.
    #[error("fenced: {key:?} no longer has epoch {epoch}; another replica leads or may lead")]
    Fenced { key: String, epoch: Revision },
    /// The store was shut down, or the loop that serves these calls has ended.
    #[error("the store is closed: {what} has ended")]
    Closed { what: &'static str },
    /// The store does not answer or refuses for now.
    #[error("the store is unavailable for {call}: {why}")]
    Unavailable { call: &'static str, why: String, outcome_unknown: bool },
    /// The store did not answer in time; a write may have been applied.
    #[error("the store did not answer {call} within {after:?}")]
    DeadlineExceeded { call: &'static str, after: Duration },
    /// Another process uses the data directory.
    #[error("data directory {path} is held by another process; stop that one or choose another --data-dir")]
    Locked { path: PathBuf },
    /// The data directory cannot be written.
    #[error(
        "data directory {path} is not writable ({why}); fix its owner or mode or choose another --data-dir"
    )]
    NotWritable { path: PathBuf, why: String },
    /// The stored data cannot be read.
    #[error("the store's data in {place} cannot be used: {why}")]
    Corrupt { place: String, why: String },
    /// The disk under the embedded store failed; it takes no further writes until it is opened again.
    #[error("the embedded store could not write to disk: {why}; free space or repair the disk, then restart")]
    Disk { why: String },
    /// A store address that is none.
    #[error("{url:?} is not a store address ({why}); use embedded:<dir> or etcd://host:port,host:port")]
    BadUrl { url: String, why: String },
    /// The store refused the call for a reason of its own, which a retry will not change.
    #[error("the store refused {call}: {why}")]
    Refused { call: &'static str, why: String },
}

impl Error {
    /// Whether the same call may succeed later without a change by the caller.
    ///
    /// For a watch this includes the errors after which it has to be opened again.
    pub fn retryable(&self) -> bool {
        matches!(
            self,
            Error::Compacted { .. }
                | Error::Lagged { .. }
                | Error::Disconnected { .. }
                | Error::Unavailable { .. }
                | Error::DeadlineExceeded { .. }
        )
    }

    /// Whether a write that failed with this error may have been applied all the same.
    pub fn outcome_unknown(&self) -> bool {
        match self {
            Error::DeadlineExceeded { .. } | Error::Disk { .. } | Error::Closed { .. } => true,
            Error::Unavailable { outcome_unknown, .. } => *outcome_unknown,
            _ => false,
        }
    }
}
