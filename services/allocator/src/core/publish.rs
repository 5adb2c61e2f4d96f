//! What readers of Watch see: a snapshot, then changes.

use std::collections::BTreeSet;

use meshos_proto::{
    meshos::{
        allocator::v1::{
            Agent as AgentView, AgentUsage, Change, Executor as ExecutorView, Framework as FrameworkView,
            FrameworkUsage, Master, Snapshot, Task, TaskKey, TaskPlace, change::Body,
        },
        registry::v1::AgentState,
    },
    mesos::v1 as pb,
};
use meshos_types::{AgentId, Format, FrameworkId, Quantities, Resource, Resources, RoleName, TaskId};

use super::{
    AgentKey, Core, FrameworkKey,
    agent::Agent,
    framework::{Completed, Connection, Framework},
    offers::OfferNo,
};

/// What has changed since the last time.
#[derive(Debug, Default)]
pub(crate) struct Dirty {
    /// Shown once for any number of changes, as they are in the end.
    pub(crate) agents: BTreeSet<AgentId>,
    pub(crate) frameworks: BTreeSet<FrameworkId>,
    pub(crate) roles: BTreeSet<RoleName>,
    /// Of these only what is used and offered.
    pub(crate) agent_usages: Vec<AgentKey>,
    pub(crate) framework_usages: Vec<FrameworkKey>,
    /// Tasks and offers, every change, in order.
    things: Vec<Thing>,
}

#[derive(Debug)]
enum Thing {
    Change(Box<Change>),
    /// A new offer, and one that is over. Their messages are made when the changes are taken.
    Offer(OfferNo),
    OfferRemoved(OfferNo),
}

impl Dirty {
    /// A change of a thing that has its place in the order of all changes.
    pub(crate) fn push(&mut self, body: Body) {
        self.things.push(Thing::Change(Box::new(change(body))));
    }
}

fn change(body: Body) -> Change {
    Change { body: Some(body) }
}

impl Core {
    pub(super) fn publish_task(&mut self, task: pb::Task, place: TaskPlace) {
        let task = Task { task: Some(task), place: place.into() };
        self.dirty.push(Body::Task(Box::new(task)));
    }

    pub(super) fn publish_task_removed(&mut self, framework: &FrameworkId, task: &TaskId, place: TaskPlace) {
        let key =
            TaskKey { framework_id: framework.to_string(), task_id: task.to_string(), place: place.into() };
        self.dirty.push(Body::TaskRemoved(key));
    }

    pub(super) fn publish_offer(&mut self, offer: OfferNo) {
        self.dirty.things.push(Thing::Offer(offer));
    }

    pub(super) fn publish_offer_removed(&mut self, offer: OfferNo) {
        self.dirty.things.push(Thing::OfferRemoved(offer));
    }

    /// Agents and frameworks come before the tasks and offers that name them, and go after them.
    pub(super) fn take_changes(&mut self) -> Vec<Change> {
        let Dirty { agents, frameworks, roles, agent_usages, framework_usages, things } =
            std::mem::take(&mut self.dirty);
        let count = agents.len() + frameworks.len() + agent_usages.len() + framework_usages.len();
        let mut changes = Vec::with_capacity(count + roles.len() + things.len());
        let mut removed = Vec::new();
        for id in agents {
            match self.agents.get_mut(&id) {
                Some(agent) => {
                    agent.usage_changed = false;
                    changes.push(change(Body::Agent(agent_view(agent))));
                }
                None => removed.push(change(Body::AgentRemoved(id.to_string()))),
            }
        }
        for id in frameworks {
            if let Some(framework) = self.frameworks.get_mut(&id) {
                framework.usage_changed = false;
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
        changes.extend(self.take_usages(&agent_usages, &framework_usages));
        changes.extend(things.into_iter().filter_map(|thing| match thing {
            Thing::Change(change) => Some(*change),
            // One that is over already was never there.
            Thing::Offer(number) => {
                self.offers.get(&number).and_then(|offer| self.offer_view(offer)).map(Body::Offer).map(change)
            }
            Thing::OfferRemoved(number) => Some(change(Body::OfferRemoved(self.offers.text(number)))),
        }));
        changes.extend(removed);
        changes
    }

    /// What is used and offered of those that are not shown as a whole.
    fn take_usages(&mut self, agents: &[AgentKey], frameworks: &[FrameworkKey]) -> Vec<Change> {
        let mut changes = Vec::with_capacity(agents.len() + frameworks.len());
        for key in agents {
            if let Some(agent) = self.agents.at_mut(*key)
                && std::mem::take(&mut agent.usage_changed)
            {
                changes.push(change(Body::AgentUsage(AgentUsage {
                    agent_id: agent.id.to_string(),
                    used: agent.used.to_proto(Format::PostRefinement),
                    offered: agent.offered.to_proto(Format::PostRefinement),
                })));
            }
        }
        for key in frameworks {
            let id = self.frameworks.id_at(*key).map(ToString::to_string);
            if let (Some(framework_id), Some(framework)) = (id, self.frameworks.at_mut(*key))
                && std::mem::take(&mut framework.usage_changed)
            {
                let (used, offered) = (sums(&framework.used), sums(&framework.offered));
                changes.push(change(Body::FrameworkUsage(FrameworkUsage { framework_id, used, offered })));
            }
        }
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
        let offers = self.offers.values().filter_map(|offer| self.offer_view(offer));
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
            executors: self.executors.iter().map(executor_view).collect(),
            operations: self.operations.values().map(|operation| operation.view()).collect(),
            more: false,
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
        offer_constraints: framework.asked_constraints.as_deref().cloned(),
        suppressed_roles: framework.suppressed.iter().map(ToString::to_string).collect(),
    }
}

fn executor_view((agent, executor): (&AgentId, &super::executors::Executor)) -> ExecutorView {
    ExecutorView { info: Some(executor.info.clone()), agent_id: agent.to_string() }
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
