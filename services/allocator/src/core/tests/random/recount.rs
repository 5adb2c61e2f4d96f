//! The slow, obvious recount: everything added up again from the tasks and offers that there are.

use std::collections::{BTreeMap, BTreeSet};

use meshos_proto::{
    meshos::allocator::v1::{Agent, Snapshot, TaskPlace},
    mesos::v1 as pb,
};
use meshos_types::{Quantities, Resources, RoleName, task_state::frees_resources};

use crate::core::{
    account::Spot,
    quota::{Stage, top},
};

use super::{
    view::{View, task_key},
    world::World,
};

impl World {
    pub(super) fn check(&mut self) {
        let snapshot = self.cluster.core.snapshot();
        for agent in &snapshot.agents {
            check_agent(agent, &snapshot);
        }
        self.check_quota(&snapshot);
        self.check_nothing_is_left();
        self.check_frameworks(&snapshot);
        self.check_ledger(&snapshot);
        assert_eq!(self.view, View::of(snapshot), "the changes do not lead to the snapshot");
    }

    pub(super) fn check_frameworks(&self, snapshot: &Snapshot) {
        let mut held: BTreeSet<String> = BTreeSet::new();
        for offers in &self.held {
            held.extend(offers.keys().cloned());
        }
        let outstanding: BTreeSet<_> = snapshot.offers.iter().map(|offer| offer.id.value.clone()).collect();
        assert_eq!(held, outstanding, "frameworks believe in other offers");
        let mut sums: BTreeMap<RoleName, Quantities> = BTreeMap::new();
        for (id, framework) in self.cluster.core.frameworks.iter() {
            let key = self.cluster.core.frameworks.key(id).unwrap();
            let mut both = framework.used.clone();
            both.add(&framework.offered);
            let role = framework.default_role();
            assert_eq!(self.cluster.core.shares.held(&role, key), both, "share of {id}");
            let above = sums.entry(top(&role)).or_default();
            above.add(&both);
        }
        for (role, sum) in sums {
            assert_eq!(self.cluster.core.shares.held_below(&role), sum, "share of {role}");
        }
    }

    /// Nobody could be offered any more: every pair of agent and framework, looked at again without any index.
    fn check_nothing_is_left(&self) {
        let core = &self.cluster.core;
        if core.recovery_hold.is_some() {
            return;
        }
        for agent in core.agents.all_keys().filter(|key| core.agents.at(*key).unwrap().is_active()) {
            let free = core.agents.at(agent).unwrap().free();
            let has_some = !free.is_empty()
                && core.config.min_allocatable.iter().any(|least| free.scalars().contains(least));
            for framework in core.frameworks.all_keys().filter(|_| has_some) {
                for name in &core.frameworks.at(framework).unwrap().roles {
                    let Some(role) = core.shares.key(name).filter(|role| core.shares.wants(*role, framework))
                    else {
                        continue;
                    };
                    let spot = Spot { framework, agent, role };
                    for stage in [Stage::Guarantees, Stage::Everybody] {
                        let needy = core.quotas.unmet_roles().any(|unmet| *unmet == top(name));
                        let verdict = core.suitable(spot, name, &free, stage).unwrap().0;
                        assert!(
                            verdict.is_err() || stage == Stage::Guarantees && !needy,
                            "{name} could be offered {verdict:?} of {} in {stage:?}",
                            core.agents.id_at(agent).unwrap()
                        );
                    }
                }
            }
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

/// Nothing is given twice, and the books agree with a recount.
pub(crate) fn check_agent(agent: &Agent, snapshot: &Snapshot) {
    let id = agent.info.as_ref().unwrap().id.as_ref().unwrap();
    let read = |resources: &[pb::Resource]| Resources::from_proto(resources).unwrap().unallocated();
    let mut used = Resources::new();
    for task in &snapshot.tasks {
        let inner = task.unpack().unwrap();
        if task.place() == TaskPlace::Live && inner.agent_id == *id && !frees_resources(inner.state()) {
            used.add_all(&read(&inner.resources));
        }
    }
    for executor in snapshot.executors.iter().filter(|executor| executor.agent_id == id.value) {
        used.add_all(&read(&executor.info.as_ref().unwrap().resources));
    }
    let mut offered = Resources::new();
    for offer in snapshot.offers.iter().filter(|offer| offer.agent_id == *id) {
        offered.add_all(&read(&offer.resources));
    }
    // A shared volume stands once on the wire.
    let (used, offered) = (used.distinct(), offered.distinct());
    assert_eq!(read(&agent.used), used, "used on {}", id.value);
    assert_eq!(read(&agent.offered), offered, "offered on {}", id.value);
    let mut both = used.clone();
    both.add_all(&offered);
    let both = both.distinct();
    if agent.connected {
        assert!(read(&agent.total).contains(&both), "{} gives {both}", id.value);
    } else {
        assert!(offered.is_empty(), "an agent that is away is offered");
    }
}
