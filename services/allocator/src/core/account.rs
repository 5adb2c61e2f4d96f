//! The only places where resources change hands: agent, framework and shares always agree.

use meshos_types::{AgentId, FrameworkId, Resources, RoleName};

use super::Core;

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
        self.touched_agents.insert(place.agent.clone());
        self.mark(place);
    }

    fn mark(&mut self, place: &Place) {
        self.dirty.agents.insert(place.agent.clone());
        self.dirty.frameworks.insert(place.framework.clone());
    }
}
