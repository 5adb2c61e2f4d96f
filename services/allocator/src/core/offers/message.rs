//! Offers as messages.

use meshos_proto::mesos::v1::{self as pb, framework_info::capability::Type as CapabilityType};
use meshos_types::Format;

use super::{Offer, OfferNo};
use crate::core::{Core, Framework, agent::About};

impl Offer {
    /// `allocated`: whether its role is told. When its agent is to be away is left out.
    pub(in crate::core) fn message(
        &self,
        id: String,
        agent: &About,
        format: Format,
        allocated: bool,
    ) -> pb::Offer {
        let role = &self.place.role;
        let (host, port) = agent.address();
        let hostname = &agent.info.hostname;
        let address = pb::Address { hostname: Some(hostname.clone()), ip: Some(host.to_owned()), port };
        pb::Offer {
            id: pb::OfferId { value: id },
            framework_id: self.place.framework.to_proto(),
            agent_id: self.place.agent.to_proto(),
            hostname: hostname.clone(),
            url: Some(pb::Url {
                scheme: "http".to_owned(),
                address,
                path: Some("/slave(1)".to_owned()),
                query: Vec::new(),
                fragment: None,
            }),
            domain: agent.info.domain.clone(),
            resources: match allocated {
                true => self.resources.to_proto_for(role, format),
                false => self.resources.to_proto(format),
            },
            attributes: agent.info.attributes.clone(),
            executor_ids: self.executor_ids.clone(),
            unavailability: None,
            allocation_info: allocated.then(|| pb::resource::AllocationInfo { role: Some(role.to_string()) }),
        }
    }
}

impl Core {
    /// As others of the mesh see it: allocated, reservations as stacks.
    pub(crate) fn offer_view(&self, offer: &Offer) -> Option<pb::Offer> {
        let agent = self.agents.at(offer.agent)?;
        let message =
            offer.message(self.offers.text(offer.number), &agent.about, Format::PostRefinement, true);
        Some(pb::Offer { unavailability: agent.unavailability, ..message })
    }

    /// As its framework sees it.
    pub(crate) fn offer_for(&self, number: OfferNo, framework: &Framework) -> Option<pb::Offer> {
        let offer = self.offers.get(&number)?;
        let agent = self.agents.at(offer.agent)?;
        let allocated = framework.has(CapabilityType::MultiRole);
        let message = offer.message(self.offers.text(number), &agent.about, framework.format(), allocated);
        Some(pb::Offer { unavailability: agent.unavailability, ..message })
    }
}
