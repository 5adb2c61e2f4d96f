//! The records of the checkpoint.

use meshos_proto::{meshos::allocator::v1::OperationUpdate, mesos::v1 as pb};
use prost::{Message, Oneof};

/// Version of the records.
pub const FORMAT: u32 = 1;

/// One change.
#[derive(Clone, PartialEq, Message)]
pub struct Record {
    #[prost(
        oneof = "Change",
        tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20"
    )]
    pub change: Option<Change>,
}

/// What changed.
#[derive(Clone, PartialEq, Oneof)]
#[allow(clippy::large_enum_variant, reason = "made, encoded, dropped")]
pub enum Change {
    #[prost(message, tag = "1")]
    Header(Header),
    #[prost(message, tag = "2")]
    Agent(Agent),
    /// The newest epoch of an allocator that was obeyed.
    #[prost(uint64, tag = "3")]
    Epoch(u64),
    #[prost(message, tag = "4")]
    Framework(pb::FrameworkInfo),
    #[prost(message, tag = "5")]
    Launch(Launch),
    #[prost(message, tag = "6")]
    Kill(Kill),
    #[prost(message, tag = "7")]
    Update(Update),
    #[prost(message, tag = "8")]
    Acknowledged(Acknowledged),
    /// The task's last update was acknowledged, or nobody wants it.
    #[prost(message, tag = "9")]
    Removed(Key),
    /// A removed task, for the agent's history.
    #[prost(message, tag = "10")]
    Completed(Completed),
    /// An operation changed the agent's resources.
    #[prost(message, tag = "11")]
    Operation(Operation),
    /// The agent as its flags made it.
    #[prost(message, tag = "20")]
    Info(pb::AgentInfo),
    /// The framework knows what became of the operation with this id.
    #[prost(bytes = "bytes", tag = "12")]
    OperationAcknowledged(bytes::Bytes),
    /// An executor was accepted; its framework's id stands in its info.
    #[prost(message, tag = "13")]
    Executor(Executor),
    /// It subscribed for the first time.
    #[prost(message, tag = "14")]
    ExecutorSubscribed(ExecutorKey),
    /// It shall end.
    #[prost(message, tag = "15")]
    ExecutorTerminating(ExecutorKey),
    /// It ended, and is history.
    #[prost(message, tag = "16")]
    ExecutorEnded(Executor),
    /// An executor of the past, for the agent's history.
    #[prost(message, tag = "17")]
    ExecutorCompleted(Executor),
    /// A container of the API was accepted.
    #[prost(message, tag = "18")]
    Nested(Nested),
    /// It ended and was removed; its path.
    #[prost(string, tag = "19")]
    NestedRemoved(String),
}

/// The first record.
#[derive(Clone, PartialEq, Message)]
pub struct Header {
    #[prost(uint32, tag = "1")]
    pub format: u32,
    #[prost(string, tag = "2")]
    pub boot_id: String,
}

/// The agent as the registry admitted it.
#[derive(Clone, PartialEq, Message)]
pub struct Agent {
    #[prost(string, tag = "1")]
    pub id: String,
    /// Unix time, milliseconds.
    #[prost(uint64, tag = "2")]
    pub registered_at_ms: u64,
}

/// Names a task.
#[derive(Clone, PartialEq, Message)]
pub struct Key {
    #[prost(string, tag = "1")]
    pub framework_id: String,
    #[prost(string, tag = "2")]
    pub task_id: String,
}

/// A task was accepted.
#[derive(Clone, PartialEq, Message)]
pub struct Launch {
    #[prost(string, tag = "1")]
    pub framework_id: String,
    #[prost(message, required, tag = "2")]
    pub task: pb::TaskInfo,
    #[prost(string, tag = "3")]
    pub container_id: String,
    #[prost(string, tag = "4")]
    pub directory: String,
    #[prost(string, tag = "5")]
    pub traceparent: String,
    /// Empty: the task is its own executor.
    #[prost(string, tag = "6")]
    pub executor_id: String,
    /// Empty: it came alone.
    #[prost(string, tag = "7")]
    pub group_id: String,
    /// It has a container of its own all the same.
    #[prost(bool, tag = "8")]
    pub is_pod: bool,
}

/// A container that the API launched.
#[derive(Clone, PartialEq, Message)]
pub struct Nested {
    #[prost(message, required, tag = "1")]
    pub container_id: pb::ContainerId,
    #[prost(string, tag = "2")]
    pub directory: String,
}

/// Names an executor.
#[derive(Clone, PartialEq, Message)]
pub struct ExecutorKey {
    #[prost(string, tag = "1")]
    pub framework_id: String,
    #[prost(string, tag = "2")]
    pub executor_id: String,
}

/// An executor that a framework gave.
#[derive(Clone, PartialEq, Message)]
pub struct Executor {
    /// With its framework's id.
    #[prost(message, required, tag = "1")]
    pub info: pb::ExecutorInfo,
    #[prost(string, tag = "2")]
    pub container_id: String,
    #[prost(string, tag = "3")]
    pub directory: String,
}

impl Executor {
    pub(super) fn key(&self) -> (String, String) {
        let framework_id = self.info.framework_id.as_ref().map(|id| id.value.clone()).unwrap_or_default();
        (framework_id, self.info.executor_id.value.clone())
    }
}

/// A task shall end.
#[derive(Clone, PartialEq, Message)]
pub struct Kill {
    #[prost(message, required, tag = "1")]
    pub key: Key,
    #[prost(uint64, tag = "2")]
    pub grace_ms: u64,
}

/// A status update that must reach the framework.
#[derive(Clone, PartialEq, Message)]
pub struct Update {
    #[prost(message, required, tag = "1")]
    pub key: Key,
    #[prost(message, required, tag = "2")]
    pub status: pb::TaskStatus,
}

/// The oldest update of a task reached the framework.
#[derive(Clone, PartialEq, Message)]
pub struct Acknowledged {
    #[prost(message, required, tag = "1")]
    pub key: Key,
    #[prost(bytes = "bytes", tag = "2")]
    pub uuid: bytes::Bytes,
}

/// What an operation led to. It is safe from the end of the machine, too.
#[derive(Clone, PartialEq, Message)]
pub struct Operation {
    #[prost(bytes = "bytes", tag = "1")]
    pub uuid: bytes::Bytes,
    /// All resources of the agent after it.
    #[prost(message, repeated, tag = "2")]
    pub total: Vec<pb::Resource>,
    /// What the framework must be told; absent: nobody asked for it.
    #[prost(message, optional, tag = "3")]
    pub update: Option<OperationUpdate>,
}

/// A task of the past.
#[derive(Clone, PartialEq, Message)]
pub struct Completed {
    #[prost(message, required, tag = "1")]
    pub task: pb::Task,
    #[prost(string, tag = "2")]
    pub container_id: String,
    #[prost(string, tag = "3")]
    pub directory: String,
}

impl From<Change> for Record {
    fn from(change: Change) -> Self {
        Self { change: Some(change) }
    }
}
