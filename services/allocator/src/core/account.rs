//! The only places where resources change hands: agent, framework and shares always agree.

use meshos_types::{AgentId, FrameworkId, Quantities, Resources, RoleName};

use super::{
    AgentKey, Core, FrameworkKey, RoleKey,
    quota::{consumption, top_name},
};

/// Whose resources, where, in which role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) agent: AgentId,
    pub(crate) framework: FrameworkId,
    pub(crate) role: RoleName,
}

/// The same by keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Spot {
    pub(crate) framework: FrameworkKey,
    pub(crate) agent: AgentKey,
    pub(crate) role: RoleKey,
}

impl Core {
    /// A task holds resources.
    pub(super) fn hold_used(&mut self, place: &Place, resources: &Resources) {
        let Some(spot) = self.spot(place) else { return };
        if let Some(agent) = self.agents.at_mut(spot.agent) {
            agent.used.add_all(resources);
            agent.recount_unused();
        }
        if let Some(framework) = self.frameworks.at_mut(spot.framework) {
            framework.used.add(&resources.digest().scalars);
        }
        self.hold(spot, resources, false);
    }

    /// A task holds its resources no longer.
    pub(super) fn free_used(&mut self, place: &Place, resources: &Resources) {
        let Some(spot) = self.spot(place) else { return };
        if let Some(agent) = self.agents.at_mut(spot.agent) {
            agent.used.subtract_all(resources);
            agent.recount_unused();
        }
        if let Some(framework) = self.frameworks.at_mut(spot.framework) {
            framework.used.subtract(&resources.digest().scalars);
        }
        self.free(place, (spot.agent, spot.framework), resources);
    }

    /// An offer holds resources.
    pub(super) fn hold_offered(&mut self, spot: Spot, resources: &Resources) {
        if let Some(agent) = self.agents.at_mut(spot.agent) {
            agent.offered.add_all(resources);
        }
        if let Some(framework) = self.frameworks.at_mut(spot.framework) {
            framework.offered.add(&resources.digest().scalars);
        }
        self.hold(spot, resources, true);
    }

    /// An offer is over.
    pub(super) fn free_offered(
        &mut self,
        place: &Place,
        (agent, framework): (AgentKey, FrameworkKey),
        resources: &Resources,
    ) {
        if let Some(agent) = self.agents.at_mut(agent) {
            agent.offered.subtract_all(resources);
        }
        if let Some(framework) = self.frameworks.at_mut(framework) {
            framework.offered.subtract(&resources.digest().scalars);
        }
        self.free(place, (agent, framework), resources);
    }

    fn hold(&mut self, spot: Spot, resources: &Resources, offer: bool) {
        let counted = match resources.digest().shared {
            true => self.place(spot).and_then(|place| self.shared.hold(&place, resources)),
            false => None,
        };
        let amount = counted.as_ref().unwrap_or(&resources.digest().scalars);
        if let Some(id) = self.frameworks.id_at(spot.framework) {
            self.shares.add(spot.role, (spot.framework, id), amount, offer);
        }
        if let Some(role) = self.shares.name(spot.role) {
            self.quotas.consume(top_name(role), consumption(resources));
        }
        self.mark(spot.agent, spot.framework);
    }

    fn free(&mut self, place: &Place, (agent, framework): (AgentKey, FrameworkKey), resources: &Resources) {
        let counted = self.shared.free(place, resources);
        let amount = counted.as_ref().unwrap_or(&resources.digest().scalars);
        if let Some(role) = self.shares.key(&place.role) {
            self.shares.remove(role, framework, amount);
        }
        self.quotas.release(top_name(&place.role), consumption(resources));
        self.touch_agent_at(agent);
        self.mark(agent, framework);
    }

    /// An agent has other resources than before.
    pub(super) fn set_total(&mut self, id: &AgentId, total: Resources) {
        let Some(agent) = self.agents.get_mut(id) else { return };
        if agent.total == total {
            return;
        }
        let before = std::mem::replace(&mut agent.total, total.clone());
        agent.recount_unused();
        let (old, new) = (&before.digest().scalars, &total.digest().scalars);
        if old != new {
            self.shares.change_total(old, new);
        }
        self.quotas.total_changed(&before, &total);
        // It comes back among those that have something left when it is looked at.
        self.leave_available(id);
        self.touch_agent(id);
        self.note_free(id);
    }

    /// What is free on the agent, or whether it takes part, may have changed.
    pub(super) fn note_free(&mut self, id: &AgentId) {
        if let Some(key) = self.agents.key(id) {
            self.count_headroom(key);
        }
        self.dirty.agents.insert(id.clone());
    }

    /// Brings the headroom of guarantees up to date with an agent.
    fn count_headroom(&mut self, key: AgentKey) {
        if !self.quotas.has_guarantees() {
            return;
        }
        let Some(agent) = self.agents.at_mut(key) else { return };
        let free = if agent.is_active() { consumption(&agent.free()).clone() } else { Quantities::new() };
        if free != agent.headroom {
            self.quotas.change_free(&agent.headroom, &free);
            agent.headroom = free;
        }
    }

    /// The same with all agents: there are guarantees now, and there were none before.
    pub(super) fn count_all_headroom(&mut self) {
        self.quotas.forget_free();
        for key in self.agents.all_keys().collect::<Vec<_>>() {
            if let Some(agent) = self.agents.at_mut(key) {
                agent.headroom = Quantities::new();
            }
            self.count_headroom(key);
        }
    }

    /// Readers are to learn what is used and offered.
    fn mark(&mut self, agent: AgentKey, framework: FrameworkKey) {
        self.count_headroom(agent);
        if let Some(known) = self.agents.at_mut(agent)
            && !std::mem::replace(&mut known.usage_changed, true)
        {
            self.dirty.agent_usages.push(agent);
        }
        if let Some(known) = self.frameworks.at_mut(framework)
            && !std::mem::replace(&mut known.usage_changed, true)
        {
            self.dirty.framework_usages.push(framework);
        }
    }

    /// The keys of a place; none if its agent or framework is not known.
    fn spot(&mut self, place: &Place) -> Option<Spot> {
        let (agent, framework) = (self.agents.key(&place.agent)?, self.frameworks.key(&place.framework)?);
        Some(Spot { framework, agent, role: self.shares.enter(&place.role) })
    }

    /// The names of a spot.
    pub(super) fn place(&self, spot: Spot) -> Option<Place> {
        Some(Place {
            agent: self.agents.id_at(spot.agent)?.clone(),
            framework: self.frameworks.id_at(spot.framework)?.clone(),
            role: self.shares.name(spot.role)?.clone(),
        })
    }
}
