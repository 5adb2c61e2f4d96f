//! Snapshot, then changes: what every owner of state serves (DESIGN rule 2).

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures::{Stream, StreamExt, stream};
use tokio::sync::broadcast;
use tokio_stream::wrappers::{BroadcastStream, errors::BroadcastStreamRecvError};
use tonic::Status;

/// Publishes changes to any number of readers. A reader that falls more than `capacity` changes behind gets
/// ABORTED and must begin again with a snapshot; it never slows the owner.
#[derive(Clone, Debug)]
pub struct Feed<T> {
    sender: broadcast::Sender<T>,
}

impl<T: Clone + Send + 'static> Feed<T> {
    /// Holds up to `capacity` changes for slow readers.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { sender: broadcast::Sender::new(capacity) }
    }

    /// Sends a change to all readers there are.
    pub fn publish(&self, change: T) {
        // No reader is no failure.
        let _ = self.sender.send(change);
    }

    /// Whether anybody reads.
    #[must_use]
    pub fn has_readers(&self) -> bool {
        self.sender.receiver_count() > 0
    }

    /// A stream of `snapshot`, then every later change. Call it where no change can come between taking the
    /// snapshot and this call: in the owner's task.
    #[must_use]
    pub fn subscribe(&self, snapshot: T) -> FeedStream<T> {
        self.subscribe_parts(vec![snapshot])
    }

    /// As [`Feed::subscribe`], for a snapshot that is too large for one message.
    #[must_use]
    pub fn subscribe_parts(&self, snapshot: Vec<T>) -> FeedStream<T> {
        let changes = BroadcastStream::new(self.sender.subscribe()).map(|change| {
            change.map_err(|BroadcastStreamRecvError::Lagged(missed)| {
                Status::aborted(format!("reader too slow: missed {missed} changes; subscribe again"))
            })
        });
        FeedStream(Box::pin(stream::iter(snapshot.into_iter().map(Ok)).chain(changes)))
    }
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
        for change in 2..6 {
            feed.publish(change);
        }
        let error = reader.next().await.unwrap().unwrap_err();
        assert_eq!(error.code(), tonic::Code::Aborted);
    }
}
