//! Which agents and frameworks are looked at.

use std::collections::BTreeSet;

use meshos_types::{AgentId, FrameworkId, RoleName};

use super::FEW;
use crate::core::{Agent, AgentKey, Core, FrameworkKey, RoleKey, explain::Tally};

impl Core {
    /// The agent has more to offer than before.
    pub(in crate::core) fn touch_agent(&mut self, id: &AgentId) {
        if let Some(key) = self.agents.key(id) {
            self.touch_agent_at(key);
        }
    }

    pub(in crate::core) fn touch_agent_at(&mut self, key: AgentKey) {
        if let Some(agent) = self.agents.at_mut(key)
            && !std::mem::replace(&mut agent.touched, true)
        {
            self.touched_agents.push(key);
        }
    }

    /// The framework may want what it did not want before.
    pub(in crate::core) fn touch_framework(&mut self, id: &FrameworkId) {
        let Some(key) = self.frameworks.key(id) else { return };
        if let Some(framework) = self.frameworks.at_mut(key)
            && !std::mem::replace(&mut framework.touched, true)
        {
            self.touched_frameworks.push(key);
        }
    }

    /// From now on only agents of these hosts are offered. Offers that are out stay.
    pub(in crate::core) fn set_whitelist(&mut self, hosts: Option<BTreeSet<String>>) {
        self.whitelist = hosts;
        for key in self.agents.all_keys().collect::<Vec<_>>() {
            self.touch_agent_at(key);
        }
    }

    /// Whether the agent may be offered at all.
    pub(super) fn is_offered(&self, agent: &Agent) -> bool {
        let listed = |hosts: &BTreeSet<String>| hosts.contains(&agent.about.info.hostname);
        agent.is_active() && self.whitelist.as_ref().is_none_or(listed)
    }

    pub(super) fn untouch(&mut self, agents: &[AgentKey], frameworks: &[FrameworkKey]) {
        for key in agents {
            if let Some(agent) = self.agents.at_mut(*key) {
                agent.touched = false;
            }
        }
        for key in frameworks {
            if let Some(framework) = self.frameworks.at_mut(*key) {
                framework.touched = false;
            }
        }
    }

    /// Whether the framework wants offers for the role from now on.
    pub(in crate::core) fn set_active(&mut self, role: &RoleName, id: &FrameworkId, active: bool) {
        let Some(key) = self.frameworks.key(id) else { return };
        let filters = self.frameworks.at(key).and_then(|known| known.info.offer_filters.get(role.as_str()));
        let picky = filters.is_some_and(|filters| filters.min_allocatable_resources.is_some());
        self.shares.set_active(role, (key, id), active, picky);
        let together = self.quotas.together(role);
        if let Some(framework) = self.frameworks.at_mut(key).filter(|_| active) {
            framework.tallies.entry(role.clone()).or_insert_with(|| Tally::since(together));
        }
    }

    /// The clients of touched frameworks, if they are few.
    pub(super) fn few(&self, frameworks: &[FrameworkKey]) -> Vec<(RoleKey, FrameworkKey)> {
        let mut few = Vec::new();
        for key in frameworks {
            let Some(framework) = self.frameworks.at(*key) else { continue };
            if few.len() + framework.roles.len() > FEW {
                return Vec::new();
            }
            let roles = framework.roles.iter().filter_map(|role| self.shares.key(role));
            few.extend(roles.map(|role| (role, *key)));
        }
        few
    }

    /// Whether untouched agents cannot have anything for these clients: their roles have no room for what nobody has
    /// reserved, and no agent has anything else.
    pub(super) fn is_pointless(&mut self, few: &[(RoleKey, FrameworkKey)]) -> bool {
        let closed = |(role, _): &(RoleKey, FrameworkKey)| {
            self.shares.name(*role).is_some_and(|role| self.quotas.is_closed(role))
        };
        let pointless =
            !few.is_empty() && self.odd_available == 0 && !self.shares.has_picky() && few.iter().all(closed);
        if pointless {
            self.quotas.leave_closed_aside();
        }
        pointless
    }

    pub(super) fn is_touched(&self, key: AgentKey) -> bool {
        self.agents.at(key).is_some_and(|agent| agent.touched)
    }

    /// Keeps the index of agents with something left.
    pub(super) fn enter_available(&mut self, key: AgentKey) {
        let Some(agent) = self.agents.at_mut(key).filter(|agent| agent.available_at.is_none()) else {
            return;
        };
        agent.available_at = u32::try_from(self.available.len()).ok();
        agent.is_odd = !agent.total.digest().plain;
        self.odd_available += usize::from(agent.is_odd);
        self.available.push(key);
    }

    pub(in crate::core) fn leave_available(&mut self, id: &AgentId) {
        if let Some(key) = self.agents.key(id) {
            self.leave_available_at(key);
        }
    }

    pub(super) fn leave_available_at(&mut self, key: AgentKey) {
        let Some(agent) = self.agents.at_mut(key) else { return };
        let Some(at) = agent.available_at.take() else { return };
        self.odd_available -= usize::from(agent.is_odd);
        self.available.swap_remove(at as usize);
        let moved = self.available.get(at as usize).copied();
        if let Some(moved) = moved.and_then(|moved| self.agents.at_mut(moved)) {
            moved.available_at = Some(at);
        }
    }
}
