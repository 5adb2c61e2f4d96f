//! One agent as the leader sees it.

use std::collections::{BTreeMap, BTreeSet};

use meshos_proto::{
    meshos::registry::v1::{self as registry, AgentState},
    mesos::v1::{self as pb, agent_info},
};
use meshos_types::{AgentId, FrameworkId, OfferId, Resources, TaskId};

use super::LinkId;

/// An agent that the registry admitted.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) id: AgentId,
    pub(crate) info: pb::AgentInfo,
    pub(crate) version: String,
    /// `host:port` of its HTTP API.
    pub(crate) endpoint: String,
    pub(crate) capabilities: Vec<agent_info::Capability>,
    /// What the registry says of it.
    pub(crate) state: AgentState,
    pub(crate) registered_at_ms: u64,
    pub(crate) reregistered_at_ms: u64,
    pub(crate) unreachable_at_ms: u64,
    /// Its open link.
    pub(crate) link: Option<LinkId>,
    /// Whether it has linked to this leader since it was last admitted.
    pub(crate) heard: bool,
    /// Whether its tasks were declared unreachable, and have not been reported since.
    pub(crate) was_unreachable: bool,
    pub(crate) total: Resources,
    /// Held by tasks that are not over.
    pub(crate) used: Resources,
    pub(crate) offered: Resources,
    /// Live tasks, also those that are over and not acknowledged.
    pub(crate) tasks: BTreeSet<(FrameworkId, TaskId)>,
    pub(crate) offers: BTreeSet<OfferId>,
    /// Kills of tasks that have not ended: a link may break with one on its way.
    pub(crate) kills: BTreeMap<(FrameworkId, TaskId), Option<pb::KillPolicy>>,
}

impl Agent {
    /// An agent as the registry shows it, not heard of yet.
    pub(crate) fn new(id: AgentId, record: registry::Agent) -> Self {
        let state = record.state();
        Self {
            id,
            info: record.info.unwrap_or_default(),
            version: record.version,
            endpoint: record.endpoint,
            capabilities: record.capabilities,
            state,
            registered_at_ms: record.registered_at_ms,
            reregistered_at_ms: record.reregistered_at_ms,
            unreachable_at_ms: record.unreachable_at_ms,
            link: None,
            heard: false,
            was_unreachable: state == AgentState::Unreachable,
            total: Resources::new(),
            used: Resources::new(),
            offered: Resources::new(),
            tasks: BTreeSet::new(),
            offers: BTreeSet::new(),
            kills: BTreeMap::new(),
        }
    }

    /// Whether the registry lets it take part. A broken session (disconnected) is not a silent agent.
    pub(crate) fn is_admitted(&self) -> bool {
        matches!(self.state, AgentState::Connected | AgentState::Disconnected)
    }

    /// Whether its resources may be offered.
    pub(crate) fn is_active(&self) -> bool {
        self.link.is_some() && self.is_admitted()
    }

    /// Neither used nor offered.
    pub(crate) fn free(&self) -> Resources {
        let mut free = self.total.clone();
        free.subtract_all(&self.used);
        free.subtract_all(&self.offered);
        free
    }

    pub(crate) fn has_capability(&self, wanted: agent_info::capability::Type) -> bool {
        self.capabilities.iter().any(|capability| capability.r#type == Some(wanted.into()))
    }

    /// Host and port of its HTTP API.
    pub(crate) fn address(&self) -> (String, i32) {
        let default_port = self.info.port.unwrap_or(5051);
        match self.endpoint.rsplit_once(':') {
            Some((host, port)) => (host.to_owned(), port.parse().unwrap_or(default_port)),
            None => (self.info.hostname.clone(), default_port),
        }
    }
}
