//! Who is offered what, at once after every change (Mesos `hierarchical.cpp`, event-driven).
//!
//! An agent with more to offer than before is offered to everybody in the order of shares. A framework that
//! wants more than before is considered on the agents that have something left. Nothing else is looked at: what
//! has not changed has been decided before.

use std::collections::{BTreeMap, BTreeSet};

use meshos_proto::mesos::v1::{self as pb, framework_info::capability::Type as CapabilityType};
use meshos_types::{AgentId, FrameworkId, Resources, RoleName};

use super::{Core, account::Place, events};

/// Offers in one event; more go into further events.
const OFFERS_PER_EVENT: usize = 500;

impl Core {
    /// Makes the offers that became possible.
    pub(super) fn allocate(&mut self) {
        let agents = std::mem::take(&mut self.touched_agents);
        let frameworks = std::mem::take(&mut self.touched_frameworks);
        if agents.is_empty() && frameworks.is_empty() {
            return;
        }
        self.counters.add("allocator/mesos/allocation_runs", 1);
        self.shares.refresh();
        for agent in &agents {
            self.note_available(agent);
        }
        let mut candidates: Vec<AgentId> = if frameworks.is_empty() {
            agents.iter().filter(|agent| self.available.contains(*agent)).cloned().collect()
        } else {
            self.available.iter().cloned().collect()
        };
        self.shuffle(&mut candidates);
        let mut made: BTreeMap<FrameworkId, Vec<pb::Offer>> = BTreeMap::new();
        for agent in &candidates {
            let only = (!agents.contains(agent)).then_some(&frameworks);
            self.allocate_agent(agent, only, &mut made);
        }
        for (framework, mut offers) in made {
            while !offers.is_empty() {
                let rest = offers.split_off(offers.len().min(OFFERS_PER_EVENT));
                self.send(&framework, events::offers(offers));
                offers = rest;
            }
        }
    }

    /// Keeps the index of agents with something left.
    pub(super) fn note_available(&mut self, id: &AgentId) {
        let agent = self.agents.get(id).filter(|agent| agent.is_active());
        if agent.is_some_and(|agent| self.is_allocatable(&agent.free())) {
            self.available.insert(id.clone());
        } else {
            self.available.remove(id);
        }
    }

    fn is_allocatable(&self, resources: &Resources) -> bool {
        let scalars = resources.scalars();
        !resources.is_empty() && self.config.min_allocatable.iter().any(|least| scalars.contains(least))
    }

    /// Offers what an agent has left, to `only` these frameworks or to all.
    fn allocate_agent(
        &mut self,
        agent: &AgentId,
        only: Option<&BTreeSet<FrameworkId>>,
        made: &mut BTreeMap<FrameworkId, Vec<pb::Offer>>,
    ) {
        let Some(mut free) = self.agents.get(agent).map(super::Agent::free) else { return };
        let mut role_rank = None;
        while let Some(rank) = self.shares.next_role(role_rank.as_ref()) {
            let role = rank.2.clone();
            role_rank = Some(rank);
            let mut framework_rank = None;
            while let Some(rank) = self.shares.next_framework(&role, framework_rank.as_ref()) {
                let framework = rank.2.clone();
                framework_rank = Some(rank);
                if only.is_some_and(|only| !only.contains(&framework)) {
                    continue;
                }
                let place = Place { agent: agent.clone(), framework: framework.clone(), role: role.clone() };
                let Some(resources) = self.suitable(&place, &free) else { continue };
                free.subtract_all(&resources);
                if let Some(offer) = self.make_offer(place, resources) {
                    made.entry(framework).or_default().push(offer);
                }
                if !self.is_allocatable(&free) {
                    self.available.remove(agent);
                    return;
                }
            }
        }
    }

    /// What of `free` the framework may be offered, in the order of Mesos's tests (2.3); none if nothing.
    fn suitable(&self, place: &Place, free: &Resources) -> Option<Resources> {
        let framework = self.frameworks.get(&place.framework)?;
        let agent = self.agents.get(&place.agent)?;
        if self.config.filter_gpus && agent.total.gpus().0 > 0 && !framework.has(CapabilityType::GpuResources)
        {
            return None;
        }
        let revocable = framework.has(CapabilityType::RevocableResources);
        let shared = framework.has(CapabilityType::SharedResources);
        let refined = framework.has(CapabilityType::ReservationRefinement);
        let resources = free.filter(|resource| {
            resource.is_allocatable_to(place.role.as_str())
                && (revocable || !resource.revocable)
                && (shared || !resource.shared)
                && (refined || resource.reservations.len() <= 1)
        });
        let wanted = self.is_worth_offering(framework, &place.role, &resources)
            && !framework.filters.hides(&place.agent, &place.role, &resources);
        wanted.then_some(resources)
    }

    /// Whether the resources reach the framework's own minimum for the role, or the cluster's.
    fn is_worth_offering(
        &self,
        framework: &super::Framework,
        role: &RoleName,
        resources: &Resources,
    ) -> bool {
        let own = framework.info.offer_filters.get(role.as_str());
        let Some(own) = own.and_then(|filters| filters.min_allocatable_resources.as_ref()) else {
            return self.is_allocatable(resources);
        };
        let scalars = resources.scalars();
        let reaches = |least: &pb::offer_filters::ResourceQuantities| {
            least.quantities.iter().all(|(name, quantity)| scalars.get(name).to_f64() >= quantity.value)
        };
        !resources.is_empty() && (own.quantities.is_empty() || own.quantities.iter().any(reaches))
    }

    /// A random order, the same for the same history.
    fn shuffle(&mut self, agents: &mut [AgentId]) {
        for last in (1..agents.len()).rev() {
            // xorshift64: good enough to spread, and needs no source of randomness here.
            self.shuffle ^= self.shuffle << 13;
            self.shuffle ^= self.shuffle >> 7;
            self.shuffle ^= self.shuffle << 17;
            let bound = u64::try_from(last + 1).unwrap_or(u64::MAX);
            agents.swap(last, usize::try_from(self.shuffle % bound).unwrap_or(0));
        }
    }
}
