//! Who is offered what, at once after every change (Mesos `hierarchical.cpp`, event-driven).
//!
//! An agent with more to offer than before is offered to everybody in the order of shares. A framework that
//! wants more than before is considered on the agents that have something left. What a quota held back is looked at
//! again when that quota has room. Nothing else is looked at: what has not changed has been decided before.

mod candidates;
mod held;
mod serve;
mod suitable;

use meshos_types::{FrameworkId, Quantities, Resources};

use super::{
    AgentKey, Core, FrameworkKey, RoleKey, events, offers::OfferNo, quota::Stage, shares::RoleCursor,
};

/// Offers in one event; more go into further events.
const OFFERS_PER_EVENT: usize = 500;
/// With so many touched clients at most, only these are looked at on agents that have not changed.
const FEW: usize = 8;

/// Agents that are fetched from memory together.
const TOGETHER: usize = 16;

/// One run.
#[derive(Debug)]
struct Run {
    /// Clients that are considered on agents that have not changed; empty: there are too many for that, all are walked.
    few: Vec<(RoleKey, FrameworkKey)>,
    /// The first offer that it makes.
    first: OfferNo,
    /// Kept for its memory.
    cursor: RoleCursor,
}

/// Who is considered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whom {
    Everybody,
    /// Frameworks that want more than before.
    Touched,
    /// Those of one role and of the roles below it.
    Below(RoleKey),
}

impl Core {
    /// Decides which offers became possible. Their messages are made by [`Core::send_offers`].
    pub(super) fn allocate(&mut self) {
        if self.recovery_hold.is_some() && self.waits_for_agents() {
            return;
        }
        self.settle_standings();
        let held = self.quotas.take_held(self.shares.has_picky());
        if self.touched_agents.is_empty() && self.touched_frameworks.is_empty() && held.is_empty() {
            return;
        }
        self.counters.add("allocator/mesos/allocation_runs", 1);
        self.shares.refresh();
        let agents = std::mem::take(&mut self.touched_agents);
        let frameworks = std::mem::take(&mut self.touched_frameworks);
        let first = self.offers.next_number();
        let mut run = Run { few: self.few(&frameworks), first, cursor: RoleCursor::default() };
        let mut candidates = agents.clone();
        if !frameworks.is_empty() && !self.is_pointless(&run.few) {
            candidates.extend(self.available.iter().filter(|agent| !self.is_touched(**agent)));
        }
        self.meet_guarantees(&mut candidates, &mut run);
        self.shuffle(&mut candidates);
        for some in candidates.chunks(TOGETHER) {
            self.fetch(some);
            for agent in some {
                let whom = if self.is_touched(*agent) { Whom::Everybody } else { Whom::Touched };
                self.allocate_agent(*agent, (Stage::Everybody, whom), &mut run);
            }
        }
        self.allocate_held(held, &mut run);
        self.quotas.note_floor();
        self.untouch(&agents, &frameworks);
    }

    /// The first round: for roles whose guarantee is not met.
    fn meet_guarantees(&mut self, agents: &mut [AgentKey], run: &mut Run) {
        if !self.shares.has_needy() {
            return;
        }
        self.shuffle(agents);
        for agent in agents {
            if !self.shares.has_needy() {
                break;
            }
            self.allocate_agent(*agent, (Stage::Guarantees, Whom::Everybody), run);
        }
    }

    /// Tells frameworks and readers of the offers that were made.
    pub(super) fn send_offers(&mut self) {
        let mut made = std::mem::take(&mut self.made);
        made.sort_unstable();
        for of_framework in made.chunk_by(|one, next| one.0 == next.0) {
            for part in of_framework.chunks(OFFERS_PER_EVENT) {
                self.send_some(part);
            }
        }
    }

    fn send_some(&mut self, made: &[(FrameworkKey, OfferNo)]) {
        let Some((key, _)) = made.first() else { return };
        let (Some(id), Some(framework)) = (self.frameworks.id_at(*key), self.frameworks.at(*key)) else {
            return;
        };
        let id: FrameworkId = id.clone();
        let offers = made.iter().filter_map(|(_, number)| self.offer_for(*number, framework)).collect();
        for (_, number) in made {
            self.publish_offer(*number);
        }
        self.send(&id, events::offers(offers));
    }

    /// Whether the resources are worth an offer.
    fn is_allocatable(&self, resources: &Resources) -> bool {
        !resources.is_empty() && self.reaches_least(&resources.digest().scalars)
    }

    fn reaches_least(&self, quantities: &Quantities) -> bool {
        self.config.min_allocatable.iter().any(|least| quantities.contains(least))
    }

    /// Reads a little of several agents that are needed next. They lie far apart in memory, and one after the other each
    /// would be waited for; the processor fetches all of these at once.
    fn fetch(&self, agents: &[AgentKey]) {
        let known = || agents.iter().filter_map(|agent| self.agents.at(*agent));
        let offers: usize = known().map(|agent| agent.offers.len()).sum();
        let parts: usize = known().map(super::Agent::fetch).sum();
        std::hint::black_box((offers, parts));
    }

    /// A random order, the same for the same history.
    fn shuffle(&mut self, agents: &mut [AgentKey]) {
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
