//! What comes into the loop, and what it tells about itself.

use meshos_mesh::FeedStream;
use meshos_proto::{
    meshos::{
        agent::v1::WatchResponse,
        allocator::v1::{AgentMessage, AllocatorMessage, Reregister},
    },
    mesos::v1 as pb,
};
use meshos_types::Resources;
use tokio::sync::{mpsc, oneshot};

use super::{ContainerRequest, ExecutorRequest};
use crate::core::{Input, LiveSandbox, View};

/// What comes into the loop.
#[derive(Debug)]
pub(crate) enum Event {
    Input(Input),
    /// A link is being opened: updates go to `sender` once the allocator has accepted it.
    LinkOpened {
        number: u64,
        sender: mpsc::Sender<AgentMessage>,
        reply: oneshot::Sender<Reregister>,
    },
    LinkClosed {
        number: u64,
    },
    FromAllocator {
        number: u64,
        message: Box<AllocatorMessage>,
    },
    /// An ended container is forgotten, or cannot be.
    Cleaned {
        failed: bool,
    },
    Executor(ExecutorRequest),
    Container(ContainerRequest),
    /// The reader of an executor's event stream is gone.
    ExecutorGone {
        stream: u64,
    },
    Watch(oneshot::Sender<FeedStream<WatchResponse>>),
    View(oneshot::Sender<View>),
    Live {
        with_disks: bool,
        reply: oneshot::Sender<Vec<LiveSandbox>>,
    },
    /// Other resources and attributes; the answer is why not.
    Reconfigure {
        info: Box<pb::AgentInfo>,
        resources: Resources,
        reply: oneshot::Sender<Result<(), String>>,
    },
}

/// What others may want to wait for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Status {
    pub(crate) agent_id: Option<String>,
    pub(crate) linked: bool,
    pub(crate) refused: Option<String>,
    /// Containers that there are, running or not cleaned up.
    pub(crate) live: usize,
}

/// The agent as it presents itself.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) info: pb::AgentInfo,
    pub(crate) version: String,
    pub(crate) endpoint: String,
    pub(crate) capabilities: Vec<pb::agent_info::Capability>,
}
