//! What became of operations: frameworks that gave an operation an id are told, again and again until they
//! acknowledge it. The agent remembers until then, so a new leader learns it from the agent.

use meshos_proto::{
    meshos::allocator::v1::{AcknowledgeOperation, OperationUpdate, allocator_message::Body},
    mesos::v1::{self as pb, OperationState, scheduler::call},
};
use meshos_types::{AgentId, FrameworkId};

use super::OperationUuid;
use crate::core::{Core, Effect, LinkId, events, timers::Timer};

/// Time until a status is told again, at first and at most.
const FIRST_RETRY_MS: u64 = 10_000;
const LAST_RETRY_MS: u64 = 600_000;

/// An operation whose end its framework wants to know.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    framework: FrameworkId,
    agent: AgentId,
    id: String,
    /// From the agent; none before it has answered.
    status: Option<pb::OperationStatus>,
    retry_ms: u64,
    /// When it is told again.
    due_ms: Option<u64>,
}

impl Core {
    pub(super) fn await_operation(
        &mut self,
        uuid: OperationUuid,
        framework: &FrameworkId,
        agent: &AgentId,
        id: String,
    ) {
        let (framework, agent) = (framework.clone(), agent.clone());
        if let Some(known) = self.frameworks.get_mut(&framework) {
            known.operations.insert(id.clone(), uuid);
        }
        let pending = Pending { framework, agent, id, status: None, retry_ms: FIRST_RETRY_MS, due_ms: None };
        self.operations.insert(uuid, pending);
    }

    /// The agent's word on an operation.
    pub(crate) fn operation_update(&mut self, link: LinkId, update: OperationUpdate) {
        let Some(agent) = self.links.get(&link).cloned() else { return };
        let failed = update.status.as_ref().is_some_and(|status| {
            matches!(status.state(), OperationState::OperationFailed | OperationState::OperationError)
        });
        let state = update.status.as_ref().map(pb::OperationStatus::state).unwrap_or_default();
        let state = state.as_str_name().to_ascii_lowercase();
        self.counters.add(&format!("master/{}", state.replacen("operation_", "operations/", 1)), 1);
        self.note_operation(&agent, update);
        if failed {
            // Its resources are not what they are here: it is to report them anew.
            tracing::warn!(agent_id = %agent, "agent could not carry out an operation");
            self.effects.push(Effect::CloseLink { link });
            self.agent_unlinked(link);
        }
    }

    /// Takes note of a status and passes it on.
    pub(crate) fn note_operation(&mut self, agent: &AgentId, update: OperationUpdate) {
        let (Some(framework), Some(status)) = (update.framework_id.map(FrameworkId::from), update.status)
        else {
            return;
        };
        let Ok(uuid) = OperationUuid::try_from(&*update.uuid) else { return };
        let Some(id) = status.operation_id.as_ref().map(|id| id.value.clone()) else { return };
        if !self.frameworks.contains_key(&framework) {
            return self.acknowledge_at(agent, &uuid);
        }
        if !self.operations.contains_key(&uuid) {
            self.await_operation(uuid, &framework, agent, id);
        }
        let status = pb::OperationStatus { agent_id: Some(agent.to_proto()), ..status };
        if let Some(pending) = self.operations.get_mut(&uuid) {
            pending.status = Some(status);
            pending.retry_ms = FIRST_RETRY_MS;
        }
        self.tell_operation(&uuid);
    }

    /// Tells the framework, now and later again.
    pub(crate) fn tell_operation(&mut self, uuid: &OperationUuid) {
        let now = self.now;
        let Some(pending) = self.operations.get_mut(uuid) else { return };
        let Some(status) = pending.status.clone() else { return };
        let (framework, due) = (pending.framework.clone(), now + pending.retry_ms);
        pending.retry_ms = (pending.retry_ms * 2).min(LAST_RETRY_MS);
        if let Some(before) = pending.due_ms.replace(due) {
            self.timers.cancel(before, Timer::Operation(*uuid));
        }
        if self.frameworks.get(&framework).is_some_and(super::super::Framework::is_connected) {
            self.send(&framework, events::operation(status));
            self.timers.set(due, Timer::Operation(*uuid));
        }
    }

    /// A framework is back: it is told again what it has not acknowledged.
    pub(crate) fn tell_operations(&mut self, id: &FrameworkId) {
        let Some(framework) = self.frameworks.get(id) else { return };
        for uuid in framework.operations.values().copied().collect::<Vec<_>>() {
            if let Some(pending) = self.operations.get_mut(&uuid) {
                pending.retry_ms = FIRST_RETRY_MS;
            }
            self.tell_operation(&uuid);
        }
    }

