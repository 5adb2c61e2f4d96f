//! What goes into the core, and what comes out.

use std::collections::BTreeSet;

use meshos_proto::{
    meshos::{
        allocator::v1::{
            ApplyRequest, Change, ExecutorEnded, FrameworkMessage, OperationUpdate, StatusUpdate,
            UpdateQuotaRequest, allocator_message,
        },
        registry::v1 as registry,
    },
    mesos::v1::{WeightInfo, scheduler},
    packed::Reregister,
};
use meshos_types::{AgentId, FrameworkId};

/// Id of a framework's event stream, a UUID.
pub type StreamId = String;
/// Number of an agent's link, unique within one leader's term.
pub type LinkId = u64;

/// What happens to the core.
#[derive(Clone, Debug)]
pub enum Input {
    /// What the registry remembers of frameworks; the first input of a term.
    FrameworkRecords(Vec<registry::Framework>),
    /// What the registry remembers of roles, after the agents.
    RoleRecords(Vec<registry::Role>),
    /// All admitted agents.
    RegistrySnapshot(Vec<registry::Agent>),
    RegistryChanged(Box<registry::Agent>),
    RegistryRemoved(AgentId),
    /// An agent opened a link and reports what it runs.
    AgentLinked {
        link: LinkId,
        report: Box<Reregister>,
    },
    AgentUnlinked {
        link: LinkId,
    },
    StatusUpdate {
        link: LinkId,
        update: Box<StatusUpdate>,
    },
    /// A SUBSCRIBE call on a new stream.
    Subscribe {
        stream: StreamId,
        call: Box<scheduler::Call>,
    },
    StreamClosed {
        stream: StreamId,
    },
    /// Any other call; `traceparent` is the trace it belongs to, or empty.
    Call {
        stream: StreamId,
        call: Box<scheduler::Call>,
        traceparent: String,
    },
    /// An operator removes a framework.
    Teardown {
        framework: FrameworkId,
    },
    /// An agent carried out an operation on its resources, or could not.
    OperationUpdate {
        link: LinkId,
        update: Box<OperationUpdate>,
    },
    /// An executor has a message for its framework.
    MessageToFramework {
        link: LinkId,
        message: Box<FrameworkMessage>,
    },
    ExecutorEnded {
        link: LinkId,
        ended: ExecutorEnded,
    },
    /// Hosts whose agents are offered; none: all.
    Whitelist(Option<BTreeSet<String>>),
    /// Operators set weights of roles.
    UpdateWeights(Vec<WeightInfo>),
    /// Operators set and remove quotas of roles.
    UpdateQuota(Box<UpdateQuotaRequest>),
    /// An operator changes reservations or volumes of an agent.
    Apply(Box<ApplyRequest>),
    /// Time has passed: see [`super::Core::next_deadline`].
    Tick,
}

/// What the shell has to do, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Events for a framework; `traceparent` is the trace that they belong to, or empty.
    Events { stream: StreamId, events: Vec<scheduler::Event>, traceparent: String },
    /// The stream ends, after the events before this.
    CloseStream { stream: StreamId },
    /// A command for an agent.
    Command { link: LinkId, command: Box<allocator_message::Body> },
    /// The link ends, after the commands before this.
    CloseLink { link: LinkId },
    /// A framework record to be made durable.
    Persist(Box<registry::Framework>),
    /// Settings of roles to be made durable, all together.
    PersistRoles(Vec<registry::Role>),
}

/// Everything that came of the inputs since the last [`super::Core::settle`].
#[derive(Debug, Default)]
pub struct Outcome {
    pub effects: Vec<Effect>,
    /// For readers of Watch.
    pub changes: Vec<Change>,
}

/// Why a call is refused; the text is Mesos's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// HTTP 400.
    #[error("{0}")]
    Invalid(String),
    /// HTTP 403.
    #[error("{0}")]
    Forbidden(String),
    /// HTTP 409.
    #[error("{0}")]
    Conflict(String),
}

impl CallError {
    pub(super) fn invalid(text: impl Into<String>) -> Self {
        Self::Invalid(text.into())
    }
}
