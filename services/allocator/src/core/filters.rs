//! What a framework declined, and for how long (Mesos "offer filters").

use std::collections::HashMap;

use foldhash::fast::FixedState;
use meshos_types::{Resources, RoleName};

use super::{AgentKey, FrameworkKey};

/// A refusal, among those of all frameworks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FilterKey {
    /// The first to be compared: of timers for one time, a later refusal's comes last.
    pub(crate) number: u64,
    pub(crate) framework: FrameworkKey,
    pub(crate) agent: AgentKey,
}

/// One refusal.
#[derive(Clone, Debug)]
struct Filter {
    number: u64,
    due_ms: u64,
    role: RoleName,
    refused: Resources,
}

/// All refusals of one framework.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filters {
    by_agent: HashMap<AgentKey, Vec<Filter>, FixedState>,
}

/// A refusal that has ended before its time: its timer can go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) due_ms: u64,
    pub(crate) agent: AgentKey,
    pub(crate) number: u64,
}

impl Filters {
    /// Hides every part of `refused` until `due_ms`. Returns the refusals that this one covers altogether.
    pub(crate) fn add(
        &mut self,
        (agent, role): (AgentKey, &RoleName),
        number: u64,
        due_ms: u64,
        refused: Resources,
    ) -> Vec<Ended> {
        let filters = self.by_agent.entry(agent).or_insert_with(|| Vec::with_capacity(1));
        let covered = |filter: &Filter| {
            filter.due_ms <= due_ms && filter.role == *role && refused.contains(&filter.refused)
        };
        let ended =
            filters.extract_if(.., |filter| covered(filter)).map(|filter| filter.ended(agent)).collect();
        filters.push(Filter { number, due_ms, role: role.clone(), refused });
        ended
    }

    /// Whether an offer of `resources` would repeat something refused.
    pub(crate) fn hides(&self, agent: AgentKey, role: &RoleName, resources: &Resources) -> bool {
        if self.by_agent.is_empty() {
            return false;
        }
        let hides = |filter: &Filter| filter.role == *role && filter.refused.contains(resources);
        self.by_agent.get(&agent).is_some_and(|filters| filters.iter().any(hides))
    }

    /// Ends one refusal; whether it was there.
    pub(crate) fn expire(&mut self, key: FilterKey) -> bool {
        let Some(filters) = self.by_agent.get_mut(&key.agent) else { return false };
        let before = filters.len();
        filters.retain(|filter| filter.number != key.number);
        let found = filters.len() < before;
        if filters.is_empty() {
            self.by_agent.remove(&key.agent);
        }
        found
    }

    /// Ends all refusals on an agent.
    pub(crate) fn clear_agent(&mut self, agent: AgentKey) -> Vec<Ended> {
        let filters = self.by_agent.remove(&agent).unwrap_or_default();
        filters.iter().map(|filter| filter.ended(agent)).collect()
    }

    /// Ends all refusals of roles for which `of` holds.
    pub(crate) fn clear(&mut self, of: impl Fn(&RoleName) -> bool) -> Vec<Ended> {
        let mut cleared = Vec::new();
        self.by_agent.retain(|agent, filters| {
            cleared
                .extend(filters.extract_if(.., |filter| of(&filter.role)).map(|filter| filter.ended(*agent)));
            !filters.is_empty()
        });
        cleared
    }

    /// The role of each refusal.
    pub(crate) fn roles(&self) -> impl Iterator<Item = &RoleName> {
        self.by_agent.values().flatten().map(|filter| &filter.role)
    }
}

impl Filter {
    fn ended(&self, agent: AgentKey) -> Ended {
        Ended { due_ms: self.due_ms, agent, number: self.number }
    }
}

#[cfg(test)]
mod tests {
    use meshos_types::{AgentId, FrameworkId, Milli, Resource};

    use super::*;
    use crate::core::table::Table;

    fn cpus(count: i64) -> Resources {
        Resource::scalar("cpus", Milli::whole(count)).into()
    }

    fn agents() -> (AgentKey, AgentKey) {
        let mut table = Table::default();
        (table.insert(AgentId::new("s"), ()), table.insert(AgentId::new("r"), ()))
    }

    #[test]
    fn mesos_c21_more_than_what_was_refused_is_not_hidden() {
        let ((agent, _), role) = (agents(), RoleName::star());
        let framework = Table::default().insert(FrameworkId::new("f"), ());
        let mut filters = Filters::default();
        filters.add((agent, &role), 1, 100, cpus(2));
        assert!(filters.hides(agent, &role, &cpus(1)));
        assert!(filters.hides(agent, &role, &cpus(2)));
        assert!(!filters.hides(agent, &role, &cpus(3)));
        assert!(!filters.hides(agent, &RoleName::new("eng"), &cpus(1)));
        let key = FilterKey { framework, agent, number: 1 };
        assert!(filters.expire(key));
        assert!(!filters.hides(agent, &role, &cpus(1)));
        assert!(!filters.expire(key));
    }

    #[test]
    fn a_wider_refusal_replaces_a_narrower_one() {
        let ((agent, other), star, eng) = (agents(), RoleName::star(), RoleName::new("eng"));
        let mut filters = Filters::default();
        filters.add((agent, &star), 1, 100, cpus(1));
        assert!(filters.add((agent, &eng), 2, 200, cpus(2)).is_empty());
        assert_eq!(filters.add((agent, &star), 3, 200, cpus(2)).len(), 1);
        assert!(filters.add((agent, &star), 4, 150, cpus(1)).is_empty());
        assert_eq!(filters.clear(|role| *role == eng).len(), 1);
        assert!(filters.clear_agent(other).is_empty());
        assert_eq!(filters.clear_agent(agent).len(), 2);
        assert!(filters.clear(|_| true).is_empty() && filters.roles().next().is_none());
    }
}
