//! Response streams that tell the owner when they end.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures::Stream;
use meshos_mesh::Tasks;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Status;

use super::{OwnerHandle, Request};
use crate::core::{LinkId, StreamId};

/// A response stream; `ended` is cancelled when it is dropped, which the server does when the peer is gone.
#[derive(Debug)]
pub(crate) struct Guarded<T> {
    messages: ReceiverStream<Result<T, Status>>,
    _ended: DropGuard,
}

impl<T> Guarded<T> {
    fn new(messages: mpsc::Receiver<Result<T, Status>>) -> (Self, CancellationToken) {
        let ended = CancellationToken::new();
        (Self { messages: ReceiverStream::new(messages), _ended: ended.clone().drop_guard() }, ended)
    }
}

impl<T> Stream for Guarded<T> {
    type Item = Result<T, Status>;
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.messages).poll_next(cx)
    }
}

/// Tells the owner of the end of a framework's event stream.
#[derive(Debug)]
pub(crate) struct StreamEnd;

impl StreamEnd {
    pub(crate) fn guard<T>(
        owner: &OwnerHandle,
        stream: StreamId,
        events: mpsc::Receiver<Result<T, Status>>,
    ) -> Guarded<T> {
        let (guarded, ended) = Guarded::new(events);
        tell(&owner.tasks, "event-stream-end", owner.clone(), ended, Request::StreamClosed { stream });
        guarded
    }
}

/// Tells the owner of the end of an agent's link.
#[derive(Debug)]
pub(crate) struct LinkEnd;

impl LinkEnd {
    /// The token is cancelled when the link's outgoing side ends.
    pub(crate) fn guard<T>(
        owner: &OwnerHandle,
        link: LinkId,
        commands: mpsc::Receiver<Result<T, Status>>,
    ) -> (Guarded<T>, CancellationToken) {
        let (guarded, ended) = Guarded::new(commands);
        tell(&owner.tasks, "link-end", owner.clone(), ended.clone(), Request::Unlink { link });
        (guarded, ended)
    }
}

fn tell(tasks: &Tasks, name: &'static str, owner: OwnerHandle, ended: CancellationToken, request: Request) {
    tasks.spawn(name, async move {
        ended.cancelled().await;
        // An owner that has ended has closed the stream itself.
        let _ = owner.send(request).await;
    });
}
