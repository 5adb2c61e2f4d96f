//! One store for a simulated cluster. It runs on a host of its own; every other host reaches it with a delay, or
//! not at all while it is cut off.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures::{FutureExt, StreamExt, future::BoxFuture, stream};
use meshos_mesh::{Rng, Tasks};
use meshos_store::{
    Embedded, Error, KeyValue, LeaseId, Listing, Result, Revision, Store, Txn, TxnOutcome, WatchBatch,
    Watcher,
};
use tokio::sync::{broadcast, mpsc, oneshot};

/// Work that a host asks the store's host to do. It runs there, because time is each host's own.
type Job = Box<dyn FnOnce(Arc<Embedded>) -> BoxFuture<'static, ()> + Send>;

/// The store of a simulated cluster.
#[derive(Clone, Debug)]
pub(crate) struct Central {
    jobs: mpsc::UnboundedSender<Job>,
    cut: Cut,
}

/// Hosts that cannot reach the store.
#[derive(Clone, Debug)]
struct Cut {
    hosts: Arc<Mutex<BTreeSet<String>>>,
    /// Wakes its readers in the order in which they came: a run must replay.
    changes: broadcast::Sender<()>,
}

impl Cut {
    fn is(&self, host: &str) -> bool {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner).contains(host)
    }

    fn notify(&self) {
        // No reader is no failure.
        let _ = self.changes.send(());
    }
}

impl Central {
    /// The store, and what its host has to run.
    pub(crate) fn new() -> (Self, CentralHost) {
        let (jobs, queue) = mpsc::unbounded_channel();
        let cut = Cut { hosts: Arc::default(), changes: broadcast::Sender::new(64) };
        (Self { jobs, cut }, CentralHost { store: Arc::new(Embedded::in_memory()), queue })
    }

    /// The store as `host` sees it.
    pub(crate) fn seen_from(&self, host: &str, rng: Rng) -> Arc<dyn Store> {
        Arc::new(Remote { central: self.clone(), host: host.to_owned(), rng })
    }

    /// Cuts `host` off from the store.
    pub(crate) fn cut_off(&self, host: &str) {
        self.cut.hosts.lock().unwrap_or_else(PoisonError::into_inner).insert(host.to_owned());
        self.cut.notify();
    }

    /// Lets `host` reach the store again.
    pub(crate) fn join(&self, host: &str) {
        self.cut.hosts.lock().unwrap_or_else(PoisonError::into_inner).remove(host);
        self.cut.notify();
    }
}

/// What the store's host runs.
#[derive(Debug)]
pub(crate) struct CentralHost {
    store: Arc<Embedded>,
    queue: mpsc::UnboundedReceiver<Job>,
}

impl CentralHost {
    pub(crate) async fn run(mut self) {
        let tasks = Tasks::new();
        tasks.spawn("leases", self.store.run_leases());
        while let Some(job) = self.queue.recv().await {
            tasks.spawn("job", job(Arc::clone(&self.store)));
        }
    }
}

#[derive(Debug)]
struct Remote {
    central: Central,
    host: String,
    rng: Rng,
}

impl Remote {
    /// One way between the host and the store.
    async fn travel(&self) {
        tokio::time::sleep(Duration::from_millis(self.rng.below(3))).await;
    }

    async fn call<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl FnOnce(Arc<Embedded>) -> BoxFuture<'static, Result<T>> + Send + 'static,
    ) -> Result<T> {
        let lost =
            |outcome_unknown| Error::Unavailable { call: name, why: "cut off".to_owned(), outcome_unknown };
        self.travel().await;
        if self.central.cut.is(&self.host) {
            // A silent partition: the caller notices by its own deadline.
            tokio::time::sleep(Duration::from_secs(1)).await;
            return Err(lost(false));
        }
        let (answer, answered) = oneshot::channel();
        let job: Job =
            Box::new(move |store| work(store).map(move |result| drop(answer.send(result))).boxed());
        self.central.jobs.send(job).map_err(|_| Error::Closed { what: "the simulated store" })?;
        let result = answered.await.map_err(|_| Error::Closed { what: "the simulated store" })?;
        self.travel().await;
        if self.central.cut.is(&self.host) { Err(lost(true)) } else { result }
    }

    /// A watch that breaks when the host is cut off.
    fn breakable(&self, prefix: &str, watcher: Watcher) -> Watcher {
        let (cut, host, name) = (self.central.cut.clone(), self.host.clone(), prefix.to_owned());
        let changes = cut.changes.subscribe();
        let batches = stream::unfold(Some((watcher, changes)), move |state| {
            let (cut, host, prefix) = (cut.clone(), host.clone(), name.clone());
            async move {
                let (mut watcher, mut changes) = state?;
                loop {
                    if cut.is(&host) {
                        return Some((Err(Error::Disconnected { prefix, why: "cut off".to_owned() }), None));
                    }
                    let batch: Result<WatchBatch> = tokio::select! {
                        biased;
                        _ = changes.recv() => continue,
                        batch = watcher.next() => batch,
                    };
                    let rest = if batch.is_ok() { Some((watcher, changes)) } else { None };
                    return Some((batch, rest));
                }
            }
        });
        Watcher::new(prefix.to_owned(), batches.boxed())
    }
}

#[async_trait]
impl Store for Remote {
    async fn get(&self, key: &str) -> Result<Option<KeyValue>> {
        let key = key.to_owned();
        self.call("get", |store| async move { store.get(&key).await }.boxed()).await
    }

    async fn list(&self, prefix: &str) -> Result<Listing> {
        let prefix = prefix.to_owned();
        self.call("list", |store| async move { store.list(&prefix).await }.boxed()).await
    }

    async fn txn(&self, txn: Txn) -> Result<TxnOutcome> {
        self.call("txn", |store| async move { store.txn(txn).await }.boxed()).await
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<Watcher> {
        let name = prefix.to_owned();
        let watcher =
            self.call("watch", move |store| async move { store.watch(&name, from).await }.boxed()).await?;
        Ok(self.breakable(prefix, watcher))
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId> {
        self.call("grant", move |store| async move { store.grant(ttl).await }.boxed()).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<()> {
        self.call("keep_alive", move |store| async move { store.keep_alive(lease).await }.boxed()).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<()> {
        self.call("revoke", move |store| async move { store.revoke(lease).await }.boxed()).await
    }

    async fn compact(&self, revision: Revision) -> Result<()> {
        self.call("compact", move |store| async move { store.compact(revision).await }.boxed()).await
    }
}
