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
        AllocatorMessage, Explanation, SubscribeResponse, WatchResponse, explain_request::Subject,
    },
    mesos::v1::scheduler::Call,
    packed::Reregister,
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
    /// Calls of frameworks, in order; answered together.
    Calls {
        calls: Vec<QueuedCall>,
        /// What they cost together, where a simple input costs 1.
        cost: usize,
        reply: oneshot::Sender<(Point, Vec<CallAnswer>)>,
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
        /// Told when the owner has taken it: what the agent says then comes after it.
        taken: oneshot::Sender<()>,
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

impl Request {
    /// How much it costs, where a simple input costs 1.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Calls { cost, .. } => *cost,
            _ => 1,
        }
    }
}

/// A framework's call.
#[derive(Debug)]
pub(crate) struct QueuedCall {
    /// Its caller's.
    pub(crate) number: u64,
    pub(crate) stream: StreamId,
    pub(crate) call: Box<Call>,
    pub(crate) traceparent: String,
}

/// What became of it.
#[derive(Debug)]
pub(crate) struct CallAnswer {
    pub(crate) number: u64,
    pub(crate) result: Result<(), CallError>,
    /// Of a call that removed its framework: told when that is durable.
    pub(crate) durable: Option<oneshot::Receiver<()>>,
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
    /// Of agents' links alone: when all come at once, nobody else waits behind them.
    openings: mpsc::Sender<Request>,
    links: Arc<AtomicU64>,
    /// Tasks of the term.
    pub(crate) tasks: Tasks,
}

/// Reports of agents that may wait for the owner; further ones wait at their connections.
const OPENINGS: usize = 64;

/// Where requests arrive.
#[derive(Debug)]
pub(crate) struct Arrivals {
    pub(super) others: mpsc::Receiver<Request>,
    pub(super) links: mpsc::Receiver<Request>,
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
    pub(crate) fn new(env: &Env, capacity: usize) -> (Self, Arrivals) {
        let (requests, others) = mpsc::channel(capacity);
        let (openings, links) = mpsc::channel(OPENINGS);
        let handle =
            Self { requests, openings, links: Arc::new(AtomicU64::new(1)), tasks: env.tasks.clone() };
        (handle, Arrivals { others, links })
    }

    /// Opens a link; returns once the owner has taken the report.
    pub(crate) async fn open(
        &self,
        request: impl FnOnce(oneshot::Sender<()>) -> Request,
    ) -> Result<(), Ended> {
        let (taken, answer) = oneshot::channel();
        self.openings.send(request(taken)).await.map_err(|_| Ended)?;
        answer.await.map_err(|_| Ended)
    }

    /// Number of a new link.
    pub(crate) fn next_link(&self) -> LinkId {
        self.links.fetch_add(1, Ordering::Relaxed)
    }

    /// Waits for the end of the owner.
    pub(crate) async fn ended(&self) {
        self.requests.closed().await;
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
