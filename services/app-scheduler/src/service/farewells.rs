//! Pure: tasks that load balancers let go of before they are killed.
//!
//! A kill waits until every controller that listens has confirmed that the task gets no requests and has none under
//! way, or until the limit. A controller that lets the limit pass is not waited for again before it speaks.

use std::collections::{BTreeMap, BTreeSet};

use meshos_proto::mesos::v1::scheduler::Call;

#[derive(Debug)]
pub(super) struct Farewells {
    limit_ms: u64,
    controllers: BTreeSet<u64>,
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
    /// `limit_ms` 0: nobody is waited for.
    pub(super) fn new(limit_ms: u64) -> Self {
        Self { limit_ms, controllers: BTreeSet::new(), held: BTreeMap::new() }
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
        self.held.values().map(|held| held.deadline_ms).min()
    }

    /// The kills that waited long enough.
    pub(super) fn due(&mut self, now_ms: u64) -> Vec<Call> {
        let overdue = self.held.values().filter(|held| held.deadline_ms <= now_ms);
        let silent: Vec<u64> = overdue.flat_map(|held| held.missing.iter().copied()).collect();
        for controller in silent {
            self.controllers.remove(&controller);
        }
        self.free(|held| held.deadline_ms <= now_ms)
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

    #[test]
    fn a_kill_waits_for_all_controllers_and_no_longer_than_the_limit() {
        let mut farewells = Farewells::new(1000);
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
        let mut farewells = Farewells::new(1000);
        farewells.joined(1);
        farewells.told("a", 0);
        assert!(farewells.confirmed(1, &ids(&["a"])).is_empty());
        assert!(farewells.hold("a", Call::default()).is_some());
    }
}
