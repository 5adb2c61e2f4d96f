//! A task and its framework.

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    time::Duration,
};

use meshos_proto::mesos::v1::{self as pb, framework_info::capability::Type as Capability};
use meshos_types::{
    ExecutorId, FrameworkId, TaskId,
    secrets::{check_without_secrets, without_secrets},
    task_state::is_terminal,
};

use super::{Limitation, checks::Checks, executor::Executor, updates::Updates};
use crate::checkpoint::{self, Completed};

/// States of a task that are remembered; in between some are left out.
const HISTORY: usize = 64;

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

/// Where a task runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Home {
    /// In a container of its own; it is its own executor.
    Own,
    /// In the container of an executor, which is told to run it.
    Executor { id: ExecutorId, group: Option<String> },
    /// In a container of its own, in the sandbox of an executor that the agent plays.
    Pod {
        id: ExecutorId,
        group: String,
        /// The executor's container.
        parent: String,
    },
}

impl Home {
    /// The executor that its framework gave.
    pub(super) fn executor(&self) -> Option<&ExecutorId> {
        match self {
            Self::Own => None,
            Self::Executor { id, .. } | Self::Pod { id, .. } => Some(id),
        }
    }

    /// The task group that it came in.
    pub(super) fn group(&self) -> Option<&str> {
        match self {
            Self::Own => None,
            Self::Executor { group, .. } => group.as_deref(),
            Self::Pod { group, .. } => Some(group),
        }
    }

    /// Whether the agent starts and ends its process.
    pub(super) fn has_container(&self) -> bool {
        !matches!(self, Self::Executor { .. })
    }
}

#[derive(Debug)]
pub(super) struct Task {
    pub(super) info: pb::TaskInfo,
    pub(super) home: Home,
    pub(super) container_id: String,
    /// The sandbox.
    pub(super) directory: PathBuf,
    /// W3C trace context of the launch; empty: none.
    pub(super) traceparent: String,
    pub(super) phase: Phase,
    pub(super) pid: Option<u32>,
    /// Empty: the node's own.
    pub(super) networks: Vec<pb::NetworkInfo>,
    pub(super) kill: Option<Kill>,
    /// It ran longer than it may.
    pub(super) overdue: bool,
    /// Its framework is gone: nobody wants to hear of it.
    pub(super) silent: bool,
    /// The limit that it ran into.
    pub(super) limitation: Option<Limitation>,
    pub(super) checks: Checks,
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
        let checks = Checks::new(&info);
        Self {
            info,
            home: Home::Own,
            container_id,
            directory,
            traceparent,
            phase: Phase::Launching,
            pid: None,
            networks: Vec::new(),
            kill: None,
            overdue: false,
            silent: false,
            limitation: None,
            checks,
            updates: Updates::default(),
            statuses: Vec::new(),
        }
    }

    /// The executor as frameworks know it: a task without one is its own.
    pub(super) fn executor_id(&self) -> &str {
        self.home.executor().map_or(self.info.task_id.value.as_str(), ExecutorId::as_str)
    }

    /// The container as others know it.
    pub(super) fn container(&self) -> pb::ContainerId {
        let parent = match &self.home {
            Home::Pod { parent, .. } => {
                Some(Box::new(pb::ContainerId { value: parent.clone(), parent: None }))
            }
            Home::Own | Home::Executor { .. } => None,
        };
        pb::ContainerId { value: self.container_id.clone(), parent }
    }

    /// Whether this update was taken before, as far as it is remembered.
    pub(super) fn knows_update(&self, uuid: &[u8]) -> bool {
        let known = |status: &pb::TaskStatus| status.uuid.as_deref() == Some(uuid);
        self.updates.iter().any(known) || self.statuses.iter().any(known)
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
        if self.statuses.len() > HISTORY {
            self.statuses.remove(HISTORY / 2);
        }
    }

    pub(super) fn is_over(&self) -> bool {
        is_terminal(self.state())
    }

    /// As it is written down.
    pub(super) fn record(&self, framework_id: &FrameworkId) -> checkpoint::Launch {
        checkpoint::Launch {
            framework_id: framework_id.to_string(),
            task: self.info.clone(),
            container_id: self.container_id.clone(),
            directory: self.directory.display().to_string(),
            traceparent: self.traceparent.clone(),
            executor_id: self.home.executor().map(ToString::to_string).unwrap_or_default(),
            group_id: self.home.group().map(str::to_owned).unwrap_or_default(),
            is_pod: matches!(self.home, Home::Pod { .. }),
        }
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
            executor_id: self.home.executor().map(Into::into),
            agent_id: info.agent_id.clone(),
            state: self.state() as i32,
            resources: info.resources.clone(),
            statuses: self.statuses.clone(),
            status_update_state: forwarded.map(|status| status.state),
            status_update_uuid: forwarded.and_then(|status| status.uuid.clone()),
            labels: info.labels.clone(),
            discovery: info.discovery.clone(),
            container: info.container.clone().map(without_secrets),
            health_check: info.health_check.clone().map(check_without_secrets),
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
    pub(super) executors: BTreeMap<ExecutorId, Executor>,
    /// Oldest first.
    pub(super) completed_executors: VecDeque<checkpoint::Executor>,
    /// Oldest first.
    pub(super) completed: VecDeque<Completed>,
}

impl Framework {
    pub(super) fn new(info: pb::FrameworkInfo) -> Self {
        Self {
            info,
            tasks: BTreeMap::new(),
            executors: BTreeMap::new(),
            completed_executors: VecDeque::new(),
            completed: VecDeque::new(),
        }
    }

    /// One of which only the id is known.
    pub(super) fn unknown(id: &FrameworkId) -> Self {
        let id = Some(id.into());
        Self::new(pb::FrameworkInfo { id, checkpoint: Some(true), ..pb::FrameworkInfo::default() })
    }

    /// Sandboxes of ended executors, and of tasks that were their own.
    pub(super) fn past_sandboxes(&self) -> Vec<PathBuf> {
        let own = self.completed.iter().filter(|completed| completed.task.executor_id.is_none());
        let own = own.map(|completed| &completed.directory);
        own.chain(self.completed_executors.iter().map(|executor| &executor.directory))
            .map(PathBuf::from)
            .collect()
    }

    /// Whether it is history only.
    pub(super) fn is_idle(&self) -> bool {
        self.tasks.is_empty() && self.executors.is_empty()
    }

    /// Whether its tasks shall survive the agent.
    pub(super) fn checkpoints(&self) -> bool {
        self.info.checkpoint.unwrap_or_default()
    }

    pub(super) fn can(&self, capability: Capability) -> bool {
        self.info.capabilities.iter().any(|given| given.r#type == Some(capability as i32))
    }
}
