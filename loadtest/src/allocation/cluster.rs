//! A cluster around the allocator's core: agents and frameworks in a loop of their own, no network between.

use anyhow::Context as _;
use meshos_allocator::core::{Core, CoreConfig, Input, Outcome};
use meshos_proto::{
    meshos::{
        allocator::v1::Reregister,
        registry::v1::{self as registry, AgentState},
    },
    mesos::v1::{
        self as pb,
        scheduler::{Call, call},
    },
};
use meshos_types::{Format, RoleName, parse_resources};

/// The time does not pass but where a scenario says so.
pub(super) const NOW: u64 = 1_700_000_000_000;

/// Any number will do: the same one gives the same run.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// Frameworks and what they have been offered.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) core: Core,
    agents: usize,
    frameworks: usize,
    /// Offers that frameworks hold: framework and offer.
    pub(super) held: Vec<(usize, pb::Offer)>,
    random: u64,
}

/// A cluster with the defaults of the service.
fn config() -> CoreConfig {
    CoreConfig {
        master: pb::MasterInfo {
            id: "2f7c1a52-2d8e-4d0c-9a43-5f6f3c8a6b11".to_owned(),
            ..pb::MasterInfo::default()
        },
        elected_at_ms: NOW,
        ..CoreConfig::default()
    }
}

fn stream(number: usize) -> String {
    format!("7d3b0a61-30f4-4d6b-8a5e-{number:012}")
}

impl Cluster {
    pub(super) fn new() -> Self {
        Self { core: Core::new(config()), agents: 0, frameworks: 0, held: Vec::new(), random: SEED }
    }

    pub(super) fn input(&mut self, input: Input) -> anyhow::Result<()> {
        Ok(self.core.handle(input, NOW)?)
    }

    /// Ends a turn; offers are heard.
    pub(super) fn settle(&mut self) {
        let outcome = self.core.settle(NOW);
        self.hear(outcome);
    }

    /// Frameworks take note of what they were offered.
    pub(super) fn hear(&mut self, outcome: Outcome) {
        for effect in outcome.effects {
            let meshos_allocator::core::Effect::Events { stream, events, .. } = effect else { continue };
            let Some(number) = stream.rsplit('-').next().and_then(|number| number.parse().ok()) else {
                continue;
            };
            let offers = events.into_iter().filter_map(|event| event.offers);
            self.held.extend(offers.flat_map(|offers| offers.offers).map(|offer| (number, offer)));
        }
    }

    /// Agents that the registry has admitted and that have linked, all alike.
    pub(super) fn add_agents(&mut self, count: usize, resources: &str) -> anyhow::Result<()> {
        let resources =
            parse_resources(resources, &RoleName::star())?.resources.to_proto(Format::PostRefinement);
        for number in self.agents..self.agents + count {
            let id = pb::AgentId { value: format!("2f7c1a52-2d8e-4d0c-9a43-5f6f3c8a6b11-S{number}") };
            let hostname = format!("agent-{number}.example.com");
            let info = pb::AgentInfo { hostname, id: Some(id), port: Some(5051), ..pb::AgentInfo::default() };
            let endpoint = format!("10.{}.{}.{}:5051", number >> 16, (number >> 8) & 255, number & 255);
            let record = registry::Agent {
                format: 1,
                info: Some(info.clone()),
                state: AgentState::Connected.into(),
                ..registry::Agent::default()
            };
            self.input(Input::RegistryChanged(Box::new(record)))?;
            let agent = Some(pb::AgentInfo { resources: resources.clone(), ..info });
            let report = Box::new(Reregister { agent, endpoint, ..Reregister::default() }.into());
            self.input(Input::AgentLinked { link: number as u64, report })?;
        }
        self.agents += count;
        Ok(())
    }

    /// A framework, suppressed if it is not to get offers yet.
    #[allow(deprecated, reason = "single-role frameworks use the field `role`")]
    pub(super) fn add_framework(&mut self, role: &str) -> anyhow::Result<usize> {
        use pb::framework_info::{Capability, capability::Type};
        let number = self.frameworks;
        let capability = |kind: Type| Capability { r#type: Some(kind.into()) };
        let framework_info = pb::FrameworkInfo {
            id: Some(Self::framework_id(number)),
            user: "nobody".to_owned(),
            name: format!("framework-{number}"),
            role: Some(role.to_owned()),
            failover_timeout: Some(600.0),
            capabilities: vec![capability(Type::PartitionAware), capability(Type::ReservationRefinement)],
            ..pb::FrameworkInfo::default()
        };
        let call = Call {
            framework_id: framework_info.id.clone(),
            r#type: Some(call::Type::Subscribe.into()),
            subscribe: Some(call::Subscribe { framework_info, ..call::Subscribe::default() }),
            ..Call::default()
        };
        self.input(Input::Subscribe { stream: stream(number), call: Box::new(call) })?;
        self.frameworks += 1;
        Ok(number)
    }

    pub(super) fn framework_id(number: usize) -> pb::FrameworkId {
        pb::FrameworkId { value: format!("2f7c1a52-2d8e-4d0c-9a43-5f6f3c8a6b11-{number:04}") }
    }

    /// A call of a framework; `fill` sets what belongs to its type.
    pub(super) fn call(number: usize, kind: call::Type, fill: impl FnOnce(&mut Call)) -> Input {
        let mut call = Call {
            framework_id: Some(Self::framework_id(number)),
            r#type: Some(kind.into()),
            ..Call::default()
        };
        fill(&mut call);
        Input::Call { stream: stream(number), call: Box::new(call), traceparent: String::new() }
    }

    /// The framework refuses an offer for an hour.
    pub(super) fn decline((number, offer): &(usize, pb::Offer)) -> Input {
        Self::call(*number, call::Type::Decline, |call| {
            let filters = Some(pb::Filters { refuse_seconds: Some(3600.0) });
            call.decline = Some(call::Decline { offer_ids: vec![offer.id.clone()], filters });
        })
    }

    /// Any of the offers that are held.
    pub(super) fn take_any(&mut self) -> anyhow::Result<(usize, pb::Offer)> {
        let count = self.held.len();
        let at = usize::try_from(self.random() % count.max(1) as u64)?;
        (at < count).then(|| self.held.swap_remove(at)).context("nobody holds an offer")
    }

    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}
