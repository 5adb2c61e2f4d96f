//! ACCEPT: offers become tasks, atomically (Mesos 2.7, 2.8).

mod launch;
mod refusal;

use meshos_proto::mesos::v1::{
    self as pb, TaskState, offer::operation, scheduler::call, task_status::Reason,
};
use meshos_types::{AgentId, FrameworkId, OfferId, Resources};

use self::launch::Launches;
use super::{Core, account::Place, events::Verdict, shared::subtract_unshared};

/// The offers of an ACCEPT: what they are of, and what is left of them.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) place: Place,
    pub(super) rest: Resources,
    /// What of the rest was made by operations of this ACCEPT.
    pub(super) converted: Resources,
}

impl Taken {
    /// A task or an executor takes its part; a shared volume stays for the next one.
    fn take(&mut self, resources: &Resources) {
        subtract_unshared(&mut self.rest, resources);
        subtract_unshared(&mut self.converted, resources);
    }
}

impl Core {
    pub(super) fn accept(&mut self, id: &FrameworkId, accept: call::Accept, traceparent: &str) {
        let mut taken = match self.take_accepted(id, &accept.offer_ids) {
            Ok(taken) => taken,
            Err(verdict) => return self.fail_operations(id, accept.operations, &verdict),
        };
        if let Some(verdict) = self.agent_away(id, &taken.place.agent) {
            return self.fail_operations(id, accept.operations, &verdict);
        }
        let mut launches = Launches::default();
        for operation in accept.operations {
            self.count_operation(id, operation.r#type());
            match operation.r#type() {
                operation::Type::Launch => self.launch(&mut taken, operation, &mut launches),
                operation::Type::LaunchGroup => self.launch_group(&mut taken, operation, &mut launches),
                _ => self.operate(&mut taken, operation),
            }
        }
        let launched = !launches.is_empty();
        self.send_launches(&taken.place, launches, traceparent);
        // What was made just now comes back at once.
        taken.rest.subtract_all(&taken.converted);
        if launched && asks_for_all(accept.filters.as_ref()) {
            // Its resources are free already, and without a refusal the next offer comes at once. There is no endless
            // round: each one launches something.
            return;
        }
        self.refuse(&taken.place, taken.rest, accept.filters.as_ref());
    }

    /// Takes the offers if all of them are valid. If one is not, the framework's own go back without a filter,
    /// and those of others stay where they are.
    fn take_accepted(&mut self, id: &FrameworkId, ids: &[pb::OfferId]) -> Result<Taken, Verdict> {
        let ids: Vec<OfferId> = ids.iter().map(OfferId::from).collect();
        let checked = self.check_offers(id, &ids);
        let mut rest = Resources::new();
        for offer in &ids {
            if self.owns(id, offer)
                && let Some(offer) = self.take_offer(offer)
            {
                rest.add_all(&offer.resources);
            }
        }
        match checked {
            Ok(place) => {
                if let Some(framework) = self.frameworks.get_mut(id) {
                    framework.figures.offers_accepted += u64::try_from(ids.len()).unwrap_or_default();
                }
                Ok(Taken { place, rest, converted: Resources::new() })
            }
            Err(fault) => Err(Verdict {
                state: self.dropped(id),
                reason: Reason::InvalidOffers,
                message: format!("Task launched with invalid offers: {fault}"),
            }),
        }
    }

    fn check_offers(&self, id: &FrameworkId, ids: &[OfferId]) -> Result<Place, String> {
        let mut seen = std::collections::BTreeSet::new();
        if let Some(twice) = ids.iter().find(|offer| !seen.insert(*offer)) {
            return Err(format!("Duplicate offer {twice} in offer list"));
        }
        let mut common: Option<&Place> = None;
        for offer_id in ids {
            let Some(offer) = self.offers.get(offer_id) else {
                return Err(format!("Offer {offer_id} is no longer valid"));
            };
            let place = &offer.place;
            if place.framework != *id {
                let owner = &place.framework;
                return Err(format!(
                    "Offer {offer_id} has invalid framework {owner} while framework {id} is expected"
                ));
            }
            match common {
                Some(first) if first.role != place.role => {
                    return Err(format!(
                        "Aggregated offers must be allocated to the same role. Offer {offer_id} uses role \
                         {} but another is using role {}",
                        place.role, first.role
                    ));
                }
                Some(first) if first.agent != place.agent => {
                    return Err(format!(
                        "Aggregated offers must belong to one single agent. Offer {offer_id} uses agent {} \
                         and agent {}",
                        place.agent, first.agent
                    ));
                }
                _ => common = Some(place),
            }
        }
        common.cloned().ok_or_else(|| "No offers specified".to_owned())
    }

    fn agent_away(&self, id: &FrameworkId, agent: &AgentId) -> Option<Verdict> {
        let (reason, message) = match self.agents.get(agent) {
            None => (Reason::AgentRemoved, format!("Agent {agent} was removed")),
            Some(known) if !known.is_active() => {
                (Reason::AgentDisconnected, format!("Agent {agent} is disconnected"))
            }
            Some(_) => return None,
        };
        Some(Verdict { state: self.dropped(id), reason, message })
    }

    fn dropped(&self, id: &FrameworkId) -> TaskState {
        let framework = self.frameworks.get(id);
        framework.map_or(TaskState::TaskLost, |framework| framework.state_or_lost(TaskState::TaskDropped))
    }
}

/// Whether what is left may come back at once: `refuse_seconds` is 0.
fn asks_for_all(filters: Option<&pb::Filters>) -> bool {
    filters.and_then(|filters| filters.refuse_seconds) == Some(0.0)
}
