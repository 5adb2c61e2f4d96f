//! Reservations, quotas, weights: what steps do, and the slow, obvious recount of quota.

use std::collections::{BTreeMap, BTreeSet};

use meshos_proto::{
    meshos::allocator::v1::{ApplyRequest, Snapshot, TaskPlace, UpdateQuotaRequest},
    mesos::v1::{
        self as pb,
        offer::operation::Type,
        scheduler::{Call, call},
    },
};
use meshos_types::{Milli, Quantities, Resources, RoleName, task_state::frees_resources};

use super::{
    ROLES, Step,
    world::{World, agent_name},
};
use crate::core::{
    Input,
    quota::{Quota, consumption, top},
    tests::{
        operations::{operation, reserved},
        roles::quota,
    },
};

fn read(resources: &[pb::Resource]) -> Resources {
    Resources::from_proto(resources).unwrap().unallocated()
}

impl World {
    pub(super) fn run_operator(&mut self, step: Step) {
        match step {
            Step::Reserve { framework, offer, cpus } => {
                let role = ["*", "eng/web", "eng"][framework];
                self.operate(framework, offer, |_| {
                    operation(Type::Reserve, &reserved(&format!("cpus:{cpus}"), role))
                });
            }
            Step::Unreserve { framework, offer } => self.operate(framework, offer, |offered| {
                operation(Type::Unreserve, &offered.filter(meshos_types::Resource::is_dynamically_reserved))
            }),
            Step::OperatorReserves { agent, cpus } => {
                let request = ApplyRequest {
                    agent_id: Some(pb::AgentId { value: agent_name(agent) }),
                    operation: Some(operation(Type::Reserve, &reserved(&format!("cpus:{cpus}"), "eng"))),
                    source: Vec::new(),
                };
                // Refused when it is away or the resources are used.
                let _ = self.cluster.try_input(Input::Apply(Box::new(request)));
            }
            Step::Quota { role, guarantee, limit } => {
                let limit = limit.map(|limit| limit.max(guarantee));
                let limits: Vec<_> = limit.iter().map(|limit| ("cpus", f64::from(*limit))).collect();
                let config = quota(ROLES[role], &[("cpus", f64::from(guarantee))], &limits);
                let update = UpdateQuotaRequest { configs: vec![config], force: true, remove: Vec::new() };
                self.cluster.input(Input::UpdateQuota(Box::new(update)));
            }
            Step::Weight { role, weight } => {
                let weight = pb::WeightInfo { weight: weight.into(), role: Some(ROLES[role].to_owned()) };
                self.cluster.input(Input::UpdateWeights(vec![weight]));
            }
            other => panic!("{other:?}"),
        }
    }

    fn operate(
        &mut self,
        framework: usize,
        offer: usize,
        operation: impl FnOnce(&Resources) -> pb::offer::Operation,
    ) {
        let Some(offer) = self.take_held(framework, offer) else { return };
        let operations = vec![operation(&read(&offer.resources))];
        let accept = call::Accept { offer_ids: vec![offer.id], operations, filters: None };
        self.call(framework, |call| Call { accept: Some(accept), ..call }, call::Type::Accept);
    }

    /// What each top-level role consumes, added up again.
    fn consumed(&self, snapshot: &Snapshot) -> BTreeMap<RoleName, Quantities> {
        let mut sums: BTreeMap<RoleName, Quantities> = BTreeMap::new();
        for agent in &snapshot.agents {
            for (role, resources) in read(&agent.total).reservations() {
                sums.entry(top(&role)).or_default().add(&resources.scalars());
            }
        }
        let live = snapshot.tasks.iter().filter(|task| task.place() == TaskPlace::Live);
        let tasks: Vec<_> =
            live.filter_map(|task| task.unpack()).filter(|task| !frees_resources(task.state())).collect();
        let held = tasks.iter().map(|task| &task.resources);
        let executors = snapshot.executors.iter().map(|executor| &executor.info.as_ref().unwrap().resources);
        let held = held.chain(executors);
        for resources in held.chain(snapshot.offers.iter().map(|offer| &offer.resources)) {
            let resources = Resources::from_proto(resources).unwrap();
            for (role, resources) in resources.allocations() {
                sums.entry(top(&role)).or_default().add(consumption(&resources));
            }
        }
        sums.retain(|_, sum| !sum.is_empty());
        sums
    }

    /// Offers that were made by the last step kept to limits and left guarantees alone.
    pub(super) fn check_quota(&mut self, snapshot: &Snapshot) {
        let consumed = self.consumed(snapshot);
        let nothing = Quantities::new();
        for role in consumed.keys().cloned().chain(ROLES.map(RoleName::new)) {
            let slow = consumed.get(&role).unwrap_or(&nothing);
            assert_eq!(self.cluster.core.quotas.consumed(&role), *slow, "consumption of {role}");
        }
        let quotas: BTreeMap<_, _> = snapshot
            .roles
            .iter()
            .filter_map(|role| Some((RoleName::new(role.role.as_str()), Quota::of(role.quota.as_ref()?))))
            .collect();
        let (mut required, mut available) = (Milli::ZERO, Milli::ZERO);
        for (role, quota) in &quotas {
            let used = consumed.get(role).unwrap_or(&nothing).get("cpus");
            required = required.saturating_add(quota.guarantees.get("cpus").saturating_sub(used));
        }
        for agent in snapshot.agents.iter().filter(|agent| agent.active) {
            let mut free = read(&agent.total);
            free.subtract_all(&read(&agent.used));
            free.subtract_all(&read(&agent.offered));
            available = available.saturating_add(consumption(&free).get("cpus"));
        }
        let ids: BTreeSet<_> = snapshot.offers.iter().map(|offer| offer.id.value.clone()).collect();
        for offer in snapshot.offers.iter().filter(|offer| !self.offered_before.contains(&offer.id.value)) {
            let role = offer.allocation_info.as_ref().unwrap().role.clone().unwrap();
            let role = top(&RoleName::new(role));
            if consumption(&read(&offer.resources)).get("cpus").is_zero() {
                continue;
            }
            let quota = quotas.get(&role).cloned().unwrap_or_default();
            let used = consumed[&role].get("cpus");
            if let Some(limit) = quota.limits.get("cpus") {
                assert!(used <= *limit, "{role} is offered {used}, its limit is {limit}");
            }
            if quota.guarantees.get("cpus").is_zero() && !required.is_zero() {
                assert!(available >= required, "guarantees need {required}, {available} is left");
            }
        }
        self.offered_before = ids;
    }
}
