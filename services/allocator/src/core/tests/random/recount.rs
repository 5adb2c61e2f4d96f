//! The slow, obvious recount: everything added up again from the tasks and offers that there are.

use std::collections::{BTreeMap, BTreeSet};

use meshos_proto::{
    meshos::allocator::v1::{Agent, Snapshot, TaskPlace},
    mesos::v1 as pb,
};
use meshos_types::{Quantities, Resources, RoleName, task_state::frees_resources};

use crate::core::quota::top;

use super::{
    view::{View, task_key},
    world::World,
};

impl World {
    pub(super) fn check(&mut self) {
        let snapshot = self.cluster.core.snapshot();
        for agent in &snapshot.agents {
            self.check_agent(agent, &snapshot);
        }
        self.check_quota(&snapshot);
        self.check_frameworks(&snapshot);
        self.check_ledger(&snapshot);
        assert_eq!(self.view, View::of(snapshot), "the changes do not lead to the snapshot");
    }

    /// Nothing is given twice, and the books agree with a recount.
    pub(super) fn check_agent(&self, agent: &Agent, snapshot: &Snapshot) {
        let id = agent.info.as_ref().unwrap().id.as_ref().unwrap();
        let read = |resources: &[pb::Resource]| Resources::from_proto(resources).unwrap().unallocated();
        let mut used = Resources::new();
        for task in &snapshot.tasks {
            let inner = task.task.as_ref().unwrap();
            if task.place() == TaskPlace::Live && inner.agent_id == *id && !frees_resources(inner.state()) {
                used.add_all(&read(&inner.resources));
            }
        }
        let mut offered = Resources::new();
        for offer in snapshot.offers.iter().filter(|offer| offer.agent_id == *id) {
            offered.add_all(&read(&offer.resources));
        }
        assert_eq!(read(&agent.used), used, "used on {}", id.value);
        assert_eq!(read(&agent.offered), offered, "offered on {}", id.value);
        let mut both = used.clone();
        both.add_all(&offered);
        if agent.connected {
            assert!(read(&agent.total).contains(&both), "{} gives {both}", id.value);
        } else {
            assert!(offered.is_empty(), "an agent that is away is offered");
        }
    }

    pub(super) fn check_frameworks(&self, snapshot: &Snapshot) {
        let mut held: BTreeSet<String> = BTreeSet::new();
        for offers in &self.held {
            held.extend(offers.keys().cloned());
        }
        let outstanding: BTreeSet<_> = snapshot.offers.iter().map(|offer| offer.id.value.clone()).collect();
        assert_eq!(held, outstanding, "frameworks believe in other offers");
        let mut sums: BTreeMap<RoleName, Quantities> = BTreeMap::new();
        for (id, framework) in &self.cluster.core.frameworks {
            let mut both = framework.used.clone();
            both.add(&framework.offered);
            let role = framework.default_role();
            assert_eq!(self.cluster.core.shares.held(&role, id), both, "share of {id}");
            let above = sums.entry(top(&role)).or_default();
            above.add(&both);
        }
        for (role, sum) in sums {
            assert_eq!(self.cluster.core.shares.held_below(&role), sum, "share of {role}");
        }
    }

    /// Every accepted task has exactly one entry, as long as its framework is remembered.
    pub(super) fn check_ledger(&self, snapshot: &Snapshot) {
        let mut entries: BTreeMap<(String, String), usize> = BTreeMap::new();
        for task in &snapshot.tasks {
            let (framework, task, _) = task_key(task);
            *entries.entry((framework, task)).or_default() += 1;
        }
        assert!(entries.values().all(|count| *count == 1), "{entries:?}");
        let known: BTreeSet<_> = self.view.frameworks.keys().cloned().collect();
        for key in self.accepted.iter().filter(|(framework, _)| known.contains(framework)) {
            assert!(entries.contains_key(key), "{key:?} has no entry");
        }
    }
}
