//! Offers: made, answered, rescinded.

use meshos_proto::mesos::v1::{self as pb, framework_info::capability::Type as CapabilityType};
use meshos_types::{Format, OfferId, Resources};

use super::{Core, account::Place, agent::Agent, events, framework::Framework, timers::Timer};

/// Resources of one agent that a framework may take, in one role.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) id: OfferId,
    pub(crate) place: Place,
    /// Not allocated to a role, as the agent's own.
    pub(crate) resources: Resources,
    /// When it is rescinded.
    pub(crate) due_ms: Option<u64>,
}

impl Offer {
    /// As others of the mesh see it: allocated, reservations as stacks.
    pub(crate) fn to_internal(&self, agent: &Agent) -> pb::Offer {
        self.message(agent, Format::PostRefinement, true)
    }

    /// As its framework sees it.
    pub(crate) fn to_framework(&self, agent: &Agent, framework: &Framework) -> pb::Offer {
        self.message(agent, framework.format(), framework.has(CapabilityType::MultiRole))
    }

    fn message(&self, agent: &Agent, format: Format, allocated: bool) -> pb::Offer {
        let role = &self.place.role;
        let resources = if allocated { &self.resources.allocate(role) } else { &self.resources };
        let (host, port) = agent.address();
        let address = pb::Address { hostname: Some(agent.info.hostname.clone()), ip: Some(host), port };
        pb::Offer {
            id: self.id.to_proto(),
            framework_id: self.place.framework.to_proto(),
            agent_id: self.place.agent.to_proto(),
            hostname: agent.info.hostname.clone(),
            url: Some(pb::Url {
                scheme: "http".to_owned(),
                address,
                path: Some("/slave(1)".to_owned()),
                query: Vec::new(),
                fragment: None,
            }),
            domain: agent.info.domain.clone(),
            resources: resources.to_proto(format),
            attributes: agent.info.attributes.clone(),
            executor_ids: Vec::new(),
            unavailability: None,
            allocation_info: allocated.then(|| pb::resource::AllocationInfo { role: Some(role.to_string()) }),
        }
    }
}

impl Core {
    /// Makes an offer of resources that count as offered, and returns its message for the framework.
    pub(super) fn make_offer(&mut self, place: Place, resources: Resources) -> Option<pb::Offer> {
        let id = OfferId::new(format!("{}-O{}", self.config.master.id, self.next_offer));
        self.next_offer += 1;
        let due_ms = self.config.offer_timeout_ms.map(|timeout| self.now + timeout);
        let offer = Offer { id: id.clone(), place, resources, due_ms };
        let agent = self.agents.get_mut(&offer.place.agent)?;
        let framework = self.frameworks.get_mut(&offer.place.framework)?;
        agent.offers.insert(id.clone());
        framework.offers.insert(id.clone());
        let message = offer.to_framework(agent, framework);
        let published = offer.to_internal(agent);
        self.publish_offer(published);
        self.counters.add("master/offers_sent", 1);
        if let Some(due) = due_ms {
            self.timers.set(due, Timer::Offer(id.clone()));
        }
        self.offers.insert(id, offer);
        Some(message)
    }

    /// Takes an offer back; its resources are free.
    pub(super) fn take_offer(&mut self, id: &OfferId) -> Option<Offer> {
        let offer = self.offers.remove(id)?;
        if let Some(agent) = self.agents.get_mut(&offer.place.agent) {
            agent.offers.remove(id);
        }
        if let Some(framework) = self.frameworks.get_mut(&offer.place.framework) {
            framework.offers.remove(id);
        }
        if let Some(due) = offer.due_ms {
            self.timers.cancel(due, Timer::Offer(id.clone()));
        }
        self.free_offered(&offer.place, &offer.resources);
        self.publish_offer_removed(id);
        Some(offer)
    }

    /// Takes an offer back and tells its framework.
    pub(super) fn rescind(&mut self, id: &OfferId) {
        if let Some(offer) = self.take_offer(id) {
            self.counters.add("master/offers_rescinded", 1);
            self.send(&offer.place.framework, events::rescind(id));
        }
    }

    /// Hides `refused` from its framework for as long as `filters` says (Mesos 2.6).
    pub(super) fn refuse(&mut self, place: &Place, refused: Resources, filters: Option<&pb::Filters>) {
        if refused.is_empty() {
            return;
        }
        let due = self.now + refuse_ms(filters).max(self.config.min_filter_ms);
        let number = self.next_filter;
        self.next_filter += 1;
        let Some(framework) = self.frameworks.get_mut(&place.framework) else { return };
        let key = (place.agent.clone(), place.role.clone());
        let covered = framework.filters.add(key, number, due, refused);
        self.cancel_filters(&place.framework, covered);
        let (framework, agent, role) = (place.framework.clone(), place.agent.clone(), place.role.clone());
        self.timers.set(due, Timer::Filter { framework, agent, role, number });
    }

    /// Cancels the timers of refusals that are gone.
    pub(super) fn cancel_filters(
        &mut self,
        framework: &meshos_types::FrameworkId,
        ended: Vec<super::filters::Ended>,
    ) {
        for (due, number, agent, role) in ended {
            let framework = framework.clone();
            self.timers.cancel(due, Timer::Filter { framework, agent, role, number });
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
