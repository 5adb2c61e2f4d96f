//! Snapshot, then changes: what every owner of state serves (DESIGN rule 2).

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use futures::{Stream, StreamExt, stream};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tonic::Status;

/// Publishes changes to any number of readers. A reader that falls more than `capacity` changes behind gets what it
/// was given, then ABORTED, and must begin again with a snapshot; it never slows the owner.
#[derive(Clone, Debug)]
pub struct Feed<T> {
    readers: Arc<Mutex<Vec<Reader<T>>>>,
    capacity: usize,
}

#[derive(Debug)]
struct Reader<T> {
    changes: Sender<T>,
    /// Set when it is cut off.
    slow: Arc<AtomicBool>,
}

impl<T: Clone + Send + 'static> Feed<T> {
    /// Holds up to `capacity` changes for slow readers.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { readers: Arc::default(), capacity }
    }

    fn readers(&self) -> MutexGuard<'_, Vec<Reader<T>>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a change to all readers there are. It is copied for all but the last: most of the time there is one.
    pub fn publish(&self, change: T) {
        let mut readers = self.readers();
        let Some(last) = readers.len().checked_sub(1) else { return };
        let mut change = Some(change);
        let mut number = 0;
        readers.retain(|reader| {
            let change = if number == last { change.take() } else { change.clone() };
            number += 1;
            change.is_some_and(|change| reader.takes(change))
        });
    }

    /// Whether anybody reads.
    #[must_use]
    pub fn has_readers(&self) -> bool {
        self.readers().iter().any(|reader| !reader.changes.is_closed())
    }

    /// A stream of `snapshot`, then every later change. Call it where no change can come between taking the
    /// snapshot and this call: in the owner's task.
    #[must_use]
    pub fn subscribe(&self, snapshot: T) -> FeedStream<T> {
        self.subscribe_parts([snapshot])
    }

    /// As [`Feed::subscribe`], for a snapshot that is too large for one message. Its parts are made one by one as the
    /// reader takes them, while the owner goes on.
    #[must_use]
    pub fn subscribe_parts<I>(&self, snapshot: I) -> FeedStream<T>
    where
        I: IntoIterator<Item = T, IntoIter: Send + 'static>,
    {
        let (changes, receiver) = mpsc::channel(self.capacity.max(1));
        let slow = Arc::new(AtomicBool::new(false));
        self.readers().push(Reader { changes, slow: Arc::clone(&slow) });
        let changes = stream::unfold((receiver, slow), next_change);
        FeedStream(Box::pin(stream::iter(snapshot.into_iter().map(Ok)).chain(changes)))
    }
}

impl<T> Reader<T> {
    /// Whether it goes on reading.
    fn takes(&self, change: T) -> bool {
        let sent = self.changes.try_send(change);
        if matches!(sent, Err(mpsc::error::TrySendError::Full(_))) {
            self.slow.store(true, Ordering::Release);
        }
        sent.is_ok()
    }
}

type Changes<T> = (Receiver<T>, Arc<AtomicBool>);

/// The next change; the end when the feed ends or, with an error before it, when the reader was too slow.
async fn next_change<T>((mut changes, slow): Changes<T>) -> Option<(Result<T, Status>, Changes<T>)> {
    let next = match changes.recv().await {
        Some(change) => Ok(change),
        None if slow.swap(false, Ordering::AcqRel) => {
            Err(Status::aborted("reader too slow: missed changes; subscribe again"))
        }
        None => return None,
    };
    Some((next, (changes, slow)))
}

/// A reader's side of a [`Feed`]; fits as a tonic response stream.
pub struct FeedStream<T>(Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>);

impl<T> Stream for FeedStream<T> {
    type Item = Result<T, Status>;
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(cx)
    }
}

impl<T> fmt::Debug for FeedStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FeedStream")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reader_gets_the_snapshot_then_changes_and_is_cut_off_when_slow() {
        let feed = Feed::new(2);
        let mut reader = feed.subscribe(0);
        feed.publish(1);
        assert_eq!(reader.next().await.unwrap().unwrap(), 0);
        assert_eq!(reader.next().await.unwrap().unwrap(), 1);
        let mut other = feed.subscribe_parts([1]);
        for change in 2..6 {
            feed.publish(change);
            assert!(other.next().await.unwrap().is_ok());
        }
        assert_eq!((reader.next().await.unwrap().unwrap(), reader.next().await.unwrap().unwrap()), (2, 3));
        let error = reader.next().await.unwrap().unwrap_err();
        assert_eq!(error.code(), tonic::Code::Aborted);
        assert!(reader.next().await.is_none());
        // The other one keeps up.
        assert!(feed.has_readers());
        drop(feed);
        assert_eq!(other.map(Result::unwrap).collect::<Vec<_>>().await, [5]);
    }
}
