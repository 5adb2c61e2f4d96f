//! Recent changes, for watches that start in the past, and the watches that follow new ones.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::StreamExt;
use futures::stream;
use tokio::sync::mpsc;

use crate::error::{Error, Result};
use crate::model::{Event, Revision, WatchBatch};
use crate::watcher::Watcher;

/// How much history is kept; what is older counts as compacted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) events: usize,
    pub(crate) bytes: usize,
    /// Changes that a watch buffers for its reader before it is cut off.
    pub(crate) buffered: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { events: 20_000, bytes: 64 * 1024 * 1024, buffered: 4096 }
    }
}

/// The newest changes in order, and the readers that follow.
#[derive(Debug)]
pub(crate) struct History {
    limits: Limits,
    /// Nothing up to and including this revision is kept.
    compacted: Revision,
    batches: VecDeque<WatchBatch>,
    events: usize,
    bytes: usize,
    feeds: Vec<Feed>,
}

/// The store's end of a watch.
#[derive(Debug)]
struct Feed {
    prefix: String,
    from: Revision,
    sender: mpsc::Sender<WatchBatch>,
    lagged: Arc<AtomicBool>,
}

impl History {
    /// A history that starts after `revision`.
    pub(crate) fn new(revision: Revision, limits: Limits) -> Self {
        // Revision 1 is the empty store: nothing lies before it.
        let compacted = if revision <= 1 { 0 } else { revision };
        Self { limits, compacted, batches: VecDeque::new(), events: 0, bytes: 0, feeds: Vec::new() }
    }

    /// Takes a committed change in and passes it on.
    pub(crate) fn publish(&mut self, batch: WatchBatch) {
        self.feeds.retain(|feed| feed.offer(&batch));
        self.events += batch.events.len();
        self.bytes += bytes(&batch);
        self.batches.push_back(batch);
        while self.events > self.limits.events || self.bytes > self.limits.bytes {
            self.forget_oldest();
        }
    }

    /// Forgets everything up to and including `revision`.
    pub(crate) fn compact(&mut self, revision: Revision) {
        while self.batches.front().is_some_and(|batch| batch.revision <= revision) {
            self.forget_oldest();
        }
        self.compacted = self.compacted.max(revision);
    }

    fn forget_oldest(&mut self) {
        if let Some(batch) = self.batches.pop_front() {
            self.compacted = batch.revision;
            self.events -= batch.events.len();
            self.bytes -= bytes(&batch);
        }
    }

    /// Opens a watch; what is already history comes first.
    pub(crate) fn watch(&mut self, prefix: &str, from: Revision) -> Result<Watcher> {
        let from = from.max(1);
        if from <= self.compacted {
            return Err(Error::Compacted { requested: from, compacted: self.compacted });
        }
        let start = self.batches.partition_point(|batch| batch.revision < from);
        let backlog: VecDeque<_> =
            self.batches.range(start..).filter_map(|batch| under(prefix, batch)).collect();
        let (sender, receiver) = mpsc::channel(self.limits.buffered);
        let lagged = Arc::new(AtomicBool::new(false));
        self.feeds.push(Feed { prefix: prefix.to_owned(), from, sender, lagged: lagged.clone() });
        let reader =
            Reader { prefix: prefix.to_owned(), backlog, receiver, lagged, buffered: self.limits.buffered };
        let changes = stream::unfold(Some(reader), |reader| async move { reader?.next().await }).boxed();
        Ok(Watcher::new(prefix.to_owned(), changes))
    }

    /// Ends all watches.
    pub(crate) fn close(&mut self) {
        self.feeds.clear();
    }
}

impl Feed {
    /// Passes the batch on; false when the feed is to be dropped.
    fn offer(&self, batch: &WatchBatch) -> bool {
        if self.sender.is_closed() {
            return false;
        }
        if batch.revision < self.from {
            return true;
        }
        let Some(part) = under(&self.prefix, batch) else { return true };
        match self.sender.try_send(part) {
            Ok(()) => true,
            Err(_) => {
                self.lagged.store(true, Ordering::Release);
                false
            }
        }
    }
}

/// The reader's end of a watch.
struct Reader {
    prefix: String,
    backlog: VecDeque<WatchBatch>,
    receiver: mpsc::Receiver<WatchBatch>,
    lagged: Arc<AtomicBool>,
    buffered: usize,
}

impl Reader {
    async fn next(mut self) -> Option<(Result<WatchBatch>, Option<Self>)> {
        if let Some(batch) = self.backlog.pop_front() {
            return Some((Ok(batch), Some(self)));
        }
        match self.receiver.recv().await {
            Some(batch) => Some((Ok(batch), Some(self))),
            None if self.lagged.load(Ordering::Acquire) => {
                Some((Err(Error::Lagged { prefix: self.prefix, buffered: self.buffered }), None))
            }
            None => Some((Err(Error::Closed { what: "the embedded store" }), None)),
        }
    }
}

/// The part of a batch that lies under the prefix.
fn under(prefix: &str, batch: &WatchBatch) -> Option<WatchBatch> {
    let events: Vec<Event> =
        batch.events.iter().filter(|event| event.key().starts_with(prefix)).cloned().collect();
    (!events.is_empty()).then_some(WatchBatch { revision: batch.revision, events })
}

fn bytes(batch: &WatchBatch) -> usize {
    let size = |event: &Event| match event {
        Event::Put(kv) => kv.key.len() + kv.value.len(),
        Event::Delete { key, .. } => key.len(),
    };
    batch.events.iter().map(size).sum()
}
