//! What the records of a checkpoint add up to.

use indexmap::IndexMap;
use meshos_proto::{meshos::allocator::v1::OperationUpdate, mesos::v1 as pb};

use super::{Agent, Change, Completed, Executor, ExecutorKey, FORMAT, Launch, Nested, Record};

/// A task as the records tell it.
#[derive(Clone, Debug)]
pub struct ReplayedTask {
    pub launch: Launch,
    /// All updates, oldest first.
    pub updates: Vec<pb::TaskStatus>,
    /// How many of them were acknowledged.
    pub acknowledged: usize,
    pub kill_grace_ms: Option<u64>,
}

/// An executor as the records tell it.
#[derive(Clone, Debug)]
pub struct ReplayedExecutor {
    pub executor: Executor,
    pub subscribed: bool,
    pub terminating: bool,
}

/// What the records add up to.
#[derive(Clone, Debug, Default)]
pub struct Replay {
    pub boot_id: String,
    /// What was left out because it could not be read.
    pub errors: u64,
    pub agent: Option<Agent>,
    pub epoch: u64,
    /// The agent as the flags of the process before made it.
    pub info: Option<pb::AgentInfo>,
    /// By id.
    pub frameworks: IndexMap<String, pb::FrameworkInfo>,
    /// By framework and task id, in the order of launch.
    pub tasks: IndexMap<(String, String), ReplayedTask>,
    /// By framework and executor id.
    pub executors: IndexMap<(String, String), ReplayedExecutor>,
    /// Oldest first.
    pub completed_executors: Vec<Executor>,
    /// By path.
    pub nested: IndexMap<String, Nested>,
    /// Oldest first.
    pub completed: Vec<Completed>,
    /// The agent's resources after the last operation.
    pub total: Option<Vec<pb::Resource>>,
    /// What frameworks must still be told of operations, by the operation's id.
    pub operations: IndexMap<bytes::Bytes, OperationUpdate>,
}

impl Replay {
    /// Applies one change.
    ///
    /// # Errors
    /// A format that this version does not know.
    pub fn apply(&mut self, record: Record) -> Result<(), String> {
        match record.change {
            Some(Change::Header(header)) if header.format != FORMAT => {
                return Err(format!("format {} is not {FORMAT}, the one this version reads", header.format));
            }
            Some(Change::Header(header)) => self.boot_id = header.boot_id,
            Some(Change::Agent(agent)) => self.agent = Some(agent),
            Some(Change::Epoch(epoch)) => self.epoch = epoch,
            Some(Change::Info(info)) => self.info = Some(info),
            Some(Change::Framework(info)) => {
                let id = info.id.as_ref().map(|id| id.value.clone()).unwrap_or_default();
                self.frameworks.insert(id, info);
            }
            Some(Change::Launch(launch)) => {
                let key = (launch.framework_id.clone(), launch.task.task_id.value.clone());
                let task = ReplayedTask { launch, updates: Vec::new(), acknowledged: 0, kill_grace_ms: None };
                self.tasks.insert(key, task);
            }
            Some(Change::Operation(operation)) => {
                self.total = Some(operation.total);
                if let Some(update) = operation.update {
                    self.operations.insert(operation.uuid, update);
                }
            }
            Some(Change::Executor(executor)) => {
                let replayed =
                    ReplayedExecutor { executor: executor.clone(), subscribed: false, terminating: false };
                self.executors.insert(executor.key(), replayed);
            }
            Some(Change::ExecutorSubscribed(key)) => {
                self.change_executor(key, |executor| executor.subscribed = true);
            }
            Some(Change::ExecutorTerminating(key)) => {
                self.change_executor(key, |executor| executor.terminating = true);
            }
            Some(Change::ExecutorEnded(executor)) => {
                self.executors.shift_remove(&executor.key());
                self.completed_executors.push(executor);
            }
            Some(Change::ExecutorCompleted(executor)) => self.completed_executors.push(executor),
            Some(Change::Nested(nested)) => {
                self.nested.insert(crate::core::container_path(&nested.container_id), nested);
            }
            Some(Change::NestedRemoved(path)) => drop(self.nested.shift_remove(&path)),
            Some(Change::OperationAcknowledged(uuid)) => drop(self.operations.shift_remove(&uuid)),
            Some(Change::Completed(completed)) => self.completed.push(completed),
            Some(Change::Removed(key)) => drop(self.tasks.shift_remove(&(key.framework_id, key.task_id))),
            Some(change) => self.change_task(change),
            None => return Err("a record of a kind that this version does not know".to_owned()),
        }
        Ok(())
    }

    fn change_executor(&mut self, key: ExecutorKey, change: impl FnOnce(&mut ReplayedExecutor)) {
        if let Some(executor) = self.executors.get_mut(&(key.framework_id, key.executor_id)) {
            change(executor);
        }
    }

    fn change_task(&mut self, change: Change) {
        let key = match &change {
            Change::Kill(kill) => &kill.key,
            Change::Update(update) => &update.key,
            Change::Acknowledged(acknowledged) => &acknowledged.key,
            _ => return,
        };
        let Some(task) = self.tasks.get_mut(&(key.framework_id.clone(), key.task_id.clone())) else { return };
        match change {
            Change::Kill(kill) => task.kill_grace_ms = Some(kill.grace_ms),
            Change::Update(update) => task.updates.push(update.status),
            Change::Acknowledged(_) => task.acknowledged = (task.acknowledged + 1).min(task.updates.len()),
            _ => {}
        }
    }
}
