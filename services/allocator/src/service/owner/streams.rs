//! Response streams that tell the owner when they end.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures::{Stream, channel::mpsc};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{OwnerHandle, Request};
use crate::core::{LinkId, StreamId};

/// Where messages for a peer are put. Its queue costs nothing while it is empty, which counts with a link for every
/// agent.
pub(crate) type Outbox<T> = mpsc::Sender<Result<T, Status>>;
/// Where they come out.
pub(crate) type Messages<T> = mpsc::Receiver<Result<T, Status>>;

/// A response stream; the owner is told when it is dropped, which the server does when the peer is gone.
#[derive(Debug)]
pub(crate) struct Guarded<T> {
    messages: Messages<T>,
    end: End,
}

impl<T> Guarded<T> {
    /// Of a framework's event stream.
    pub(crate) fn events(owner: &OwnerHandle, stream: StreamId, messages: Messages<T>) -> Self {
        Self { messages, end: End::new(owner, Request::StreamClosed { stream }) }
    }

    /// Of an agent's link.
    pub(crate) fn link(owner: &OwnerHandle, link: LinkId, messages: Messages<T>) -> Self {
        Self { messages, end: End::new(owner, Request::Unlink { link }) }
    }

    /// Cancelled when the stream ends.
    pub(crate) fn ended(&self) -> CancellationToken {
        self.end.ended.clone()
    }
}

impl<T> Stream for Guarded<T> {
    type Item = Result<T, Status>;
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.messages).poll_next(cx)
    }
}

/// Hands in its request when it is dropped.
#[derive(Debug)]
struct End {
    owner: OwnerHandle,
    request: Option<Request>,
    ended: CancellationToken,
}

impl End {
    fn new(owner: &OwnerHandle, request: Request) -> Self {
        Self { owner: owner.clone(), request: Some(request), ended: CancellationToken::new() }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.ended.cancel();
        // In the queue of all requests, so that the end never overtakes the beginning.
        if let Some(request) = self.request.take().and_then(|request| self.owner.offer(request))
            // A process that ends has no runtime any more, and no owner.
            && tokio::runtime::Handle::try_current().is_ok()
        {
            let owner = self.owner.clone();
            // An owner that has ended has closed the stream itself.
            self.owner.tasks.spawn("stream-end", async move {
                let _ = owner.send(request).await;
            });
        }
    }
}
