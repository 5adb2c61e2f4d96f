//! The only places where resources change hands: agent, framework and shares always agree.

use meshos_types::{AgentId, FrameworkId, Resources, RoleName};

use super::{
    Core,
    quota::{consumption, top},
};

/// Whose resources, where, in which role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) agent: AgentId,
    pub(crate) framework: FrameworkId,
    pub(crate) role: RoleName,
}

impl Core {
    /// A task holds resources.
    pub(super) fn hold_used(&mut self, place: &Place, resources: &Resources) {
        let amount = resources.scalars();
        if let Some(agent) = self.agents.get_mut(&place.agent) {
            agent.used.add_all(resources);
        }
        if let Some(framework) = self.frameworks.get_mut(&place.framework) {
            framework.used.add(&amount);
        }
        self.shares.add(&place.role, &place.framework, &amount, false);
        self.quotas.consume(&top(&place.role), &consumption(resources));
        self.mark(place);
    }

    /// A task holds its resources no longer.
    pub(super) fn free_used(&mut self, place: &Place, resources: &Resources) {
        let amount = resources.scalars();
        if let Some(agent) = self.agents.get_mut(&place.agent) {
            agent.used.subtract_all(resources);
        }
        if let Some(framework) = self.frameworks.get_mut(&place.framework) {
            framework.used.subtract(&amount);
        }
        self.shares.remove(&place.role, &place.framework, &amount);
        self.quotas.release(&top(&place.role), &consumption(resources));
        self.touched_agents.insert(place.agent.clone());
        self.mark(place);
    }

    /// An offer holds resources.
    pub(super) fn hold_offered(&mut self, place: &Place, resources: &Resources) {
        let amount = resources.scalars();
        if let Some(agent) = self.agents.get_mut(&place.agent) {
            agent.offered.add_all(resources);
        }
        if let Some(framework) = self.frameworks.get_mut(&place.framework) {
            framework.offered.add(&amount);
        }
        self.shares.add(&place.role, &place.framework, &amount, true);
        self.quotas.consume(&top(&place.role), &consumption(resources));
        self.mark(place);
    }

    /// An offer is over.
    pub(super) fn free_offered(&mut self, place: &Place, resources: &Resources) {
        let amount = resources.scalars();
        if let Some(agent) = self.agents.get_mut(&place.agent) {
            agent.offered.subtract_all(resources);
        }
        if let Some(framework) = self.frameworks.get_mut(&place.framework) {
            framework.offered.subtract(&amount);
        }
        self.shares.remove(&place.role, &place.framework, &amount);
        self.quotas.release(&top(&place.role), &consumption(resources));
        self.touched_agents.insert(place.agent.clone());
        self.mark(place);
    }

    /// An agent has other resources than before.
    pub(super) fn set_total(&mut self, id: &AgentId, total: Resources) {
        let Some(agent) = self.agents.get_mut(id) else { return };
        if agent.total == total {
            return;
        }
        let before = std::mem::replace(&mut agent.total, total.clone());
        let (old, new) = (before.scalars(), total.scalars());
        if old != new {
            self.shares.remove_total(&old);
            self.shares.add_total(&new);
        }
        self.quotas.total_changed(&before, &total);
        self.touched_agents.insert(id.clone());
        self.note_free(id);
    }

    /// What is free on the agent, or whether it takes part, may have changed.
    pub(super) fn note_free(&mut self, id: &AgentId) {
        self.quotas.note_free(id);
        self.dirty.agents.insert(id.clone());
    }

    /// Brings the headroom of guarantees up to date with the agents that have changed.
    pub(super) fn refresh_headroom(&mut self) {
        for id in self.quotas.take_stale() {
            let agent = self.agents.get(&id).filter(|agent| agent.is_active());
            let free = agent.map(|agent| consumption(&agent.free())).unwrap_or_default();
            self.quotas.set_free(&id, free);
        }
    }

    fn mark(&mut self, place: &Place) {
        self.quotas.note_free(&place.agent);
        self.dirty.agents.insert(place.agent.clone());
        self.dirty.frameworks.insert(place.framework.clone());
    }
}
