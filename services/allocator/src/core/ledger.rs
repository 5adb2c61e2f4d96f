//! Tasks: live, unreachable, completed. Every accepted task has exactly one entry.

use std::{collections::BTreeMap, sync::Arc};

use meshos_proto::{
    meshos::allocator::v1::TaskPlace,
    mesos::v1::{self as pb, TaskState},
};
use meshos_types::{
    AgentId, FrameworkId, Resources, RoleName, TaskId,
    task_state::{frees_resources, is_terminal},
};

use super::{Core, account::Place, record::Record, remembered::Remembered};

/// A live task: it runs, or it is over and its last update is not acknowledged.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) task: Arc<Record>,
    pub(crate) agent: AgentId,
    pub(crate) role: RoleName,
    /// Not allocated to a role, as the agent's own.
    pub(crate) resources: Resources,
    /// Whether the resources are held; until its first terminal state.
    pub(crate) holds: bool,
}

/// The tasks of one framework.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    pub(crate) live: BTreeMap<TaskId, Entry>,
    /// On agents that are out of contact.
    pub(crate) unreachable: Remembered<TaskId, Arc<Record>>,
    pub(crate) completed: Remembered<TaskId, Arc<Record>>,
}

impl Ledger {
    pub(crate) fn new(max_unreachable: usize, max_completed: usize) -> Self {
        Self {
            live: BTreeMap::new(),
            unreachable: Remembered::new(max_unreachable),
            completed: Remembered::new(max_completed),
        }
    }
}

impl Core {
    /// Enters a task that is not in the ledger's live part. The framework and the agent are known.
    pub(super) fn enter_task(&mut self, framework: &FrameworkId, task_id: TaskId, mut entry: Entry) {
        entry.holds = !frees_resources(entry.task.state());
        let place =
            Place { agent: entry.agent.clone(), framework: framework.clone(), role: entry.role.clone() };
        if entry.holds {
            self.hold_used(&place, &entry.resources);
        }
        if let Some(agent) = self.agents.get_mut(&entry.agent) {
            agent.tasks.insert((framework.clone(), task_id.clone()));
        }
        self.publish_task(Arc::clone(&entry.task), TaskPlace::Live);
        if let Some(known) = self.frameworks.get_mut(framework) {
            self.counters.task_entered(&mut known.figures, entry.task.state());
            known.join_agent(&entry.agent);
            known.ledger.live.insert(task_id, entry);
        }
    }

    /// Changes a live task, and frees its resources at its first terminal state.
    pub(super) fn change_task(
        &mut self,
        framework: &FrameworkId,
        task: &TaskId,
        change: impl FnOnce(&mut Record),
    ) {
        let Some(known) = self.frameworks.get_mut(framework) else { return };
        let Some(entry) = known.ledger.live.get_mut(task) else { return };
        let before = entry.task.state();
        change(Arc::make_mut(&mut entry.task));
        let after = entry.task.state();
        let released = (entry.holds && frees_resources(after)).then(|| {
            entry.holds = false;
            let place =
                Place { agent: entry.agent.clone(), framework: framework.clone(), role: entry.role.clone() };
            (place, entry.resources.clone())
        });
        let task = Arc::clone(&entry.task);
        if before != after {
            self.counters.task_left(&mut known.figures, before);
            self.counters.task_entered(&mut known.figures, after);
        }
        if let Some((place, resources)) = released {
            self.free_used(&place, &resources);
        }
        self.publish_task(task, TaskPlace::Live);
    }

    /// Moves a live task to the completed ones, or to the unreachable ones.
    pub(super) fn retire_task(&mut self, framework: &FrameworkId, task: &TaskId, to: TaskPlace) {
        let Some(entry) = self.take_live(framework, task) else { return };
        self.publish_task_removed(framework, task, TaskPlace::Live);
        self.publish_task(Arc::clone(&entry.task), to);
        let Some(known) = self.frameworks.get_mut(framework) else { return };
        let store = match to {
            TaskPlace::Unreachable => &mut known.ledger.unreachable,
            _ => &mut known.ledger.completed,
        };
        if let Some((forgotten, _)) = store.insert(task.clone(), entry.task) {
            self.publish_task_removed(framework, &forgotten, to);
        }
    }

    /// Takes a task out of the live part, with everything that refers to it.
    fn take_live(&mut self, framework: &FrameworkId, task: &TaskId) -> Option<Entry> {
        let known = self.frameworks.get_mut(framework)?;
        let entry = known.ledger.live.remove(task)?;
        known.leave_agent(&entry.agent);
        self.counters.task_left(&mut known.figures, entry.task.state());
        if let Some(agent) = self.agents.get_mut(&entry.agent) {
            let key = (framework.clone(), task.clone());
            agent.tasks.remove(&key);
            agent.kills.remove(&key);
        }
        if entry.holds {
            let role = entry.role.clone();
            let place = Place { agent: entry.agent.clone(), framework: framework.clone(), role };
            self.free_used(&place, &entry.resources);
        }
        Some(entry)
    }

    /// A status by the leader itself: into the history, and to the framework.
    pub(super) fn judge_task(&mut self, framework: &FrameworkId, mut status: pb::TaskStatus) {
        let task = TaskId::from(&status.task_id);
        self.change_task(framework, &task, |task| {
            status.executor_id = task.executor().map(|id| pb::ExecutorId { value: id.to_owned() });
            // A task that is over keeps how it ended.
            if !is_terminal(task.state()) {
                task.tell(status.state(), status.state, None);
                task.add_status(&status);
            }
        });
        self.count_status(framework, &status);
        self.send(framework, super::events::update(status));
    }

    /// Forgets that a task is unreachable or completed: its agent still has it. Whether it was either.
    pub(super) fn forget_retired(&mut self, framework: &FrameworkId, task: &TaskId) -> bool {
        let Some(known) = self.frameworks.get_mut(framework) else { return false };
        let unreachable = known.ledger.unreachable.remove(task).map(|_| TaskPlace::Unreachable);
        let completed = known.ledger.completed.remove(task).map(|_| TaskPlace::Completed);
        let places: Vec<_> = [unreachable, completed].into_iter().flatten().collect();
        for place in &places {
            self.publish_task_removed(framework, task, *place);
        }
        !places.is_empty()
    }

    /// The state of a live task.
    pub(super) fn live_state(&self, framework: &FrameworkId, task: &TaskId) -> Option<TaskState> {
        Some(self.frameworks.get(framework)?.ledger.live.get(task)?.task.state())
    }
}
