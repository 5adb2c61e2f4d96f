//! What readers of Watch see after the picture that they begin with: changes.

use std::{collections::BTreeSet, sync::Arc};

use meshos_proto::{
    meshos::allocator::v1::{
        AgentUsage, Change, Executor as ExecutorView, Framework as FrameworkView, FrameworkUsage, TaskKey,
        TaskPlace, change::Body,
    },
    mesos::v1 as pb,
};
use meshos_types::{
    AgentId, Format, FrameworkId, Quantities, Resource, Resources, RoleName, TaskId,
    secrets::executor_without_secrets,
};

use super::{
    AgentKey, Core, FrameworkKey,
    framework::{Completed, Connection, Framework},
    offers::OfferNo,
    picture::AgentPicture,
    record::Record,
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
    Task(Arc<Record>, TaskPlace),
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
    pub(super) fn publish_task(&mut self, task: Arc<Record>, place: TaskPlace) {
        self.dirty.things.push(Thing::Task(task, place));
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
                    changes.push(change(Body::Agent(AgentPicture::of(agent).message())));
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
            Thing::Task(task, place) => Some(change(Body::Task(Box::new(task.packed(place))))),
            // One that is over already was never there.
            Thing::Offer(number) => {
                self.offers.get(&number).and_then(|offer| self.offer_view(offer)).map(Body::Offer).map(change)
            }
            Thing::OfferRemoved(number) => Some(change(Body::OfferRemoved(self.offers.text(number)))),
        }));
        changes.extend(removed);
        changes
    }

    /// Nobody is to be told of the changes.
    pub(super) fn forget_changes(&mut self) -> Vec<Change> {
        let Dirty { agent_usages, framework_usages, .. } = std::mem::take(&mut self.dirty);
        for key in agent_usages {
            if let Some(agent) = self.agents.at_mut(key) {
                agent.usage_changed = false;
            }
        }
        for key in framework_usages {
            if let Some(framework) = self.frameworks.at_mut(key) {
                framework.usage_changed = false;
            }
        }
        Vec::new()
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
}

/// A framework's sums are of its scalars: ranges and sets of different agents do not add up.
fn sums(quantities: &Quantities) -> Vec<pb::Resource> {
    let scalars = quantities.iter().map(|(name, amount)| Resource::scalar(name.clone(), amount));
    scalars.collect::<Resources>().to_proto(Format::PostRefinement)
}

pub(super) fn framework_view(framework: &Framework) -> FrameworkView {
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

pub(super) fn executor_view((agent, executor): (&AgentId, &super::executors::Executor)) -> ExecutorView {
    ExecutorView { info: Some(executor_without_secrets(executor.info.clone())), agent_id: agent.to_string() }
}

pub(super) fn completed_view(completed: &Completed) -> FrameworkView {
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
