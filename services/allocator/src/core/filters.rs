//! What a framework declined, and for how long (Mesos "offer filters").

use std::collections::BTreeMap;

use meshos_types::{AgentId, Resources, RoleName};

/// One refusal.
#[derive(Clone, Debug)]
struct Filter {
    number: u64,
    due_ms: u64,
    refused: Resources,
}

/// All refusals of one framework.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filters {
    by_place: BTreeMap<(AgentId, RoleName), Vec<Filter>>,
}

/// A refusal that has ended before its time: its timer can go.
pub(crate) type Ended = (u64, u64, AgentId, RoleName);

impl Filters {
    /// Hides every part of `refused` until `due_ms`. Returns the refusals that this one covers altogether.
    pub(crate) fn add(
        &mut self,
        place: (AgentId, RoleName),
        number: u64,
        due_ms: u64,
        refused: Resources,
    ) -> Vec<Ended> {
        let filters = self.by_place.entry(place.clone()).or_default();
        let covered = |filter: &Filter| filter.due_ms <= due_ms && refused.contains(&filter.refused);
        let ended =
            filters.iter().filter(|filter| covered(filter)).map(|filter| ended(filter, &place)).collect();
        filters.retain(|filter| !covered(filter));
        filters.push(Filter { number, due_ms, refused });
        ended
    }

    /// Whether an offer of `resources` would repeat something refused.
    pub(crate) fn hides(&self, agent: &AgentId, role: &RoleName, resources: &Resources) -> bool {
        if self.by_place.is_empty() {
            return false;
        }
        let filters = self.by_place.get(&(agent.clone(), role.clone()));
        filters.is_some_and(|filters| filters.iter().any(|filter| filter.refused.contains(resources)))
    }

    /// Ends one refusal; whether it was there.
    pub(crate) fn expire(&mut self, agent: &AgentId, role: &RoleName, number: u64) -> bool {
        let place = (agent.clone(), role.clone());
        let Some(filters) = self.by_place.get_mut(&place) else { return false };
        let before = filters.len();
        filters.retain(|filter| filter.number != number);
        let found = filters.len() < before;
        if filters.is_empty() {
            self.by_place.remove(&place);
        }
        found
    }

    /// Ends all refusals on an agent.
    pub(crate) fn clear_agent(&mut self, agent: &AgentId) -> Vec<Ended> {
        let begin = (agent.clone(), RoleName::new(""));
        let places = self.by_place.range(begin..).map(|(place, _)| place.clone());
        let places: Vec<_> = places.take_while(|place| place.0 == *agent).collect();
        let mut cleared = Vec::new();
        for place in places {
            for filter in self.by_place.remove(&place).unwrap_or_default() {
                cleared.push(ended(&filter, &place));
            }
        }
        cleared
    }

    /// Ends all refusals of roles for which `of` holds.
    pub(crate) fn clear(&mut self, of: impl Fn(&RoleName) -> bool) -> Vec<Ended> {
        let mut cleared = Vec::new();
        self.by_place.retain(|place, filters| {
            let clear = of(&place.1);
            if clear {
                cleared.extend(filters.iter().map(|filter| ended(filter, place)));
            }
            !clear
        });
        cleared
    }

    /// Number of refusals by role.
    pub(crate) fn count_by_role(&self) -> impl Iterator<Item = (&RoleName, usize)> {
        self.by_place.iter().map(|((_, role), filters)| (role, filters.len()))
    }
}

fn ended(filter: &Filter, place: &(AgentId, RoleName)) -> Ended {
    (filter.due_ms, filter.number, place.0.clone(), place.1.clone())
}

#[cfg(test)]
mod tests {
    use meshos_types::{Milli, Resource};

    use super::*;

    fn cpus(count: i64) -> Resources {
        Resource::scalar("cpus", Milli::whole(count)).into()
    }

    #[test]
    fn mesos_c21_more_than_what_was_refused_is_not_hidden() {
        let (agent, role) = (AgentId::new("s"), RoleName::star());
        let mut filters = Filters::default();
        filters.add((agent.clone(), role.clone()), 1, 100, cpus(2));
        assert!(filters.hides(&agent, &role, &cpus(1)));
        assert!(filters.hides(&agent, &role, &cpus(2)));
        assert!(!filters.hides(&agent, &role, &cpus(3)));
        assert!(!filters.hides(&agent, &RoleName::new("eng"), &cpus(1)));
        assert!(filters.expire(&agent, &role, 1));
        assert!(!filters.hides(&agent, &role, &cpus(1)));
        assert!(!filters.expire(&agent, &role, 1));
    }

    #[test]
    fn a_wider_refusal_replaces_a_narrower_one() {
        let place = (AgentId::new("s"), RoleName::star());
        let mut filters = Filters::default();
        filters.add(place.clone(), 1, 100, cpus(1));
        assert_eq!(filters.add(place.clone(), 2, 200, cpus(2)).len(), 1);
        assert!(filters.add(place.clone(), 3, 150, cpus(1)).is_empty());
        assert!(filters.clear_agent(&AgentId::new("r")).is_empty());
        assert!(filters.clear_agent(&AgentId::new("sx")).is_empty());
        assert_eq!(filters.clear_agent(&place.0).len(), 2);
        assert!(filters.clear(|_| true).is_empty());
    }
}
