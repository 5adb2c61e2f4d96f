//! Offers: made, answered, rescinded.

mod message;
mod outstanding;

use meshos_proto::mesos::v1 as pb;
use meshos_types::{FrameworkId, Resources, RoleName};

use super::{
    AgentKey, Core, FrameworkKey,
    account::{Place, Spot},
    events,
    filters::{Ended, FilterKey},
    timers::Timer,
};
pub(crate) use outstanding::{OfferName, OfferNo, Offers};

/// Resources of one agent that a framework may take, in one role.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) number: OfferNo,
    pub(crate) place: Place,
    agent: AgentKey,
    framework: FrameworkKey,
    /// Not allocated to a role, as the agent's own.
    pub(crate) resources: Resources,
    /// When it is rescinded.
    due_ms: Option<u64>,
    /// Executors of its framework that the agent had when it was made.
    executor_ids: Vec<pb::ExecutorId>,
}

impl Offer {
    pub(super) fn agent(&self) -> AgentKey {
        self.agent
    }
}

impl Core {
    /// Makes an offer of resources that count as offered. Its messages are made later. One that was made for the same
    /// spot since `first` becomes larger instead: then there is none that is new.
    pub(super) fn make_offer(&mut self, spot: Spot, resources: Resources, first: OfferNo) -> Option<OfferNo> {
        let made = self.agents.at(spot.agent)?.offers.iter().rev().copied();
        for number in made.take_while(|number| *number >= first).collect::<Vec<_>>() {
            let same_role = |offer: &Offer| self.shares.name(spot.role) == Some(&offer.place.role);
            if self
                .offers
                .get(&number)
                .is_some_and(|offer| offer.framework == spot.framework && same_role(offer))
            {
                self.offers.get_mut(number)?.resources.add_all(&resources);
                return None;
            }
        }
        let place = self.place(spot)?;
        let executor_ids = self.executors.ids(&place.agent, &place.framework);
        let number = self.offers.next_number();
        let due_ms = self.config.offer_timeout_ms.map(|timeout| self.now + timeout);
        let agent = self.agents.at_mut(spot.agent)?;
        agent.offers.reserve_exact(1);
        agent.offers.push(number);
        let framework = self.frameworks.at_mut(spot.framework)?;
        framework.offers.insert(number);
        framework.figures.offers_sent += 1;
        if let Some(due) = due_ms {
            self.timers.set(due, Timer::Offer(number));
        }
        let (agent, framework) = (spot.agent, spot.framework);
        self.offers.insert(Offer { number, place, agent, framework, resources, due_ms, executor_ids });
        Some(number)
    }

    /// Takes an offer back; its resources are free.
    pub(super) fn take_offer(&mut self, name: &impl OfferName) -> Option<Offer> {
        let offer = self.offers.remove(name)?;
        if let Some(agent) = self.agents.at_mut(offer.agent) {
            agent.offers.retain(|number| *number != offer.number);
        }
        if let Some(framework) = self.frameworks.at_mut(offer.framework) {
            framework.offers.remove(&offer.number);
        }
        if let Some(due) = offer.due_ms {
            self.timers.cancel(due, Timer::Offer(offer.number));
        }
        self.free_offered(&offer.place, (offer.agent, offer.framework), &offer.resources);
        self.publish_offer_removed(offer.number);
        Some(offer)
    }

    /// Takes an offer back and tells its framework.
    pub(super) fn rescind(&mut self, name: &impl OfferName) {
        if let Some(offer) = self.take_offer(name) {
            if let Some(framework) = self.frameworks.at_mut(offer.framework) {
                framework.figures.offers_rescinded += 1;
            }
            let rescind = events::rescind(&self.offers.id(offer.number));
            self.send(&offer.place.framework, rescind);
        }
    }

    /// Hides `refused` from its framework for as long as `filters` says (Mesos 2.6).
    pub(super) fn refuse(&mut self, place: &Place, refused: Resources, filters: Option<&pb::Filters>) {
        let keys = (self.agents.key(&place.agent), self.frameworks.key(&place.framework));
        if let (Some(agent), Some(framework)) = keys {
            self.refuse_at((agent, framework), &place.role, refused, filters);
        }
    }

    /// The same with a whole offer.
    pub(super) fn refuse_offer(&mut self, offer: Offer, filters: Option<&pb::Filters>) {
        self.refuse_at((offer.agent, offer.framework), &offer.place.role, offer.resources, filters);
    }

    fn refuse_at(
        &mut self,
        (agent, framework): (AgentKey, FrameworkKey),
        role: &RoleName,
        refused: Resources,
        filters: Option<&pb::Filters>,
    ) {
        let Some(known) = self.frameworks.at_mut(framework).filter(|_| !refused.is_empty()) else { return };
        let due = self.now + refuse_ms(filters).max(self.config.min_filter_ms);
        let number = self.next_filter;
        self.next_filter += 1;
        for Ended { due_ms, number, .. } in known.filters.add((agent, role), number, due, refused) {
            self.timers.cancel(due_ms, Timer::Filter(FilterKey { framework, agent, number }));
        }
        self.timers.set(due, Timer::Filter(FilterKey { framework, agent, number }));
    }

    /// Cancels the timers of refusals that are gone.
    pub(super) fn cancel_filters(&mut self, framework: &FrameworkId, ended: Vec<Ended>) {
        if ended.is_empty() {
            return;
        }
        let Some(framework) = self.frameworks.key(framework) else { return };
        for Ended { due_ms, agent, number } in ended {
            self.timers.cancel(due_ms, Timer::Filter(FilterKey { framework, agent, number }));
        }
    }

    /// All refusals on an agent end.
    pub(super) fn clear_filters_of_agent(&mut self, id: &meshos_types::AgentId) {
        let Some(agent) = self.agents.key(id) else { return };
        for key in self.frameworks.all_keys().collect::<Vec<_>>() {
            let Some(framework) = self.frameworks.at_mut(key) else { continue };
            for Ended { due_ms, agent, number } in framework.filters.clear_agent(agent) {
                self.timers.cancel(due_ms, Timer::Filter(FilterKey { framework: key, agent, number }));
            }
        }
    }
}

/// How long a refusal lasts: 5 s unless told, at most 365 days; a negative time means the default.
fn refuse_ms(filters: Option<&pb::Filters>) -> u64 {
    const DEFAULT: f64 = 5.0;
    const MOST: f64 = 31_536_000.0;
    let told = filters.and_then(|filters| filters.refuse_seconds).unwrap_or(DEFAULT);
    let seconds = if told.is_nan() || told < 0.0 { DEFAULT } else { told.min(MOST) };
    super::framework::seconds_to_ms(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mesos_c18_odd_refusals_are_put_right() {
        let of = |seconds| refuse_ms(Some(&pb::Filters { refuse_seconds: Some(seconds) }));
        assert_eq!(refuse_ms(None), 5_000);
        assert_eq!(of(-1.0), 5_000);
        assert_eq!(of(f64::NAN), 5_000);
        assert_eq!(of(0.0), 0);
        assert_eq!(of(1e9), 31_536_000_000);
    }
}
