//! The life of frameworks apart from SUBSCRIBE: recovery, disconnection, removal.

mod removal;

use meshos_proto::{
    meshos::registry::v1 as registry,
    mesos::v1::{self as pb, scheduler},
};
use meshos_types::{FrameworkId, Quantities};

use super::{
    Core, Effect, StreamId,
    framework::{Connection, Framework, roles_of},
    ledger::Ledger,
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
            touched: false,
            usage_changed: false,
            agents: std::collections::BTreeMap::new(),
            used: Quantities::new(),
            offered: Quantities::new(),
            filters: super::filters::Filters::default(),
            constraints: super::constraints::Constraints::default(),
            asked_constraints: None,
            tallies: std::collections::BTreeMap::new(),
            figures: Box::default(),
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
        let Some(known) = self.frameworks.get_mut(framework) else { return };
        let Some(stream) = known.stream().cloned() else { return };
        known.figures.events.up(event.r#type());
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
            self.set_active(&role, id, false);
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
}
