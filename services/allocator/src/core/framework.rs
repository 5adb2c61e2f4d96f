//! One framework as the leader sees it.

use std::collections::{BTreeMap, BTreeSet};

use meshos_proto::{
    meshos::registry::v1 as registry,
    mesos::v1::{self as pb, framework_info::capability::Type as CapabilityType},
};
use meshos_types::{AgentId, Format, OfferId, Quantities, RoleName, TaskId};

use super::{
    StreamId, constraints::Constraints, explain::Tally, filters::Filters, ledger::Ledger,
    operations::OperationUuid, remembered::Remembered,
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
    pub(crate) offers: BTreeSet<OfferId>,
    /// Number of live tasks by agent.
    pub(crate) agents: BTreeMap<AgentId, usize>,
    pub(crate) used: Quantities,
    pub(crate) offered: Quantities,
    pub(crate) filters: Filters,
    pub(crate) constraints: Constraints,
    /// What it was offered and refused, by role, since it subscribed.
    pub(crate) tallies: BTreeMap<RoleName, Tally>,
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
    pub(crate) tasks: Remembered<TaskId, pb::Task>,
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
