//! A task and its framework.

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    time::Duration,
};

use meshos_proto::mesos::v1::{self as pb, framework_info::capability::Type as Capability};
use meshos_types::{TaskId, task_state::is_terminal};

use super::updates::Updates;
use crate::checkpoint::Completed;

/// How far a task's container got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Launching,
    Running,
    Ended,
}

/// A task shall end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kill {
    /// When SIGKILL is due.
    pub(super) deadline: Duration,
    /// It was asked for before the process ran.
    pub(super) during_launch: bool,
}

#[derive(Debug)]
pub(super) struct Task {
    pub(super) info: pb::TaskInfo,
    pub(super) container_id: String,
    /// The sandbox.
    pub(super) directory: PathBuf,
    /// W3C trace context of the launch; empty: none.
    pub(super) traceparent: String,
    pub(super) phase: Phase,
    pub(super) pid: Option<u32>,
    pub(super) kill: Option<Kill>,
    /// It ran longer than it may.
    pub(super) overdue: bool,
    /// Its framework is gone: nobody wants to hear of it.
    pub(super) silent: bool,
    pub(super) updates: Updates,
    /// One entry for each consecutive distinct state.
    pub(super) statuses: Vec<pb::TaskStatus>,
}

impl Task {
    pub(super) fn new(
        info: pb::TaskInfo,
        container_id: String,
        directory: PathBuf,
        traceparent: String,
    ) -> Self {
        Self {
            info,
            container_id,
            directory,
            traceparent,
            phase: Phase::Launching,
            pid: None,
            kill: None,
            overdue: false,
            silent: false,
            updates: Updates::default(),
            statuses: Vec::new(),
        }
    }

    /// The newest state.
    pub(super) fn state(&self) -> pb::TaskState {
        self.statuses.last().map_or(pb::TaskState::TaskStaging, pb::TaskStatus::state)
    }

    /// Adds to the history.
    pub(super) fn remember(&mut self, status: &pb::TaskStatus) {
        if self.statuses.last().is_some_and(|last| last.state == status.state) {
            self.statuses.pop();
        }
        self.statuses.push(status.clone());
    }

    pub(super) fn is_over(&self) -> bool {
        is_terminal(self.state())
    }

    /// As the allocator and readers get it.
    pub(super) fn to_proto(&self, framework_id: &str) -> pb::Task {
        let info = &self.info;
        // The update that the framework is at.
        let forwarded = self.updates.oldest().or(self.statuses.last());
        pb::Task {
            name: info.name.clone(),
            task_id: info.task_id.clone(),
            framework_id: pb::FrameworkId { value: framework_id.to_owned() },
            executor_id: None,
            agent_id: info.agent_id.clone(),
            state: self.state() as i32,
            resources: info.resources.clone(),
            statuses: self.statuses.clone(),
            status_update_state: forwarded.map(|status| status.state),
            status_update_uuid: forwarded.and_then(|status| status.uuid.clone()),
            labels: info.labels.clone(),
            discovery: info.discovery.clone(),
            container: info.container.clone(),
            health_check: info.health_check.clone(),
            kill_policy: info.kill_policy,
            user: info.command.as_ref().and_then(|command| command.user.clone()),
            limits: info.limits.clone(),
        }
    }
}

/// Tasks of one framework, and those of the past.
#[derive(Debug)]
pub(super) struct Framework {
    pub(super) info: pb::FrameworkInfo,
    pub(super) tasks: BTreeMap<TaskId, Task>,
    /// Oldest first.
    pub(super) completed: VecDeque<Completed>,
}

impl Framework {
    pub(super) fn new(info: pb::FrameworkInfo) -> Self {
        Self { info, tasks: BTreeMap::new(), completed: VecDeque::new() }
    }

    /// Whether its tasks shall survive the agent.
    pub(super) fn checkpoints(&self) -> bool {
        self.info.checkpoint.unwrap_or_default()
    }

    pub(super) fn can(&self, capability: Capability) -> bool {
        self.info.capabilities.iter().any(|given| given.r#type == Some(capability as i32))
    }
}
