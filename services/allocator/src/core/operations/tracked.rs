//! The operations that are known: what they are, and how far they have come.

use meshos_proto::{
    meshos::allocator::v1 as wire,
    meshos::allocator::v1::change::Body,
    mesos::v1::{self as pb, OperationState, offer::Operation},
};
use meshos_types::{AgentId, FrameworkId, task_state::is_terminal_operation};

use super::{OperationUuid, feedback::FIRST_RETRY_MS};
use crate::core::{Core, timers::Timer};

/// An operation that has not ended, or whose end its framework has not acknowledged.
#[derive(Clone, Debug)]
pub(crate) struct Tracked {
    pub(super) uuid: OperationUuid,
    /// None: an operator's.
    pub(super) framework: Option<FrameworkId>,
    pub(super) agent: AgentId,
    /// What it is; of one that an earlier leader sent, the id alone is known.
    info: Operation,
    /// Its history, never empty.
    statuses: Vec<pb::OperationStatus>,
    /// The agent's word, which its framework has to acknowledge.
    pub(super) told: Option<pb::OperationStatus>,
    pub(super) retry_ms: u64,
    /// When it is told again.
    pub(super) due_ms: Option<u64>,
}

impl Tracked {
    /// The id that its framework gave: it wants to know the end.
    pub(super) fn id(&self) -> Option<&str> {
        self.info.id.as_ref().map(|id| id.value.as_str())
    }

    pub(super) fn latest(&self) -> pb::OperationStatus {
        self.statuses.last().cloned().unwrap_or_default()
    }

    pub(crate) fn state(&self) -> OperationState {
        self.statuses.last().map(pb::OperationStatus::state).unwrap_or_default()
    }

    pub(crate) fn kind(&self) -> pb::offer::operation::Type {
        self.info.r#type()
    }

    /// As readers of Watch see it.
    pub(crate) fn view(&self) -> wire::Operation {
        let operation = pb::Operation {
            framework_id: self.framework.as_ref().map(FrameworkId::to_proto),
            agent_id: Some(self.agent.to_proto()),
            info: self.info.clone(),
            latest_status: self.latest(),
            statuses: self.statuses.clone(),
            uuid: pb::Uuid { value: self.uuid.to_vec().into() },
        };
        wire::Operation { operation: Some(operation) }
    }
}

impl Core {
    /// An operation begins, or is heard of for the first time.
    pub(super) fn track_operation(
        &mut self,
        uuid: OperationUuid,
        framework: Option<&FrameworkId>,
        agent: &AgentId,
        info: Operation,
    ) {
        let status = pb::OperationStatus {
            operation_id: info.id.clone(),
            state: OperationState::OperationPending.into(),
            agent_id: Some(agent.to_proto()),
            ..pb::OperationStatus::default()
        };
        if let (Some(id), Some(known)) =
            (&info.id, framework.and_then(|framework| self.frameworks.get_mut(framework)))
        {
            known.operations.insert(id.value.clone(), uuid);
        }
        let tracked = Tracked {
            uuid,
            framework: framework.cloned(),
            agent: agent.clone(),
            info,
            statuses: vec![status],
            told: None,
            retry_ms: FIRST_RETRY_MS,
            due_ms: None,
        };
        self.dirty.push(Body::Operation(Box::new(tracked.view())));
        self.operations.insert(uuid, tracked);
    }

    /// An operation has come further.
    pub(super) fn advance_operation(&mut self, uuid: &OperationUuid, status: &pb::OperationStatus) {
        let Some(tracked) = self.operations.get_mut(uuid) else { return };
        if tracked.statuses.last() == Some(status) {
            return;
        }
        let before = tracked.state();
        tracked.statuses.push(status.clone());
        let (kind, state) = (tracked.kind(), tracked.state());
        self.dirty.push(Body::Operation(Box::new(tracked.view())));
        if before != state && is_terminal_operation(state) {
            self.counters.operation_state(kind, state);
        }
    }

    /// Nobody waits for the operation any more.
    pub(super) fn end_operation(&mut self, uuid: &OperationUuid) -> Option<Tracked> {
        let tracked = self.operations.remove(uuid)?;
        self.dirty.push(Body::OperationRemoved(uuid.to_vec().into()));
        if let Some(due) = tracked.due_ms {
            self.timers.cancel(due, Timer::Operation(*uuid));
        }
        let framework = tracked.framework.as_ref().and_then(|id| self.frameworks.get_mut(id));
        if let (Some(framework), Some(id)) = (framework, tracked.id())
            && framework.operations.get(id) == Some(uuid)
        {
            framework.operations.remove(id);
        }
        Some(tracked)
    }

    /// Operations on an agent for which `wanted` holds.
    pub(super) fn operations_of(
        &self,
        agent: &AgentId,
        wanted: impl Fn(&Tracked) -> bool,
    ) -> Vec<OperationUuid> {
        let of_agent = self.operations.values().filter(|tracked| tracked.agent == *agent);
        of_agent.filter(|tracked| wanted(tracked)).map(|tracked| tracked.uuid).collect()
    }
}
