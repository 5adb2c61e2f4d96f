//! One framework as the leader sees it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use meshos_proto::{
    meshos::registry::v1 as registry,
    mesos::v1::{self as pb, framework_info::capability::Type as CapabilityType, scheduler},
};
use meshos_types::{AgentId, Format, Quantities, RoleName, TaskId};

use super::{
    StreamId, constraints::Constraints, counters::Figures, explain::Tally, filters::Filters, ledger::Ledger,
    offers::OfferNo, operations::OperationUuid, record::Record, remembered::Remembered,
};

/// How a framework is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Connection {
    /// Known from the registry or from agents; has not subscribed at this leader.
    Recovered,
    Connected(StreamId),
    Disconnected,
}

/// A framework that is not over.
#[derive(Debug)]
pub(crate) struct Framework {
    /// With the id set.
    pub(crate) info: pb::FrameworkInfo,
    pub(crate) roles: BTreeSet<RoleName>,
    pub(crate) suppressed: BTreeSet<RoleName>,
    pub(crate) connection: Connection,
    pub(crate) registered_at_ms: u64,
    pub(crate) reregistered_at_ms: u64,
    /// 0 while connected.
    pub(crate) disconnected_at_ms: u64,
    /// When it is removed unless it comes back.
    pub(crate) failover_due_ms: Option<u64>,
    pub(crate) ledger: Ledger,
    pub(crate) offers: BTreeSet<OfferNo>,
    /// Whether it may want what it did not want before.
    pub(crate) touched: bool,
    /// Whether readers do not know yet what it uses and is offered.
    pub(crate) usage_changed: bool,
    /// Number of live tasks and of executors by agent.
    pub(crate) agents: BTreeMap<AgentId, usize>,
    pub(crate) used: Quantities,
    pub(crate) offered: Quantities,
    pub(crate) filters: Filters,
    pub(crate) constraints: Constraints,
    /// The same as it was told.
    pub(crate) asked_constraints: Option<Box<scheduler::OfferConstraints>>,
    /// What it was offered and refused, by role, since it subscribed.
    pub(crate) tallies: BTreeMap<RoleName, Tally>,
    pub(crate) figures: Box<Figures>,
    /// Operations whose end it wants to know, by its own id.
    pub(crate) operations: BTreeMap<String, OperationUuid>,
    /// Questions about tasks that wait for agents which have not linked to this leader yet.
    pub(crate) unanswered: Unanswered,
    /// What the registry was told last.
    pub(crate) persisted: Option<registry::Framework>,
}

impl Framework {
    pub(crate) fn is_connected(&self) -> bool {
        matches!(self.connection, Connection::Connected(_))
    }

    pub(crate) fn stream(&self) -> Option<&StreamId> {
        match &self.connection {
            Connection::Connected(stream) => Some(stream),
            _ => None,
        }
    }

    /// One more task or executor on the agent.
    pub(crate) fn join_agent(&mut self, agent: &AgentId) {
        *self.agents.entry(agent.clone()).or_default() += 1;
    }

    /// One task or executor less on the agent.
    pub(crate) fn leave_agent(&mut self, agent: &AgentId) {
        if let Some(count) = self.agents.get_mut(agent) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.agents.remove(agent);
            }
        }
    }

    pub(crate) fn has(&self, capability: CapabilityType) -> bool {
        has_capability(&self.info, capability)
    }

    pub(crate) fn is_partition_aware(&self) -> bool {
        self.has(CapabilityType::PartitionAware)
    }

    /// The state for frameworks that know of partitions, or TASK_LOST for the others.
    pub(crate) fn state_or_lost(&self, precise: pb::TaskState) -> pb::TaskState {
        if self.is_partition_aware() { precise } else { pb::TaskState::TaskLost }
    }

    /// How it writes and reads reservations.
    pub(crate) fn format(&self) -> Format {
        if self.has(CapabilityType::ReservationRefinement) {
            Format::PostRefinement
        } else {
            Format::PreRefinement
        }
    }

    /// How long it may be away, in milliseconds.
    pub(crate) fn failover_timeout_ms(&self) -> u64 {
        seconds_to_ms(self.info.failover_timeout.unwrap_or(0.0))
    }

    /// The role that its resources count for where none is written.
    pub(crate) fn default_role(&self) -> RoleName {
        self.roles.first().cloned().unwrap_or_else(RoleName::star)
    }

    /// What the registry should remember.
    pub(crate) fn record(&self) -> registry::Framework {
        registry::Framework {
            format: 1,
            info: Some(self.info.clone()),
            registered_at_ms: self.registered_at_ms,
            disconnected_at_ms: self.disconnected_at_ms,
            removed: false,
            removed_at_ms: 0,
        }
    }
}

/// What a framework asked on its present stream and nobody could answer.
#[derive(Debug, Default)]
pub(crate) struct Unanswered {
    /// It asked for everything.
    pub(crate) all: bool,
    /// Tasks that it asked for, by the agent that must know.
    pub(crate) tasks: BTreeMap<AgentId, BTreeSet<TaskId>>,
}

/// A framework that was removed.
#[derive(Debug)]
pub(crate) struct Completed {
    pub(crate) info: pb::FrameworkInfo,
    pub(crate) registered_at_ms: u64,
    pub(crate) reregistered_at_ms: u64,
    pub(crate) unregistered_at_ms: u64,
    pub(crate) tasks: Remembered<TaskId, Arc<Record>>,
    pub(crate) figures: Box<Figures>,
}

pub(crate) fn has_capability(info: &pb::FrameworkInfo, capability: CapabilityType) -> bool {
    info.capabilities.iter().any(|c| c.r#type == Some(capability.into()))
}

/// The roles that a framework subscribes to.
#[allow(deprecated, reason = "single-role frameworks use the field `role`")]
pub(crate) fn roles_of(info: &pb::FrameworkInfo) -> BTreeSet<RoleName> {
    if has_capability(info, CapabilityType::MultiRole) {
        info.roles.iter().map(|role| RoleName::new(role.as_str())).collect()
    } else {
        BTreeSet::from([RoleName::new(info.role.as_deref().unwrap_or("*"))])
    }
}

/// Seconds as whole milliseconds; nonsense is nothing, too much is a century.
pub(crate) fn seconds_to_ms(seconds: f64) -> u64 {
    const CENTURY: f64 = 3_155_760_000.0;
    if seconds.is_nan() || seconds <= 0.0 {
        return 0;
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded above and below")]
    let ms = (seconds.min(CENTURY) * 1000.0).round() as u64;
    ms
}
