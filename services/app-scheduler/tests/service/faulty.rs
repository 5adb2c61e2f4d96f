//! A store whose use makes the caller panic, once asked to.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    time::Duration,
};

use async_trait::async_trait;
use meshos_store::{
    KeyValue, LeaseId, Listing, Result, Revision, SharedStore, Store, Txn, TxnOutcome, Watcher,
};

/// Where the service keeps its records.
const RECORDS: &str = "apps/";

#[derive(Debug)]
pub(super) struct Faulty {
    store: SharedStore,
    lists: AtomicUsize,
    write: AtomicBool,
}

impl Faulty {
    pub(super) fn new(store: SharedStore) -> Self {
        Self { store, lists: AtomicUsize::new(0), write: AtomicBool::new(false) }
    }

    /// The next so many readings of all records panic.
    pub(super) fn break_lists(&self, count: usize) {
        self.lists.store(count, SeqCst);
    }

    pub(super) fn lists_to_break(&self) -> usize {
        self.lists.load(SeqCst)
    }

    /// The next write of a record panics.
    pub(super) fn break_write(&self) {
        self.write.store(true, SeqCst);
    }
}

#[async_trait]
impl Store for Faulty {
    async fn get(&self, key: &str) -> Result<Option<KeyValue>> {
        self.store.get(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Listing> {
        let fewer = |left: usize| left.checked_sub(1);
        assert!(
            prefix != RECORDS || self.lists.fetch_update(SeqCst, SeqCst, fewer).is_err(),
            "a test wants this reader to panic"
        );
        self.store.list(prefix).await
    }

    async fn txn(&self, txn: Txn) -> Result<TxnOutcome> {
        let record = format!("{txn:?}").contains(RECORDS);
        assert!(!record || !self.write.swap(false, SeqCst), "a test wants this writer to panic");
        self.store.txn(txn).await
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<Watcher> {
        self.store.watch(prefix, from).await
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId> {
        self.store.grant(ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<()> {
        self.store.keep_alive(lease).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<()> {
        self.store.revoke(lease).await
    }

    async fn compact(&self, revision: Revision) -> Result<()> {
        self.store.compact(revision).await
    }
}
