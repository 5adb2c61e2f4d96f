//! Bodies that go on: chunks towards a client, bounded in bytes.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::timeout,
};
use tokio_stream::wrappers::UnboundedReceiverStream;

/// Bytes that a client may be behind.
const BEHIND: usize = 16 * 1024 * 1024;
/// How long a client may be that far behind before it is cut off.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a chunk was not sent; either way the stream is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamEnd {
    /// The client closed it.
    Closed,
    /// The client does not read, or too slowly.
    TooSlow,
}

/// The writing end; the body ends when it is dropped.
#[derive(Debug)]
pub(crate) struct ChunkSender {
    // Unbounded, since the room bounds it.
    chunks: mpsc::UnboundedSender<Chunk>,
    room: Arc<Semaphore>,
    behind: usize,
}

/// The body.
#[derive(Debug)]
pub(crate) struct ChunkReceiver(mpsc::UnboundedReceiver<Chunk>);

#[derive(Debug)]
struct Chunk {
    bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

/// A body that is yet to be written.
pub(crate) fn chunks() -> (ChunkSender, ChunkReceiver) {
    chunks_within(BEHIND)
}

/// As [`chunks`], for a client that may be `behind` bytes behind.
pub(crate) fn chunks_within(behind: usize) -> (ChunkSender, ChunkReceiver) {
    let (chunks, receiver) = mpsc::unbounded_channel();
    let room = Arc::new(Semaphore::new(behind));
    (ChunkSender { chunks, room, behind }, ChunkReceiver(receiver))
}

impl ChunkSender {
    /// Sends a chunk; waits a little while the client is too far behind.
    pub(crate) async fn send(&self, bytes: Bytes) -> Result<(), StreamEnd> {
        // One that is larger than all room goes alone.
        let size = u32::try_from(bytes.len().clamp(1, self.behind)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(size);
        let room = tokio::select! {
            biased;
            () = self.chunks.closed() => return Err(StreamEnd::Closed),
            room = timeout(PATIENCE, room) => room,
        };
        let Ok(Ok(room)) = room else { return Err(StreamEnd::TooSlow) };
        self.chunks.send(Chunk { bytes, _room: room }).map_err(|_| StreamEnd::Closed)
    }

    /// Returns once the client is gone.
    pub(crate) async fn closed(&self) {
        self.chunks.closed().await;
    }
}

impl ChunkReceiver {
    /// The chunks as the server takes them.
    pub(super) fn into_stream(self) -> impl Stream<Item = Result<Bytes, Infallible>> + Send + Sync {
        UnboundedReceiverStream::new(self.0).map(|chunk| Ok(chunk.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_too_slow() {
        let (sender, receiver) = chunks();
        let half = Bytes::from(vec![0; BEHIND / 2]);
        assert_eq!(sender.send(half.clone()).await, Ok(()));
        assert_eq!(sender.send(half.clone()).await, Ok(()));
        assert_eq!(sender.send(half.clone()).await, Err(StreamEnd::TooSlow));
        let mut stream = Box::pin(receiver.into_stream());
        assert_eq!(stream.next().await, Some(Ok(half.clone())));
        assert_eq!(sender.send(half).await, Ok(()), "reading makes room");
    }

    #[tokio::test(start_paused = true)]
    async fn a_chunk_larger_than_all_room_passes_alone() {
        let (sender, receiver) = chunks();
        let large = Bytes::from(vec![0; BEHIND + 1]);
        assert_eq!(sender.send(large.clone()).await, Ok(()));
        assert_eq!(sender.send(Bytes::from_static(b"x")).await, Err(StreamEnd::TooSlow));
        drop(receiver);
        assert_eq!(sender.send(large).await, Err(StreamEnd::Closed));
        sender.closed().await;
    }
}
