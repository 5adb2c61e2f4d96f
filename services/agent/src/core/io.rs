//! What goes into the core, and what comes out of it.

use std::path::PathBuf;

use meshos_proto::{
    meshos::allocator::v1::{
        AllocatorMessage, ExecutorEnded, FrameworkMessage, OperationUpdate, StatusUpdate,
    },
    mesos::v1::{self as pb, executor::Event},
};
use meshos_types::{AgentId, Resources};

use super::{Limitation, TaskKey, Which};
use crate::{
    checkpoint::Record,
    containerizer::{ContainerSpec, Exit, Limits, NetworkStatus, Probe, ProbeOutcome},
};

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// The registry admitted the agent.
    Registered(AgentId),
    /// The link to the allocator broke, or another is being opened.
    LinkDown,
    /// From the leader that the agent is linked to.
    Allocator(Box<AllocatorMessage>),
    /// A container is reached there; comes before [`Input::Launched`].
    Addressed {
        container_id: String,
        network: NetworkStatus,
    },
    /// Everything that a container [needs first](ContainerSpec::needs_files) is there; comes before
    /// [`Input::Launched`].
    Fetched {
        container_id: String,
    },
    Launched {
        container_id: String,
        pid: u32,
    },
    LaunchFailed {
        container_id: String,
        reason: String,
    },
    Exited {
        container_id: String,
        exit: Exit,
    },
    /// What an [`Effect::Probe`] found.
    Probed {
        container_id: String,
        which: Which,
        outcome: ProbeOutcome,
    },
    /// What an [`Effect::Provide`] came to; the error is why it failed.
    Provided {
        container_id: String,
        number: u64,
        error: Option<String>,
    },
    /// A container took more than it may.
    LimitExceeded {
        container_id: String,
        limitation: Limitation,
    },
    /// The agent has other resources and attributes; see [`can_become`](super::Core::can_become).
    Reconfigure {
        info: Box<pb::AgentInfo>,
        resources: Resources,
    },
    /// The time of [`next_timer`](super::Core::next_timer) has come.
    Timer,
    /// End all tasks: the node stops.
    Shutdown,
}

/// What to do, in this order.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Must be durable before any later effect is carried out.
    Record(Box<Record>),
    Launch(Box<ContainerSpec>),
    /// Look whether a container does its work; [`Input::Probed`] answers.
    Probe {
        which: Which,
        probe: Box<Probe>,
    },
    /// Bring volumes into the sandbox of a container that is there; [`Input::Provided`] answers.
    Provide {
        number: u64,
        spec: Box<ContainerSpec>,
    },
    /// Stop the launch of a container that has not started yet; it then fails.
    Abandon {
        container_id: String,
    },
    Signal {
        container_id: String,
        signal: i32,
    },
    /// Forget an ended container.
    Cleanup {
        container_id: String,
    },
    Send(Box<StatusUpdate>),
    SendOperation(Box<OperationUpdate>),
    /// Best effort.
    SendMessage(Box<FrameworkMessage>),
    /// Best effort: a re-registration tells what there is.
    SendExecutorEnded(Box<ExecutorEnded>),
    /// To the executor that reads this stream.
    ToExecutor {
        stream: u64,
        event: Box<Event>,
    },
    /// After what was sent there.
    CloseExecutor {
        stream: u64,
    },
    /// Those who wait for the end of this container are told; how it ended, where that is known.
    ContainerEnded {
        path: String,
        exit: Option<Exit>,
    },
    /// A running container may use more or less from now on.
    Resize {
        container_id: String,
        limits: Limits,
    },
    /// A persistent volume was created.
    MakeVolume(PathBuf),
    /// A persistent volume was destroyed: its content goes. `is_mount`: the directory itself stays, it is a
    /// disk's root.
    RemoveVolume {
        path: PathBuf,
        is_mount: bool,
    },
    /// The task is new or differs.
    Changed(TaskKey),
    /// The task is gone, but for the history.
    Removed(TaskKey),
    /// The others must know the agent anew.
    Reannounce(Box<pb::AgentInfo>),
    /// What ran in this sandbox has ended: it may be removed when its time has come.
    Collect(PathBuf),
    /// This sandbox is no longer part of the history.
    Detach(PathBuf),
    /// The allocator does not want this link.
    LinkRefused(String),
}
