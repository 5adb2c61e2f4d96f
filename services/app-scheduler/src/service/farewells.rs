//! Pure: tasks that load balancers let go of before they are killed.
//!
//! A kill waits until every controller that listens has confirmed that the task gets no requests and has none under
//! way, or until the limit. A controller that lets the limit pass is not waited for again before it speaks.

use std::collections::{BTreeMap, BTreeSet};

use meshos_proto::mesos::v1::scheduler::Call;

/// Stands for those that listened to the leader before, and are on their way to this one.
const FORMER: u64 = u64::MAX;
/// For how long they are waited for.
const RETURN_MS: u64 = 1_000;

#[derive(Debug)]
pub(super) struct Farewells {
    limit_ms: u64,
    controllers: BTreeSet<u64>,
    /// When nobody from before is waited for any longer.
    returned_ms: u64,
    /// By instance.
    held: BTreeMap<String, Held>,
}

#[derive(Debug)]
struct Held {
    kill: Option<Call>,
    deadline_ms: u64,
    missing: BTreeSet<u64>,
}

impl Farewells {
    /// A term begins. `limit_ms` 0: nobody is waited for.
    pub(super) fn new(limit_ms: u64, now_ms: u64) -> Self {
        let returned_ms = now_ms.saturating_add(RETURN_MS.min(limit_ms));
        let controllers = (limit_ms > 0).then_some(FORMER).into_iter().collect();
        Self { limit_ms, controllers, returned_ms, held: BTreeMap::new() }
    }

    pub(super) fn joined(&mut self, controller: u64) {
        self.controllers.insert(controller);
    }

    /// A controller went; the kills that waited for it alone.
    pub(super) fn left(&mut self, controller: u64) -> Vec<Call> {
        self.controllers.remove(&controller);
        for held in self.held.values_mut() {
            held.missing.remove(&controller);
        }
        self.free(|held| held.missing.is_empty())
    }

    /// Controllers were told about the instance.
    pub(super) fn told(&mut self, instance: &str, now_ms: u64) {
        if self.controllers.is_empty() || self.limit_ms == 0 {
            return;
        }
        let fresh = || Held {
            kill: None,
            deadline_ms: now_ms.saturating_add(self.limit_ms),
            missing: self.controllers.clone(),
        };
        self.held.entry(instance.to_owned()).or_insert_with(fresh);
    }

    /// Keeps the kill, or gives it back: it may go at once.
    pub(super) fn hold(&mut self, instance: &str, kill: Call) -> Option<Call> {
        if self.controllers.contains(&FORMER) && !self.held.contains_key(instance) {
            // It was told about by the leader before; who heard of it may still be letting go.
            let (deadline_ms, missing) = (self.returned_ms, BTreeSet::from([FORMER]));
            self.held.insert(instance.to_owned(), Held { kill: None, deadline_ms, missing });
        }
        let Some(held) = self.held.get_mut(instance) else { return Some(kill) };
        held.kill = Some(kill);
        None
    }

    /// The kills that waited for this.
    pub(super) fn confirmed(&mut self, controller: u64, instances: &[String]) -> Vec<Call> {
        self.controllers.insert(controller);
        let mut free = Vec::new();
        for instance in instances {
            if let Some(held) = self.held.get_mut(instance) {
                held.missing.remove(&controller);
                if held.missing.is_empty() {
                    free.extend(self.held.remove(instance).and_then(|held| held.kill));
                }
            }
        }
        free
    }

    /// When [`Farewells::due`] has something.
    pub(super) fn next(&self) -> Option<u64> {
        let former = self.controllers.contains(&FORMER).then_some(self.returned_ms);
        self.held.values().map(|held| held.deadline_ms).chain(former).min()
    }

    /// The kills that waited long enough.
    pub(super) fn due(&mut self, now_ms: u64) -> Vec<Call> {
        let mut free = Vec::new();
        if self.returned_ms <= now_ms && self.controllers.contains(&FORMER) {
            free = self.left(FORMER);
        }
        let overdue = self.held.values().filter(|held| held.deadline_ms <= now_ms);
        let silent: Vec<u64> = overdue.flat_map(|held| held.missing.iter().copied()).collect();
        for controller in silent {
            self.controllers.remove(&controller);
        }
        free.extend(self.free(|held| held.deadline_ms <= now_ms));
        free
    }

    fn free(&mut self, is: impl Fn(&Held) -> bool) -> Vec<Call> {
        let ids: Vec<String> =
            self.held.iter().filter(|(_, held)| is(held)).map(|(id, _)| id.clone()).collect();
        ids.iter().filter_map(|id| self.held.remove(id)).filter_map(|held| held.kill).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[&str]) -> Vec<String> {
        ids.iter().map(ToString::to_string).collect()
    }

    /// Of a term whose first second has passed.
    fn old() -> Farewells {
        let mut farewells = Farewells::new(1000, 0);
        assert_eq!(farewells.next(), Some(1000));
        assert!(farewells.due(1000).is_empty());
        assert_eq!(farewells.next(), None);
        farewells
    }

    #[test]
    fn at_the_start_of_a_term_kills_wait_for_controllers_to_come_back() {
        let mut farewells = Farewells::new(5000, 0);
        farewells.told("a", 0);
        assert!(farewells.hold("a", Call::default()).is_none());
        assert!(farewells.hold("told by the leader before", Call::default()).is_none());
        farewells.joined(1);
        farewells.told("b", 10);
        assert!(farewells.hold("b", Call::default()).is_none());
        assert!(farewells.due(999).is_empty());
        assert_eq!(farewells.due(1000).len(), 2, "b waits for the one that is back");
        assert_eq!(farewells.confirmed(1, &ids(&["b"])).len(), 1);
        assert!(Farewells::new(0, 0).hold("a", Call::default()).is_some(), "nobody is to be waited for");
    }

    #[test]
    fn a_kill_waits_for_all_controllers_and_no_longer_than_the_limit() {
        let mut farewells = old();
        farewells.told("a", 0);
        assert!(farewells.hold("a", Call::default()).is_some(), "nobody listens");
        farewells.joined(1);
        farewells.joined(2);
        for id in ["a", "b", "c"] {
            farewells.told(id, 0);
            assert!(farewells.hold(id, Call::default()).is_none());
        }
        assert!(farewells.confirmed(1, &ids(&["a", "b", "x"])).is_empty());
        assert_eq!(farewells.confirmed(2, &ids(&["a"])).len(), 1);
        assert!(farewells.due(999).is_empty());
        assert_eq!(farewells.next(), Some(1000));
        assert_eq!(farewells.left(2).len(), 1, "b waited for 2 alone");
        assert_eq!(farewells.due(1000).len(), 1);
        // Nobody is left who is waited for.
        farewells.told("d", 1000);
        assert!(farewells.hold("d", Call::default()).is_some());
    }

    #[test]
    fn a_confirmation_may_come_before_the_kill() {
        let mut farewells = old();
        farewells.joined(1);
        farewells.told("a", 0);
        assert!(farewells.confirmed(1, &ids(&["a"])).is_empty());
        assert!(farewells.hold("a", Call::default()).is_some());
    }
}
