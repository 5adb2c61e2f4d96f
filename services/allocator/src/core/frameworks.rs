//! The life of frameworks apart from SUBSCRIBE: recovery, disconnection, removal.

use meshos_proto::{
    meshos::{
        allocator::v1::{ShutdownFramework, TaskPlace, allocator_message::Body},
        registry::v1 as registry,
    },
    mesos::v1::{self as pb, scheduler, task_status::Reason},
};
use meshos_types::{FrameworkId, Quantities, TaskId, task_state::is_terminal};

use super::{
    CallError, Core, Effect, StreamId,
    events::{self, Verdict},
    framework::{Completed, Connection, Framework, roles_of},
    ledger::{Ledger, add_status},
    remembered::Remembered,
    timers::Timer,
};

impl Core {
    /// What the registry remembers, at the begin of a term.
    pub(super) fn load_frameworks(&mut self, records: Vec<registry::Framework>) {
        for record in records {
            let Some(info) = record.info.clone() else { continue };
            let Some(id) = info.id.as_ref().map(FrameworkId::from) else { continue };
            if record.removed {
                self.removed.insert(id);
                continue;
            }
            let mut framework = self.new_framework(&id, info);
            framework.registered_at_ms = record.registered_at_ms;
            framework.disconnected_at_ms = record.disconnected_at_ms;
            // A framework that was connected must first notice that the leader changed; one that was away has
            // used up part of its time.
            let timeout = framework.failover_timeout_ms();
            let due = match record.disconnected_at_ms {
                0 => self.now.saturating_add(timeout.max(self.config.comeback_ms)),
                since => since.saturating_add(timeout),
            };
            framework.failover_due_ms = Some(due);
            framework.persisted = Some(record);
            self.timers.set(due, Timer::Failover(id.clone()));
            self.dirty.frameworks.insert(id.clone());
            self.frameworks.insert(id, framework);
        }
    }

    /// A framework that only an agent knows of: its record was never written.
    pub(super) fn recover_framework(&mut self, info: pb::FrameworkInfo) {
        let Some(id) = info.id.as_ref().map(FrameworkId::from) else { return };
        let mut framework = self.new_framework(&id, info);
        let due = self.now.saturating_add(framework.failover_timeout_ms().max(self.config.comeback_ms));
        framework.failover_due_ms = Some(due);
        self.timers.set(due, Timer::Failover(id.clone()));
        self.dirty.frameworks.insert(id.clone());
        self.frameworks.insert(id.clone(), framework);
        self.persist(&id);
    }

    /// A framework that has not subscribed.
    pub(super) fn new_framework(&self, id: &FrameworkId, mut info: pb::FrameworkInfo) -> Framework {
        info.id = Some(id.to_proto());
        Framework {
            roles: roles_of(&info),
            info,
            suppressed: std::collections::BTreeSet::new(),
            connection: Connection::Recovered,
            registered_at_ms: self.now,
            reregistered_at_ms: 0,
            disconnected_at_ms: 0,
            failover_due_ms: None,
            ledger: Ledger::new(self.config.max_unreachable_tasks, self.config.max_completed_tasks),
            offers: std::collections::BTreeSet::new(),
            agents: std::collections::BTreeMap::new(),
            used: Quantities::new(),
            offered: Quantities::new(),
            filters: super::filters::Filters::default(),
            constraints: super::constraints::Constraints::default(),
            tallies: std::collections::BTreeMap::new(),
            operations: std::collections::BTreeMap::new(),
            unanswered: super::framework::Unanswered::default(),
            persisted: None,
        }
    }

    /// Tells the registry what to remember, if that has changed.
    pub(super) fn persist(&mut self, id: &FrameworkId) {
        let Some(framework) = self.frameworks.get_mut(id) else { return };
        let record = framework.record();
        if framework.persisted.as_ref() != Some(&record) {
            framework.persisted = Some(record.clone());
            self.effects.push(Effect::Persist(Box::new(record)));
        }
    }

    /// An event for a framework, if it is connected.
    pub(super) fn send(&mut self, framework: &FrameworkId, event: scheduler::Event) {
        self.send_traced(framework, event, String::new());
    }

    /// An event that belongs to a trace.
    pub(super) fn send_traced(
        &mut self,
        framework: &FrameworkId,
        event: scheduler::Event,
        traceparent: String,
    ) {
        let Some(stream) = self.frameworks.get(framework).and_then(Framework::stream) else { return };
        let stream = stream.clone();
        self.send_on(stream, event, traceparent);
    }

