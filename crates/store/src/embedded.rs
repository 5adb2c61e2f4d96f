//! The store of one machine: everything in memory, and on disk (redb) before anybody sees it.

mod core;
mod disk;
mod history;
mod leases;
mod writer;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use self::core::{Command, Core, Effects, Reply, Stage};
use self::disk::Disk;
use self::history::{History, Limits};
use self::leases::Leases;
use self::writer::Writer;
use crate::Store;
use crate::error::{Error, Result};
use crate::model::{KeyValue, LeaseId, Listing, Revision, Txn, TxnOutcome, check_key, check_prefix};
use crate::watcher::Watcher;

/// The embedded store. A clone is another handle to the same store; it closes with the last one.
#[derive(Debug, Clone)]
pub struct Embedded {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    /// `None`: nothing is written to disk.
    writer: Option<Writer>,
}

/// What callers, the writing thread and the lease loop share.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    leases_changed: Notify,
}

#[derive(Debug)]
struct State {
    core: Core,
    history: History,
    leases: Leases,
}

impl Embedded {
    /// Opens or creates the store in `dir`. Blocks while an earlier crash is repaired.
    ///
    /// Fails with [`Error::Locked`] when another process has it open and [`Error::NotWritable`] when the
    /// directory cannot be written.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        let (disk, core) = Disk::open(dir.as_ref())?;
        let shared = Arc::new(Shared::new(core, Limits::default()));
        let writer = Writer::start(disk, shared.clone())?;
        Ok(Self { inner: Arc::new(Inner { shared, writer: Some(writer) }) })
    }

    /// A store that lives in memory only: no thread, no disk, every call is done when it is first polled.
    pub fn in_memory() -> Self {
        Self::with_limits(Limits::default())
    }

    /// As [`Embedded::in_memory`], keeping only `events` changes of history and cutting a watch off that is
    /// `buffered` changes behind.
    #[cfg(feature = "test-util")]
    pub fn in_memory_bounded(events: usize, buffered: usize) -> Self {
        Self::with_limits(Limits { events, buffered, ..Limits::default() })
    }

    fn with_limits(limits: Limits) -> Self {
        let shared = Arc::new(Shared::new(Core::new(), limits));
        Self { inner: Arc::new(Inner { shared, writer: None }) }
    }

    /// Ends leases that are not kept alive; runs until the last handle of the store is dropped. To be spawned
    /// once; without it leases do not end by themselves. After a restart each lease has its full time again.
    pub fn run_leases(&self) -> impl Future<Output = ()> + Send + 'static {
        run_leases(self.inner.shared.clone(), Arc::downgrade(&self.inner))
    }
}

impl Inner {
    async fn submit(&self, command: Command) -> Result<Reply> {
        match &self.writer {
            Some(writer) => writer.submit(command).await,
            None => self.shared.run(&command),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The writer first, so that watches see what it still writes.
        self.writer = None;
        self.shared.lock().history.close();
        self.shared.leases_changed.notify_one();
    }
}

impl Shared {
    fn new(core: Core, limits: Limits) -> Self {
        let mut leases = Leases::default();
        for (id, ttl) in core.leases() {
            leases.start(id, ttl);
        }
        let history = History::new(core.revision, limits);
        Self { state: Mutex::new(State { core, history, leases }), leases_changed: Notify::new() }
    }

    /// The state. Changes are applied whole, so a panic elsewhere leaves nothing half done in it.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs commands on top of each other without changing the state. Only the writing thread calls this and
    /// [`Shared::apply`], so nothing changes in between.
    fn stage(&self, commands: &[Command]) -> (Vec<Result<Reply>>, Effects) {
        let state = self.lock();
        let mut stage = Stage::new(&state.core);
        let replies = commands.iter().map(|command| stage.run(command)).collect();
        (replies, stage.finish())
    }

    /// Makes staged effects visible.
    fn apply(&self, effects: Effects) {
        self.lock().apply(effects);
        self.leases_changed.notify_one();
    }

    /// Runs a command and makes its effects visible at once, for a store without a disk.
    fn run(&self, command: &Command) -> Result<Reply> {
        let mut state = self.lock();
        let mut stage = Stage::new(&state.core);
        let reply = stage.run(command);
        let effects = stage.finish();
        state.apply(effects);
        drop(state);
        self.leases_changed.notify_one();
        reply
    }
}

impl State {
    fn apply(&mut self, effects: Effects) {
        for (id, ttl) in &effects.leases {
            match ttl {
                Some(ttl) => self.leases.start(*id, *ttl),
                None => self.leases.end(*id),
            }
        }
        for batch in self.core.apply(effects) {
            self.history.publish(batch);
        }
    }
}

async fn run_leases(shared: Arc<Shared>, store: Weak<Inner>) {
    loop {
        let (over, next) = shared.lock().leases.tick(Instant::now());
        for id in over {
            let Some(store) = store.upgrade() else { return };
            match store.submit(Command::Revoke(id)).await {
                Ok(_) => tracing::info!(lease = %id, "lease expired"),
                Err(error) => tracing::warn!(lease = %id, %error, "cannot end lease"),
            }
        }
        if store.strong_count() == 0 {
            return;
        }
        let due = async {
            match next {
                Some(next) => sleep_until(next).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = shared.leases_changed.notified() => {}
            () = due => {}
        }
    }
}

#[async_trait]
impl Store for Embedded {
    async fn get(&self, key: &str) -> Result<Option<KeyValue>> {
        check_key(key)?;
        Ok(self.inner.shared.lock().core.get(key).cloned())
    }

    async fn list(&self, prefix: &str) -> Result<Listing> {
        check_prefix(prefix)?;
        let state = self.inner.shared.lock();
        Ok(Listing { revision: state.core.revision, items: state.core.range(prefix).cloned().collect() })
    }

    async fn txn(&self, txn: Txn) -> Result<TxnOutcome> {
        txn.validate()?;
        match self.inner.submit(Command::Txn(txn)).await? {
            Reply::Txn(outcome) => Ok(outcome),
            other => Err(unexpected("txn", other)),
        }
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<Watcher> {
        check_prefix(prefix)?;
        self.inner.shared.lock().history.watch(prefix, from)
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId> {
        match self.inner.submit(Command::Grant(ttl)).await? {
            Reply::Granted(id) => Ok(id),
            other => Err(unexpected("grant", other)),
        }
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<()> {
        self.inner.shared.lock().leases.keep_alive(lease)?;
        self.inner.shared.leases_changed.notify_one();
        Ok(())
    }

    async fn revoke(&self, lease: LeaseId) -> Result<()> {
        self.inner.submit(Command::Revoke(lease)).await.map(|_| ())
    }

    async fn compact(&self, revision: Revision) -> Result<()> {
        let mut state = self.inner.shared.lock();
        let current = state.core.revision;
        if revision > current {
            return Err(Error::FutureRevision { requested: revision, current });
        }
        state.history.compact(revision);
        Ok(())
    }
}

/// Commands and replies belong together; a mismatch is reported instead of a panic.
fn unexpected(call: &'static str, reply: Reply) -> Error {
    Error::Refused { call, why: format!("the writer answered {reply:?}") }
}