    /// ACKNOWLEDGE_OPERATION_STATUS.
    pub(crate) fn acknowledge_operation(
        &mut self,
        framework: &FrameworkId,
        acknowledge: &call::AcknowledgeOperationStatus,
    ) {
        let known = self.frameworks.get(framework);
        let uuid = known.and_then(|known| known.operations.get(&acknowledge.operation_id.value)).copied();
        let told = uuid.and_then(|uuid| self.operations.get(&uuid)?.status.as_ref()?.uuid.as_ref());
        match (uuid, told) {
            (Some(uuid), Some(told)) if told.value == acknowledge.uuid => {
                self.counters.add("master/valid_operation_status_update_acknowledgements", 1);
                self.end_operation(&uuid);
            }
            _ => self.counters.add("master/invalid_operation_status_update_acknowledgements", 1),
        }
    }

    /// Nobody waits for the operation any more.
    fn end_operation(&mut self, uuid: &OperationUuid) {
        let Some(pending) = self.operations.remove(uuid) else { return };
        if let Some(due) = pending.due_ms {
            self.timers.cancel(due, Timer::Operation(*uuid));
        }
        if let Some(framework) = self.frameworks.get_mut(&pending.framework)
            && framework.operations.get(&pending.id) == Some(uuid)
        {
            framework.operations.remove(&pending.id);
        }
        self.acknowledge_at(&pending.agent, uuid);
    }

    fn acknowledge_at(&mut self, agent: &AgentId, uuid: &OperationUuid) {
        if let Some(link) = self.agents.get(agent).and_then(|agent| agent.link) {
            let uuid = uuid.to_vec().into();
            self.command(link, Body::AcknowledgeOperation(AcknowledgeOperation { uuid }));
        }
    }

    /// The framework is over.
    pub(crate) fn end_operations(&mut self, id: &FrameworkId) {
        let Some(framework) = self.frameworks.get(id) else { return };
        for uuid in framework.operations.values().copied().collect::<Vec<_>>() {
            self.end_operation(&uuid);
        }
    }

    /// What a report says of operations; those that it does not know never reached the agent.
    pub(crate) fn adopt_operations(&mut self, agent: &AgentId, reported: Vec<OperationUpdate>) {
        let known: Vec<_> = reported.iter().map(|update| update.uuid.clone()).collect();
        for update in reported {
            self.note_operation(agent, update);
        }
        let lost = self.operations_of(agent, |uuid, _| !known.iter().any(|known| **known == uuid[..]));
        for uuid in lost {
            self.judge_operation(
                &uuid,
                OperationState::OperationDropped,
                "Operation is unknown to its agent",
            );
            self.end_operation(&uuid);
        }
    }

    /// The agent is out of contact, or gone for good.
    pub(crate) fn lose_operations(&mut self, agent: &AgentId, state: OperationState) {
        for uuid in self.operations_of(agent, |_, _| true) {
            self.judge_operation(&uuid, state, "The operation's agent is lost");
            if state != OperationState::OperationUnreachable {
                self.end_operation(&uuid);
            }
        }
    }

    fn operations_of(
        &self,
        agent: &AgentId,
        wanted: impl Fn(&OperationUuid, &Pending) -> bool,
    ) -> Vec<OperationUuid> {
        let of_agent = self.operations.iter().filter(|(_, pending)| pending.agent == *agent);
        of_agent.filter(|(uuid, pending)| wanted(uuid, pending)).map(|(uuid, _)| *uuid).collect()
    }

    /// A status by the leader itself: it has no uuid, so it is not acknowledged.
    fn judge_operation(&mut self, uuid: &OperationUuid, state: OperationState, message: &str) {
        let Some(pending) = self.operations.get(uuid) else { return };
        let status = pb::OperationStatus {
            operation_id: Some(pb::OperationId { value: pending.id.clone() }),
            state: state.into(),
            message: Some(message.to_owned()),
            agent_id: Some(pending.agent.to_proto()),
            ..pb::OperationStatus::default()
        };
        let framework = pending.framework.clone();
        self.send(&framework, events::operation(status));
    }

    /// What is known of an operation, for reconciliation.
    pub(crate) fn operation_status(&self, framework: &FrameworkId, id: &str) -> Option<pb::OperationStatus> {
        let uuid = self.frameworks.get(framework)?.operations.get(id)?;
        let pending = self.operations.get(uuid)?;
        let state = pending.status.as_ref().map_or(OperationState::OperationPending, |status| status.state());
        Some(pb::OperationStatus {
            operation_id: Some(pb::OperationId { value: id.to_owned() }),
            state: state.into(),
            agent_id: Some(pending.agent.to_proto()),
            ..pb::OperationStatus::default()
        })
    }
}
