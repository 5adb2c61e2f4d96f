//! What readers of Watch see: a snapshot, then changes.

use std::collections::BTreeSet;

use meshos_proto::{
    meshos::{
        allocator::v1::{
            Agent as AgentView, Change, Framework as FrameworkView, Master, Snapshot, Task, TaskKey,
            TaskPlace, change::Body,
        },
        registry::v1::AgentState,
    },
    mesos::v1 as pb,
};
use meshos_types::{
    AgentId, Format, FrameworkId, OfferId, Quantities, Resource, Resources, RoleName, TaskId,
};

use super::{
    Core,
    agent::Agent,
    framework::{Completed, Connection, Framework},
};

/// What has changed since the last time.
#[derive(Debug, Default)]
pub(crate) struct Dirty {
    /// Shown once for any number of changes, as they are in the end.
    pub(crate) agents: BTreeSet<AgentId>,
    pub(crate) frameworks: BTreeSet<FrameworkId>,
    pub(crate) roles: BTreeSet<RoleName>,
    /// Tasks and offers, every change, in order.
    things: Vec<Change>,
}

fn change(body: Body) -> Change {
    Change { body: Some(body) }
}

impl Core {
    pub(super) fn publish_task(&mut self, task: pb::Task, place: TaskPlace) {
        let task = Task { task: Some(task), place: place.into() };
        self.dirty.things.push(change(Body::Task(task)));
    }

    pub(super) fn publish_task_removed(&mut self, framework: &FrameworkId, task: &TaskId, place: TaskPlace) {
        let key =
            TaskKey { framework_id: framework.to_string(), task_id: task.to_string(), place: place.into() };
        self.dirty.things.push(change(Body::TaskRemoved(key)));
    }

    pub(super) fn publish_offer(&mut self, offer: pb::Offer) {
        self.dirty.things.push(change(Body::Offer(offer)));
    }

    pub(super) fn publish_offer_removed(&mut self, offer: &OfferId) {
        self.dirty.things.push(change(Body::OfferRemoved(offer.to_string())));
    }

    /// Agents and frameworks come before the tasks and offers that name them, and go after them.
    pub(super) fn take_changes(&mut self) -> Vec<Change> {
        let Dirty { agents, frameworks, roles, things } = std::mem::take(&mut self.dirty);
        let mut changes = Vec::with_capacity(agents.len() + frameworks.len() + things.len());
        let mut removed = Vec::new();
        for id in agents {
            match self.agents.get(&id) {
                Some(agent) => changes.push(change(Body::Agent(agent_view(agent)))),
                None => removed.push(change(Body::AgentRemoved(id.to_string()))),
            }
        }
        for id in frameworks {
            if let Some(framework) = self.frameworks.get(&id) {
                changes.push(change(Body::Framework(framework_view(framework))));
            } else if let Some(completed) = self.completed.get(&id) {
                changes.push(change(Body::Framework(completed_view(completed))));
            } else {
                removed.push(change(Body::FrameworkRemoved(id.to_string())));
            }
        }
        for role in roles {
            changes.push(change(match self.role_view(&role) {
                Some(settings) => Body::Role(settings),
                None => Body::RoleRemoved(role.to_string()),
            }));
        }
        changes.extend(things);
        changes.extend(removed);
        changes
    }

    /// Everything. Call it after [`Core::settle`], so that no change lies between it and the changes after.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let live = self.frameworks.values().map(framework_view);
        let completed = self.completed.iter().map(|(_, completed)| completed_view(completed));
        let mut tasks = Vec::new();
        let mut show = |task: &pb::Task, place: TaskPlace| {
            tasks.push(Task { task: Some(task.clone()), place: place.into() });
        };
        for framework in self.frameworks.values() {
            let ledger = &framework.ledger;
            ledger.completed.iter().for_each(|(_, task)| show(task, TaskPlace::Completed));
            ledger.unreachable.iter().for_each(|(_, task)| show(task, TaskPlace::Unreachable));
            ledger.live.values().for_each(|entry| show(&entry.task, TaskPlace::Live));
        }
        for (_, completed) in self.completed.iter() {
            completed.tasks.iter().for_each(|(_, task)| show(task, TaskPlace::Completed));
        }
        let offers = self.offers.values();
        let offers = offers.filter_map(|offer| Some(offer.to_internal(self.agents.get(&offer.place.agent)?)));
        Snapshot {
            master: Some(Master {
                info: Some(self.config.master.clone()),
                started_at_ms: self.config.elected_at_ms,
                elected_at_ms: self.config.elected_at_ms,
            }),
            agents: self.agents.values().map(agent_view).collect(),
            frameworks: live.chain(completed).collect(),
            tasks,
            offers: offers.collect(),
            roles: self.role_settings.keys().filter_map(|role| self.role_view(role)).collect(),
            executors: Vec::new(),
            operations: Vec::new(),
        }
    }
}

fn agent_view(agent: &Agent) -> AgentView {
    let format = Format::PostRefinement;
    AgentView {
        info: Some(pb::AgentInfo { id: Some(agent.id.to_proto()), ..agent.info.clone() }),
        active: agent.is_active(),
        connected: agent.link.is_some(),
        version: agent.version.clone(),
        endpoint: agent.endpoint.clone(),
        capabilities: agent.capabilities.clone(),
        registered_at_ms: agent.registered_at_ms,
        reregistered_at_ms: agent.reregistered_at_ms,
        total: agent.total.to_proto(format),
        used: agent.used.to_proto(format),
        offered: agent.offered.to_proto(format),
        recovered: agent.is_admitted() && agent.link.is_none() && !agent.heard,
        unreachable: agent.state == AgentState::Unreachable,
    }
}

/// A framework's sums are of its scalars: ranges and sets of different agents do not add up.
fn sums(quantities: &Quantities) -> Vec<pb::Resource> {
    let scalars = quantities.iter().map(|(name, amount)| Resource::scalar(name.clone(), amount));
    scalars.collect::<Resources>().to_proto(Format::PostRefinement)
}

fn framework_view(framework: &Framework) -> FrameworkView {
    FrameworkView {
        info: Some(framework.info.clone()),
        active: framework.is_connected(),
        connected: framework.is_connected(),
        recovered: framework.connection == Connection::Recovered,
        registered_at_ms: framework.registered_at_ms,
        reregistered_at_ms: framework.reregistered_at_ms,
        unregistered_at_ms: 0,
        completed: false,
        used: sums(&framework.used),
        offered: sums(&framework.offered),
        offer_constraints: None,
        suppressed_roles: Vec::new(),
    }
}

fn completed_view(completed: &Completed) -> FrameworkView {
    FrameworkView {
        info: Some(completed.info.clone()),
        active: false,
        connected: false,
        recovered: false,
        registered_at_ms: completed.registered_at_ms,
        reregistered_at_ms: completed.reregistered_at_ms,
        unregistered_at_ms: completed.unregistered_at_ms,
        completed: true,
        used: Vec::new(),
        offered: Vec::new(),
        offer_constraints: None,
        suppressed_roles: Vec::new(),
    }
}
