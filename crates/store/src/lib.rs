//! Keys, transactions, watches, leases and fenced elections over two backends with the same semantics:
//! [`Embedded`] (one machine, redb) and [`Etcd`] (a cluster).
//!
//! Every change of the store has a [`Revision`]; a transaction is one revision; a watch delivers every
//! change from a revision on, in order and without a gap, or fails with [`Error::Compacted`] so that its
//! reader starts again from a [`Listing`] (see [`watch_resync`]). No transaction touches more than
//! [`MAX_TXN_OPS`] keys. What both backends promise is written down as tests in `conformance`.
//!
//! The crate spawns no tasks, but for the thread on which [`Etcd`] keeps leases alive: what else has to run beside the callers ([`Embedded::run_leases`],
//! [`BatchRunner::run`]) is handed out as a future.

mod batch;
#[cfg(feature = "test-util")]
pub mod conformance;
mod election;
mod embedded;
mod error;
mod etcd;
mod hold;
mod model;
mod resync;
mod url;
mod watcher;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

pub use batch::{BatchRunner, BatchWriter, batch_writer};
pub use election::{Campaign, Fence, campaign, depose, leader_key, wait_change};
pub use embedded::Embedded;
pub use error::{Error, Result};
pub use etcd::{Etcd, EtcdOptions};
pub use model::{
    Compare, Event, KeyValue, LeaseId, Listing, MAX_KEY_BYTES, MAX_TXN_BYTES, MAX_TXN_OPS, MAX_VALUE_BYTES,
    Op, Revision, Txn, TxnOutcome, WatchBatch,
};
pub use resync::{Update, WatchResync, watch_resync};
pub use url::{Opened, StoreUrl, open, parse_url};
pub use watcher::Watcher;

/// A store that is shared by all parts of a service.
pub type SharedStore = Arc<dyn Store>;

/// Versioned keys with atomic transactions, ordered watches and leases.
#[async_trait]
pub trait Store: Send + Sync + Debug + 'static {
    /// The current value of `key`, or `None`.
    async fn get(&self, key: &str) -> Result<Option<KeyValue>>;

    /// All keys that start with `prefix` (empty: all keys), in key order, as they were at one revision.
    async fn list(&self, prefix: &str) -> Result<Listing>;

    /// Applies all operations at one revision, if every compare holds.
    ///
    /// After an error for which [`Error::outcome_unknown`] holds the transaction may have been applied.
    async fn txn(&self, txn: Txn) -> Result<TxnOutcome>;

    /// Events of keys that start with `prefix` and have `mod_revision >= from`, in order, without a gap.
    ///
    /// `from` may lie in the future. Fails (here or later, from [`Watcher::next`]) with
    /// [`Error::Compacted`] when the history from there on is no longer kept.
    async fn watch(&self, prefix: &str, from: Revision) -> Result<Watcher>;

    /// A new lease; keys bound to it are deleted when it is not kept alive for `ttl`.
    ///
    /// A backend may raise `ttl` to its own floor (etcd: about 2 s, whole seconds).
    async fn grant(&self, ttl: Duration) -> Result<LeaseId>;

    /// Gives the lease its full time to live again.
    async fn keep_alive(&self, lease: LeaseId) -> Result<()>;

    /// Keeps a lease of this time to live alive; returns why once it is lost, or may be. Dropped, it stops.
    async fn hold(&self, lease: LeaseId, ttl: Duration) -> Error {
        hold::hold(|| self.keep_alive(lease), ttl).await
    }

    /// Ends the lease and deletes its keys, at one revision.
    async fn revoke(&self, lease: LeaseId) -> Result<()>;

    /// Forgets the history up to and including `revision`; values that are current stay.
    async fn compact(&self, revision: Revision) -> Result<()>;
}
