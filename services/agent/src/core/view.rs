//! The state as others see it: the allocator at re-registration, and readers.

use std::path::PathBuf;

use meshos_proto::{
    meshos::allocator::v1::Reregister,
    mesos::v1::{self as pb, TaskState},
};

use meshos_types::{Format, Resources, secrets::executor_without_secrets};

use super::{Core, ExecutorState, Phase, TaskKey, ViewNested, executor::Executor, task::Task};
use crate::checkpoint::{self, Completed};

/// Since this agent process started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    pub finished: u64,
    pub failed: u64,
    pub killed: u64,
    pub lost: u64,
    pub gone: u64,
    pub updates: u64,
    pub sent_updates: u64,
    pub launch_errors: u64,
    /// Containers that could not be forgotten.
    pub destroy_errors: u64,
    /// Messages of frameworks that executors got, and those that none did.
    pub messages: u64,
    pub lost_messages: u64,
    /// Updates of executors that are of no task of theirs, or of one that has ended.
    pub invalid_updates: u64,
    /// What of the checkpoint could not be read.
    pub recovery_errors: u64,
    pub ended: u64,
}

impl Counters {
    pub(super) fn count(&mut self, state: TaskState) {
        self.updates += 1;
        let counter = match state {
            TaskState::TaskFinished => &mut self.finished,
            TaskState::TaskFailed => &mut self.failed,
            TaskState::TaskKilled => &mut self.killed,
            TaskState::TaskLost | TaskState::TaskDropped => &mut self.lost,
            TaskState::TaskGone => &mut self.gone,
            _ => return,
        };
        *counter += 1;
        self.ended += 1;
    }
}

/// A copy of the state for readers.
#[derive(Clone, Debug, Default)]
pub struct View {
    pub agent_id: Option<String>,
    pub frameworks: Vec<ViewFramework>,
    /// Containers of the API.
    pub nested: Vec<ViewNested>,
    /// What the agent has, with all operations applied.
    pub total: Resources,
    /// The agent as others know it, without its id.
    pub info: pb::AgentInfo,
    pub counters: Counters,
    pub linked: bool,
}

/// A framework and its tasks.
#[derive(Clone, Debug)]
pub struct ViewFramework {
    pub info: pb::FrameworkInfo,
    pub tasks: Vec<ViewTask>,
    /// Those that the framework gave.
    pub executors: Vec<ViewExecutor>,
    /// Oldest first.
    pub completed_executors: Vec<checkpoint::Executor>,
    /// Oldest first.
    pub completed: Vec<Completed>,
}

impl ViewFramework {
    /// Whether it is more than history.
    #[must_use]
    pub fn is_live(&self) -> bool {
        !self.tasks.is_empty() || !self.executors.is_empty()
    }
}

/// An executor that has not ended.
#[derive(Clone, Debug)]
pub struct ViewExecutor {
    pub info: pb::ExecutorInfo,
    pub container_id: String,
    pub directory: PathBuf,
    /// Absent: it has no process yet, or the agent plays it.
    pub pid: Option<u32>,
    /// Empty: the node's own.
    pub networks: Vec<pb::NetworkInfo>,
    pub state: ExecutorState,
}

/// A task that is not history yet.
#[derive(Clone, Debug)]
pub struct ViewTask {
    pub task: pb::Task,
    /// As Mesos names the executor that it makes for a command.
    pub command: Option<pb::CommandInfo>,
    pub container_id: String,
    /// As others know it: below its executor's, if it has one.
    pub container: pb::ContainerId,
    pub directory: PathBuf,
    pub pid: Option<u32>,
    /// Empty: the node's own.
    pub networks: Vec<pb::NetworkInfo>,
    pub phase: Phase,
    /// Whether its container is its own, and not that of an executor.
    pub has_container: bool,
}

impl ViewTask {
    /// Whether nobody has begun to run it: its executor has not heard of it, or its files are not there yet.
    #[must_use]
    pub fn is_queued(&self) -> bool {
        let staging = self.task.state == TaskState::TaskStaging as i32;
        self.phase == Phase::Launching && (!self.has_container || staging)
    }
}

impl Core {
    /// Everything that this agent runs, for the leading allocator.
    #[must_use]
    pub fn reregister(&self) -> Reregister {
        let with_tasks = || self.frameworks.iter().filter(|(_, framework)| !framework.is_idle());
        let tasks = with_tasks().flat_map(|(id, framework)| {
            framework.tasks.values().map(|task| task.to_proto(id.as_str())).collect::<Vec<_>>()
        });
        Reregister {
            frameworks: with_tasks().map(|(_, framework)| framework.info.clone()).collect(),
            tasks: tasks.collect(),
            highest_epoch: self.epoch,
            registered_at_ms: self.registered_at_ms,
            total: self.total.to_proto(Format::PostRefinement),
            operations: self.operations.waiting(),
            executors: with_tasks()
                .flat_map(|(_, framework)| framework.executors.values().map(|executor| executor.info.clone()))
                .collect(),
            ..Reregister::default()
        }
    }

    /// A container could not be forgotten.
    pub fn count_destroy_error(&mut self) {
        self.counters.destroy_errors += 1;
    }

    /// Whether the allocator has accepted the link.
    #[must_use]
    pub fn is_linked(&self) -> bool {
        self.linked
    }

    /// A copy for readers.
    #[must_use]
    pub fn view(&self) -> View {
        let frameworks = self.frameworks.iter().map(|(id, framework)| ViewFramework {
            info: framework.info.clone(),
            tasks: framework.tasks.values().map(|task| view_task(id.as_str(), task)).collect(),
            executors: framework.executors.values().map(view_executor).collect(),
            completed_executors: framework.completed_executors.iter().map(view_past).collect(),
            completed: framework.completed.iter().cloned().collect(),
        });
        View {
            agent_id: self.agent_id.as_ref().map(|id| id.to_string()),
            frameworks: frameworks.collect(),
            nested: self.view_nested(),
            total: self.total.clone(),
            info: self.settings.agent_info.clone(),
            counters: self.counters,
            linked: self.linked,
        }
    }

    /// One task as readers see it.
    #[must_use]
    pub fn task_proto(&self, key: &TaskKey) -> Option<pb::Task> {
        self.task(key).map(|task| task.to_proto(key.framework_id.as_str()))
    }

    /// All tasks as readers see them.
    #[must_use]
    pub fn task_protos(&self) -> Vec<pb::Task> {
        self.keys().iter().filter_map(|key| self.task_proto(key)).collect()
    }
}

fn view_task(framework_id: &str, task: &Task) -> ViewTask {
    ViewTask {
        task: task.to_proto(framework_id),
        command: task.info.command.clone(),
        container_id: task.container_id.clone(),
        container: task.container(),
        directory: task.directory.clone(),
        pid: task.pid,
        networks: task.networks.clone(),
        phase: task.phase,
        has_container: task.home.has_container(),
    }
}

fn view_past(executor: &checkpoint::Executor) -> checkpoint::Executor {
    let executor = executor.clone();
    checkpoint::Executor { info: executor_without_secrets(executor.info), ..executor }
}

fn view_executor(executor: &Executor) -> ViewExecutor {
    ViewExecutor {
        info: executor_without_secrets(executor.info.clone()),
        container_id: executor.container_id.clone(),
        directory: executor.directory.clone(),
        pid: executor.pid,
        networks: executor.networks.clone(),
        state: executor.state,
    }
}
