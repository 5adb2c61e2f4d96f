//! What of an agent's free resources a framework may be offered, in the order of Mesos's tests (2.3).

use meshos_proto::mesos::v1::{framework_info::capability::Type as CapabilityType, offer_filters};
use meshos_types::{Resource, Resources, RoleName};

use crate::core::{
    Agent, Core, Framework,
    account::Spot,
    constraints::fault_domain,
    explain::Refusal,
    quota::{Cut, Stage},
};

impl Core {
    /// What the framework is offered of `free`, if anything; what is decided is counted.
    pub(super) fn judge(&mut self, spot: Spot, free: &Resources, stage: Stage) -> Option<Resources> {
        let role = self.shares.name(spot.role)?;
        let (verdict, cut) = self.suitable(spot, role, free, stage)?;
        if cut != Cut::default() {
            self.quotas.hold_back(role, spot.agent, cut);
        }
        let framework = self.frameworks.at_mut(spot.framework)?;
        let tally = match framework.tallies.get_mut(role) {
            Some(tally) => tally,
            None => framework.tallies.entry(role.clone()).or_default(),
        };
        match verdict {
            Ok(resources) => {
                tally.offered += 1;
                Some(resources)
            }
            Err(refusal) => {
                tally.refuse(refusal);
                None
            }
        }
    }

    /// None only for a framework or agent that does not exist.
    pub(in crate::core) fn suitable(
        &self,
        spot: Spot,
        role: &RoleName,
        free: &Resources,
        stage: Stage,
    ) -> Option<(Result<Resources, Refusal>, Cut)> {
        let framework = self.frameworks.at(spot.framework)?;
        let agent = self.agents.at(spot.agent)?;
        let refused = |refusal| Some((Err(refusal), Cut::default()));
        if !framework.constraints.admit(role, &agent.about.info) {
            return refused(Refusal::Constraint);
        }
        if self.config.filter_gpus && agent.total.gpus().0 > 0 && !framework.has(CapabilityType::GpuResources)
        {
            return refused(Refusal::Capability);
        }
        if self.is_remote(agent) && !framework.has(CapabilityType::RegionAware) {
            return refused(Refusal::Region);
        }
        let visible = visible(framework, role, free);
        if visible.is_empty() {
            return refused(Refusal::Capability);
        }
        let (resources, cut) = match self.quotas.is_empty() {
            true => (visible, Cut::default()),
            false => self.quotas.shrink(role, &visible, stage),
        };
        let verdict = if !self.is_worth_offering(framework, role, &resources) {
            Err(match cut {
                Cut { limit: true, .. } => Refusal::QuotaLimit,
                Cut { headroom: true, .. } => Refusal::QuotaHeadroom,
                _ => Refusal::TooSmall,
            })
        } else if framework.filters.hides(spot.agent, role, &resources) {
            Err(Refusal::Filter)
        } else {
            Ok(resources)
        };
        Some((verdict, cut))
    }

    /// Whether the agent is in another region than the allocator (Mesos 1.9).
    fn is_remote(&self, agent: &Agent) -> bool {
        let here = fault_domain(self.config.master.domain.as_ref());
        let there = fault_domain(agent.about.info.domain.as_ref());
        matches!((here, there), (Some(here), Some(there)) if here.region.name != there.region.name)
    }

    /// Whether the resources reach the framework's own minimum for the role, or the cluster's.
    fn is_worth_offering(&self, framework: &Framework, role: &RoleName, resources: &Resources) -> bool {
        let own = framework.info.offer_filters.get(role.as_str());
        let Some(own) = own.and_then(|filters| filters.min_allocatable_resources.as_ref()) else {
            return self.is_allocatable(resources);
        };
        let reaches = |least: &offer_filters::ResourceQuantities| {
            least.quantities.iter().all(|(name, quantity)| resources.scalar(name).to_f64() >= quantity.value)
        };
        !resources.is_empty() && (own.quantities.is_empty() || own.quantities.iter().any(reaches))
    }
}

/// What the framework can see at all: reservations for its role and those above it, and kinds of resources that it
/// knows.
fn visible(framework: &Framework, role: &RoleName, free: &Resources) -> Resources {
    if free.digest().plain {
        return free.clone();
    }
    let revocable = framework.has(CapabilityType::RevocableResources);
    let shared = framework.has(CapabilityType::SharedResources);
    let refined = framework.has(CapabilityType::ReservationRefinement);
    let sees = |resource: &Resource| {
        resource.is_allocatable_to(role.as_str())
            && (revocable || !resource.revocable)
            && (shared || !resource.shared)
            && (refined || resource.reservations.len() <= 1)
    };
    if free.iter().all(sees) { free.clone() } else { free.filter(sees) }
}
