//! How others reach the owner.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use meshos_mesh::{Env, FeedStream, Tasks};
use meshos_proto::{
    meshos::allocator::v1::{
        AllocatorMessage, Explanation, Reregister, SubscribeResponse, WatchResponse, explain_request::Subject,
    },
    mesos::v1::scheduler::Call,
};
use meshos_types::FrameworkId;
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

use super::Outbox;
use crate::core::{CallError, Input, LinkId, StreamId};

/// What the owner is asked to do.
#[derive(Debug)]
pub(crate) enum Request {
    /// Anything without an answer.
    Input(Input),
    Call {
        input: Input,
        /// The framework that the call removes, and who waits for that to be durable.
        removes: Option<FrameworkId>,
        durable: Option<oneshot::Sender<()>>,
        reply: oneshot::Sender<Result<Point, CallError>>,
    },
    /// A change of what is set for roles.
    SetRoles {
        input: Input,
        /// Told when the change is durable.
        durable: oneshot::Sender<()>,
        reply: oneshot::Sender<Result<Point, CallError>>,
    },
    Subscribe {
        stream: StreamId,
        call: Box<Call>,
        events: Outbox<SubscribeResponse>,
        reply: oneshot::Sender<Result<Point, CallError>>,
    },
    StreamClosed {
        stream: StreamId,
    },
    Link {
        link: LinkId,
        report: Box<Reregister>,
        commands: Outbox<AllocatorMessage>,
    },
    Unlink {
        link: LinkId,
    },
    Watch {
        reply: oneshot::Sender<FeedStream<WatchResponse>>,
    },
    Metrics {
        reply: oneshot::Sender<BTreeMap<String, f64>>,
    },
    Explain {
        subject: Subject,
        /// None: there is no such framework or role.
        reply: oneshot::Sender<Option<Vec<Explanation>>>,
    },
}

/// Where Watch stands: it shows this, or something later.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    pub(crate) epoch: u64,
    pub(crate) revision: u64,
}

/// Reaches the owner of one term; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct OwnerHandle {
    requests: mpsc::Sender<Request>,
    links: Arc<AtomicU64>,
    /// Tasks of the term.
    pub(crate) tasks: Tasks,
}

/// The owner has ended: the term is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended;

impl From<Ended> for Status {
    fn from(Ended: Ended) -> Self {
        not_leading()
    }
}

/// What a standby answers.
pub(crate) fn not_leading() -> Status {
    Status::unavailable("not leading")
}

impl OwnerHandle {
    /// A handle, and where its requests arrive.
    pub(crate) fn new(env: &Env, capacity: usize) -> (Self, mpsc::Receiver<Request>) {
        let (requests, receiver) = mpsc::channel(capacity);
        (Self { requests, links: Arc::new(AtomicU64::new(1)), tasks: env.tasks.clone() }, receiver)
    }

    /// Number of a new link.
    pub(crate) fn next_link(&self) -> LinkId {
        self.links.fetch_add(1, Ordering::Relaxed)
    }

    /// Waits for room in the queue.
    pub(crate) async fn send(&self, request: Request) -> Result<(), Ended> {
        self.requests.send(request).await.map_err(|_| Ended)
    }

    /// Hands in a request if there is room in the queue, and gives it back if there is none.
    pub(crate) fn offer(&self, request: Request) -> Option<Request> {
        match self.requests.try_send(request) {
            Err(mpsc::error::TrySendError::Full(request)) => Some(request),
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => None,
        }
    }

    /// Sends a request and waits for its answer.
    pub(crate) async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Result<T, Ended> {
        let (reply, answer) = oneshot::channel();
        self.send(request(reply)).await?;
        answer.await.map_err(|_| Ended)
    }

    /// Mesos's metrics; empty when the term is over.
    pub(crate) async fn metrics(&self) -> BTreeMap<String, f64> {
        self.ask(|reply| Request::Metrics { reply }).await.unwrap_or_default()
    }
}
