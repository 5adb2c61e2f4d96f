//! Who is offered what, at once after every change (Mesos `hierarchical.cpp`, event-driven).
//!
//! An agent with more to offer than before is offered to everybody in the order of shares. A framework that
//! wants more than before is considered on the agents that have something left. What a quota held back is looked at
//! again when that quota has room. Nothing else is looked at: what has not changed has been decided before.

mod suitable;

use std::collections::{BTreeMap, BTreeSet};

use meshos_proto::mesos::v1 as pb;
use meshos_types::{AgentId, FrameworkId, Resources, RoleName};

use super::{
    Core,
    account::Place,
    events,
    quota::{Held, Stage, top},
    shares::RoleCursor,
};

/// Offers in one event; more go into further events.
const OFFERS_PER_EVENT: usize = 500;

/// What one run gives away: one offer for each framework, agent and role.
type Grants = BTreeMap<FrameworkId, BTreeMap<(AgentId, RoleName), Resources>>;

/// One run.
#[derive(Debug)]
struct Run {
    /// Agents that are offered to everybody.
    agents: BTreeSet<AgentId>,
    /// Frameworks that are considered on the other agents.
    frameworks: BTreeSet<FrameworkId>,
    grants: Grants,
}

impl Core {
    /// Makes the offers that became possible.
    pub(super) fn allocate(&mut self) {
        if self.recovery_hold.is_some() && self.waits_for_agents() {
            return;
        }
        self.refresh_headroom();
        let held = self.quotas.take_held();
        if self.touched_agents.is_empty() && self.touched_frameworks.is_empty() && held.is_empty() {
            return;
        }
        self.counters.add("allocator/mesos/allocation_runs", 1);
        self.shares.refresh();
        let mut run = Run {
            agents: std::mem::take(&mut self.touched_agents),
            frameworks: std::mem::take(&mut self.touched_frameworks),
            grants: Grants::new(),
        };
        for agent in &run.agents {
            self.note_available(agent);
        }
        let mut candidates: Vec<AgentId> = if run.frameworks.is_empty() {
            run.agents.iter().filter(|agent| self.available.contains(*agent)).cloned().collect()
        } else {
            self.available.iter().cloned().collect()
        };
        self.meet_guarantees(&mut candidates, &held, &mut run);
        self.shuffle(&mut candidates);
        for agent in &candidates {
            let only = !run.agents.contains(agent);
            self.allocate_agent(agent, (Stage::Everybody, only), &mut run);
        }
        self.allocate_held(held, &mut run);
        self.make_offers(run.grants);
    }

    /// The first round: for roles whose guarantee is not met.
    fn meet_guarantees(&mut self, candidates: &mut Vec<AgentId>, held: &Held, run: &mut Run) {
        if !self.anybody_waits_for_a_guarantee() {
            return;
        }
        let mut agents = candidates.clone();
        agents.extend(held.headroom.iter().filter(|agent| self.available.contains(*agent)).cloned());
        self.shuffle(&mut agents);
        for agent in &agents {
            if !self.anybody_waits_for_a_guarantee() {
                break;
            }
            self.allocate_agent(agent, (Stage::Guarantees, false), run);
        }
        candidates.retain(|agent| self.available.contains(agent));
    }

    fn anybody_waits_for_a_guarantee(&self) -> bool {
        self.quotas.unmet_roles().any(|role| self.shares.is_active(role))
    }

    /// Agents that a quota held back, until its room is used up.
    fn allocate_held(&mut self, held: Held, run: &mut Run) {
        for (role, agents) in held.limits {
            let mut agents = agents.into_iter();
            while self.quotas.has_room(&role)
                && let Some(agent) = agents.next()
            {
                self.allocate_again(&agent, run);
            }
            for agent in agents {
                self.quotas.hold_back(&role, &agent, super::quota::Cut { limit: true, headroom: false });
            }
        }
        let mut agents = held.headroom.into_iter();
        while !self.quotas.is_exhausted()
            && let Some(agent) = agents.next()
        {
            self.allocate_again(&agent, run);
        }
        for agent in agents {
            let cut = super::quota::Cut { limit: false, headroom: true };
            self.quotas.hold_back(&RoleName::star(), &agent, cut);
        }
    }

    fn allocate_again(&mut self, agent: &AgentId, run: &mut Run) {
        if self.available.contains(agent) {
            self.allocate_agent(agent, (Stage::Everybody, false), run);
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
        let reaches = |least: &meshos_types::Quantities| {
            least.iter().all(|(name, quantity)| resources.scalar(name) >= quantity)
        };
        !resources.is_empty() && self.config.min_allocatable.iter().any(reaches)
    }

    /// Offers what an agent has left to all frameworks, or to those of the run only.
    fn allocate_agent(&mut self, agent: &AgentId, (stage, only): (Stage, bool), run: &mut Run) {
        let Some(mut free) = self.agents.get(agent).map(super::Agent::free) else { return };
        let mut cursor = RoleCursor::default();
        while let Some(role) = self.shares.next_role(&mut cursor) {
            if stage == Stage::Guarantees && !self.quotas.is_unmet(&top(&role)) {
                continue;
            }
            let mut framework_rank = None;
            while let Some(rank) = self.shares.next_framework(&role, framework_rank.as_ref()) {
                let framework = rank.2.clone();
                framework_rank = Some(rank);
                if only && !run.frameworks.contains(&framework) {
                    continue;
                }
                let place = Place { agent: agent.clone(), framework, role: role.clone() };
                let Some(resources) = self.judge(&place, &free, stage) else { continue };
                free.subtract_all(&resources);
                self.grant(place, &resources, run);
                if !self.is_allocatable(&free) {
                    self.available.remove(agent);
                    return;
                }
            }
        }
    }

    /// The resources count as offered from now on.
    fn grant(&mut self, place: Place, resources: &Resources, run: &mut Run) {
        self.hold_offered(&place, resources);
        // Later decisions of this run must know.
        self.refresh_headroom();
        let of_framework = run.grants.entry(place.framework).or_default();
        of_framework.entry((place.agent, place.role)).or_default().add_all(resources);
    }

    fn make_offers(&mut self, grants: Grants) {
        for (framework, places) in grants {
            let mut offers: Vec<pb::Offer> = Vec::with_capacity(places.len());
            for ((agent, role), resources) in places {
                let place = Place { agent, framework: framework.clone(), role };
                offers.extend(self.make_offer(place, resources));
            }
            while !offers.is_empty() {
                let rest = offers.split_off(offers.len().min(OFFERS_PER_EVENT));
                self.send(&framework, events::offers(offers));
                offers = rest;
            }
        }
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