    /// An event on a stream; events that follow each other go together.
    pub(super) fn send_on(&mut self, stream: StreamId, event: scheduler::Event, traceparent: String) {
        if let Some(Effect::Events { stream: last, events, traceparent: same }) = self.effects.last_mut()
            && *last == stream
            && *same == traceparent
        {
            events.push(event);
            return;
        }
        self.effects.push(Effect::Events { stream, events: vec![event], traceparent });
    }

    /// The framework's stream has ended.
    pub(super) fn stream_closed(&mut self, stream: &StreamId) {
        let Some(id) = self.streams.remove(stream) else { return };
        let now = self.now;
        let Some(framework) = self.frameworks.get_mut(&id) else { return };
        framework.connection = Connection::Disconnected;
        framework.disconnected_at_ms = now;
        let timeout = framework.failover_timeout_ms();
        self.deactivate(&id);
        self.drop_offers(&id);
        self.clear_filters(&id);
        self.dirty.frameworks.insert(id.clone());
        if timeout == 0 {
            return self.remove_framework(&id);
        }
        let due = now.saturating_add(timeout);
        if let Some(framework) = self.frameworks.get_mut(&id) {
            framework.failover_due_ms = Some(due);
        }
        self.timers.set(due, Timer::Failover(id.clone()));
        self.persist(&id);
    }

    pub(super) fn failover_expired(&mut self, id: &FrameworkId, due: u64) {
        let waits =
            |framework: &Framework| framework.failover_due_ms == Some(due) && !framework.is_connected();
        if self.frameworks.get(id).is_some_and(waits) {
            self.remove_framework(id);
        }
    }

    /// No more offers for any role.
    pub(super) fn deactivate(&mut self, id: &FrameworkId) {
        let Some(framework) = self.frameworks.get(id) else { return };
        for role in framework.roles.clone() {
            self.shares.set_active(&role, id, false);
        }
    }

    /// Takes back all offers; nobody hears of it.
    pub(super) fn drop_offers(&mut self, id: &FrameworkId) {
        let Some(framework) = self.frameworks.get(id) else { return };
        for offer in framework.offers.clone() {
            self.take_offer(&offer);
        }
    }

    pub(super) fn clear_filters(&mut self, id: &FrameworkId) {
        let Some(framework) = self.frameworks.get_mut(id) else { return };
        let cleared = framework.filters.clear(|_| true);
        self.cancel_filters(id, cleared);
    }

    /// TEARDOWN by an operator.
    pub(super) fn operator_teardown(&mut self, id: &FrameworkId) -> Result<(), CallError> {
        if !self.frameworks.contains_key(id) {
            return Err(CallError::invalid("No framework found with specified ID"));
        }
        self.remove_framework(id);
        Ok(())
    }

    /// The framework is over: its agents shut it down, its tasks are completed, its id is never used again.
    pub(super) fn remove_framework(&mut self, id: &FrameworkId) {
        self.deactivate(id);
        self.drop_offers(id);
        self.clear_filters(id);
        self.end_operations(id);
        self.shut_down_on_agents(id);
        self.complete_tasks(id);
        let Some(framework) = self.frameworks.remove(id) else { return };
        if let Connection::Connected(stream) = &framework.connection {
            self.streams.remove(stream);
            self.effects.push(Effect::CloseStream { stream: stream.clone() });
        }
        if let Some(due) = framework.failover_due_ms {
            self.timers.cancel(due, Timer::Failover(id.clone()));
        }
        self.removed.insert(id.clone());
        let record = registry::Framework { removed: true, removed_at_ms: self.now, ..framework.record() };
        self.effects.push(Effect::Persist(Box::new(record)));
        let completed = Completed {
            info: framework.info,
            registered_at_ms: framework.registered_at_ms,
            reregistered_at_ms: framework.reregistered_at_ms,
            unregistered_at_ms: self.now,
            tasks: framework.ledger.completed,
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
            if let Some(framework) = self.frameworks.get_mut(id) {
                framework.ledger.completed.insert(task.clone(), record.clone());
            }
        }
    }

    fn kill_in_books(&mut self, id: &FrameworkId, task: &TaskId) {
        let message = format!("Framework {id} removed");
        let verdict = Verdict { state: pb::TaskState::TaskKilled, reason: Reason::FrameworkRemoved, message };
        let status = events::status(task, None, &verdict, self.now);
        self.change_task(id, task, |task| {
            let status = pb::TaskStatus { agent_id: Some(task.agent_id.clone()), ..status.clone() };
            task.state = status.state;
            task.status_update_state = Some(status.state);
            add_status(task, &status);
        });
        self.counters.status(&status);
    }
}
