//! The end of frameworks: torn down, or away for too long.

use meshos_proto::{
    meshos::{
        allocator::v1::{ShutdownFramework, TaskPlace, allocator_message::Body},
        registry::v1 as registry,
    },
    mesos::v1::{self as pb, task_status::Reason},
};
use meshos_types::{FrameworkId, TaskId, task_state::is_terminal};

use crate::core::{
    CallError, Core, Effect,
    events::{self, Verdict},
    framework::{Completed, Connection},
    remembered::Remembered,
    timers::Timer,
};

impl Core {
    /// TEARDOWN by an operator.
    pub(crate) fn operator_teardown(&mut self, id: &FrameworkId) -> Result<(), CallError> {
        if !self.frameworks.contains_key(id) {
            return Err(CallError::invalid("No framework found with specified ID"));
        }
        self.remove_framework(id);
        Ok(())
    }

    /// The framework is over: its agents shut it down, its tasks are completed, its id is never used again.
    pub(crate) fn remove_framework(&mut self, id: &FrameworkId) {
        self.deactivate(id);
        self.drop_offers(id);
        self.clear_filters(id);
        self.end_operations(id);
        self.shut_down_on_agents(id);
        self.complete_tasks(id);
        self.end_executors_of(id);
        let Some(framework) = self.frameworks.remove(id) else { return };
        self.shares.forget(id);
        if let Connection::Connected(stream) = &framework.connection {
            self.streams.remove(stream);
            self.effects.push(Effect::CloseStream { stream: stream.clone() });
        }
        if let Some(due) = framework.failover_due_ms {
            self.timers.cancel(due, Timer::Failover(id.clone()));
        }
        self.removed.insert(id.clone());
        // Kept for ever, so as little as will do.
        let info = pb::FrameworkInfo { id: Some(id.to_proto()), ..pb::FrameworkInfo::default() };
        let record = registry::Framework {
            removed: true,
            removed_at_ms: self.now,
            info: Some(info),
            ..framework.record()
        };
        self.effects.push(Effect::Persist(Box::new(record)));
        let completed = Completed {
            info: framework.info,
            registered_at_ms: framework.registered_at_ms,
            reregistered_at_ms: framework.reregistered_at_ms,
            unregistered_at_ms: self.now,
            tasks: framework.ledger.completed,
            figures: framework.figures,
        };
        self.dirty.frameworks.insert(id.clone());
        if let Some((forgotten, _)) = self.completed.insert(id.clone(), completed) {
            self.dirty.frameworks.insert(forgotten);
        }
    }

    fn shut_down_on_agents(&mut self, id: &FrameworkId) {
        let Some(framework) = self.frameworks.get(id) else { return };
        let agents = framework.agents.keys().filter_map(|agent| self.agents.get(agent)?.link);
        for link in agents.collect::<Vec<_>>() {
            let shutdown = ShutdownFramework { framework_id: Some(id.to_proto()) };
            self.command(link, Body::ShutdownFramework(shutdown));
        }
    }

    /// All tasks of a removed framework are killed in the books; nobody is told (Mesos 3.3).
    fn complete_tasks(&mut self, id: &FrameworkId) {
        let Some(framework) = self.frameworks.get_mut(id) else { return };
        let live: Vec<TaskId> = framework.ledger.live.keys().cloned().collect();
        let limit = self.config.max_unreachable_tasks;
        let unreachable = std::mem::replace(&mut framework.ledger.unreachable, Remembered::new(limit));
        for task in live {
            let state = self.live_state(id, &task);
            if !state.is_some_and(is_terminal) {
                self.kill_in_books(id, &task);
            }
            self.retire_task(id, &task, TaskPlace::Completed);
        }
        for (task, record) in unreachable.iter() {
            self.publish_task_removed(id, task, TaskPlace::Unreachable);
            self.publish_task(record.clone(), TaskPlace::Completed);
            let known = self.frameworks.get_mut(id);
            let forgotten =
                known.and_then(|known| known.ledger.completed.insert(task.clone(), record.clone()));
            if let Some((forgotten, _)) = forgotten {
                self.publish_task_removed(id, &forgotten, TaskPlace::Completed);
            }
        }
    }

    fn kill_in_books(&mut self, id: &FrameworkId, task: &TaskId) {
        let message = format!("Framework {id} removed");
        let verdict = Verdict { state: pb::TaskState::TaskKilled, reason: Reason::FrameworkRemoved, message };
        let status = events::status(task, None, &verdict, self.now);
        self.change_task(id, task, |task| {
            let status = pb::TaskStatus { agent_id: Some(task.agent.to_proto()), ..status.clone() };
            // The update before may still be acknowledged.
            let uuid = task.uuid().map(Vec::from);
            task.tell(status.state(), status.state, uuid.as_deref());
            task.add_status(&status);
        });
        self.count_status(id, &status);
    }
}
