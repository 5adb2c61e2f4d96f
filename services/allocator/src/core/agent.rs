//! One agent as the leader sees it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, OnceLock},
};

use meshos_proto::{
    meshos::registry::v1::{self as registry, AgentState},
    mesos::v1::{self as pb, agent_info},
    packed::Reregister,
};
use meshos_types::{AgentId, FrameworkId, Quantities, Resources, TaskId};

use super::{LinkId, interned::Interned, offers::OfferNo, shared::subtract_unshared};

/// What an agent says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct About {
    /// Without its id, which the agent has, and its resources.
    pub(crate) info: pb::AgentInfo,
    /// As it was started with, shared with agents like it.
    pub(crate) resources: Arc<[pb::Resource]>,
    pub(crate) version: String,
    /// `host:port` of its HTTP API.
    pub(crate) endpoint: String,
    pub(crate) capabilities: Vec<agent_info::Capability>,
}

impl About {
    /// What the registry knows.
    pub(crate) fn of_record(record: registry::Agent, interned: &mut Interned) -> Self {
        let about = Self {
            version: record.version,
            endpoint: record.endpoint,
            capabilities: record.capabilities,
            ..Self::default()
        };
        about.with_info(record.info.unwrap_or_default(), interned)
    }

    /// What the agent itself reports.
    pub(crate) fn of_report(report: &Reregister, interned: &mut Interned) -> Self {
        let about = Self {
            version: report.version.clone(),
            endpoint: report.endpoint.clone(),
            capabilities: report.capabilities.clone(),
            ..Self::default()
        };
        about.with_info(report.agent.clone().unwrap_or_default(), interned)
    }

    fn with_info(self, mut info: pb::AgentInfo, interned: &mut Interned) -> Self {
        let resources = interned.list(std::mem::take(&mut info.resources)).messages;
        info.id = None;
        Self { info, resources, ..self }
    }

    /// Host and port of its HTTP API.
    pub(crate) fn address(&self) -> (&str, i32) {
        let default_port = self.info.port.unwrap_or(5051);
        match self.endpoint.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().unwrap_or(default_port)),
            None => (&self.info.hostname, default_port),
        }
    }
}

/// An agent that the registry admitted.
// In the order of the declaration: what each run touches stands together.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Agent {
    pub(crate) total: Resources,
    /// Held by tasks that are not over.
    pub(crate) used: Resources,
    /// What is not used, worked out when it is asked for.
    unused: OnceLock<Resources>,
    pub(crate) offered: Resources,
    pub(crate) offers: Vec<OfferNo>,
    /// Its open link.
    pub(crate) link: Option<LinkId>,
    /// What the registry says of it.
    pub(crate) state: AgentState,
    /// Its place among the agents that have something left.
    pub(crate) available_at: Option<u32>,
    /// While it is among them: whether it has more than what is nobody's and for everybody.
    pub(crate) is_odd: bool,
    /// Whether it has more to offer than before.
    pub(crate) touched: bool,
    /// Whether readers do not know yet what is used and offered.
    pub(crate) usage_changed: bool,
    /// Whether it has linked to this leader since it was last admitted.
    pub(crate) heard: bool,
    /// It may not link: its fault domain does not fit.
    pub(crate) kept_out: bool,
    /// Whether its tasks were declared unreachable, and have not been reported since.
    pub(crate) was_unreachable: bool,
    /// Its part of what is free for guarantees.
    pub(crate) headroom: Quantities,
    pub(crate) id: AgentId,
    /// Shared with pictures for readers.
    pub(crate) about: Arc<About>,
    pub(crate) registered_at_ms: u64,
    pub(crate) reregistered_at_ms: u64,
    pub(crate) unreachable_at_ms: u64,
    pub(crate) gone_at_ms: u64,
    /// Bytes of its record in the registry.
    pub(crate) record_bytes: u32,
    /// When its machine is to be maintained.
    pub(crate) unavailability: Option<pb::Unavailability>,
    /// Live tasks, also those that are over and not acknowledged.
    pub(crate) tasks: BTreeSet<(FrameworkId, TaskId)>,
    /// Kills of tasks that have not ended: a link may break with one on its way.
    pub(crate) kills: BTreeMap<(FrameworkId, TaskId), Option<pb::KillPolicy>>,
}

impl Agent {
    /// An agent as the registry shows it, not heard of yet.
    pub(crate) fn new(id: AgentId, record: &registry::Agent) -> Self {
        let state = record.state();
        Self {
            id,
            about: Arc::default(),
            state,
            registered_at_ms: record.registered_at_ms,
            reregistered_at_ms: record.reregistered_at_ms,
            unreachable_at_ms: record.unreachable_at_ms,
            gone_at_ms: record.gone_at_ms,
            record_bytes: 0,
            unavailability: record.unavailability,
            link: None,
            heard: false,
            kept_out: false,
            was_unreachable: state == AgentState::Unreachable,
            total: Resources::new(),
            used: Resources::new(),
            unused: OnceLock::new(),
            offered: Resources::new(),
            tasks: BTreeSet::new(),
            offers: Vec::new(),
            available_at: None,
            is_odd: false,
            touched: false,
            usage_changed: false,
            headroom: Quantities::new(),
            kills: BTreeMap::new(),
        }
    }

    /// Whether it is known and has not linked yet.
    pub(crate) fn is_awaited(&self) -> bool {
        self.is_admitted() && self.link.is_none() && !self.heard && !self.kept_out
    }

    /// Whether the registry lets it take part. A broken session (disconnected) is not a silent agent.
    pub(crate) fn is_admitted(&self) -> bool {
        matches!(self.state, AgentState::Connected | AgentState::Disconnected)
    }

    /// Whether its resources may be offered.
    pub(crate) fn is_active(&self) -> bool {
        self.link.is_some() && self.is_admitted()
    }

    /// Neither used nor offered; what is shared stays free.
    pub(crate) fn free(&self) -> Resources {
        let mut free = self.unused().clone();
        subtract_unshared(&mut free, &self.offered);
        free
    }

    /// Something of everything that an offer of it begins with, so that it is fetched from memory.
    pub(crate) fn fetch(&self) -> usize {
        usize::from(self.unused().digest().plain) + self.id.as_str().bytes().next().map_or(0, usize::from)
    }

    /// After a change of what it has or of what is used.
    pub(crate) fn recount_unused(&mut self) {
        self.unused.take();
    }

    fn unused(&self) -> &Resources {
        self.unused.get_or_init(|| {
            let mut unused = self.total.clone();
            subtract_unshared(&mut unused, &self.used);
            unused
        })
    }

    pub(crate) fn has_capability(&self, wanted: agent_info::capability::Type) -> bool {
        self.about.capabilities.iter().any(|capability| capability.r#type == Some(wanted.into()))
    }
}
