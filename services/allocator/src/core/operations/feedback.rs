//! What became of operations: frameworks that gave an operation an id are told, again and again until they
//! acknowledge it. The agent remembers until then, so a new leader learns it from the agent.

use std::collections::BTreeSet;

use meshos_proto::{
    meshos::allocator::v1::{AcknowledgeOperation, OperationUpdate, allocator_message::Body},
    mesos::v1::{self as pb, OperationState, offer::Operation, scheduler::call},
};
use meshos_types::{AgentId, FrameworkId, task_state::is_terminal_operation};

use super::OperationUuid;
use crate::core::{Core, Effect, Framework, LinkId, events, timers::Timer};

/// Time until a status is told again, at first and at most.
pub(super) const FIRST_RETRY_MS: u64 = 10_000;
const LAST_RETRY_MS: u64 = 600_000;

impl Core {
    /// The agent's word on an operation.
    pub(crate) fn operation_update(&mut self, link: LinkId, update: OperationUpdate) {
        self.counters.add("master/messages_operation_status_update", 1);
        let Some(agent) = self.links.get(&link).cloned() else { return };
        let failed = update.status.as_ref().is_some_and(|status| {
            matches!(status.state(), OperationState::OperationFailed | OperationState::OperationError)
        });
        let counter = match self.note_operation(&agent, update) {
            true => "master/valid_operation_status_updates",
            false => "master/invalid_operation_status_updates",
        };
        self.counters.add(counter, 1);
        if failed {
            // Its resources are not what they are here: it is to report them anew.
            tracing::warn!(agent_id = %agent, "agent could not carry out an operation");
            self.effects.push(Effect::CloseLink { link });
            self.agent_unlinked(link);
        }
    }

    /// Takes note of a status and passes it on. Whether it is of an operation that is known, or of a framework that
    /// is.
    pub(crate) fn note_operation(&mut self, agent: &AgentId, update: OperationUpdate) -> bool {
        let (Ok(uuid), Some(status)) = (OperationUuid::try_from(&*update.uuid), update.status) else {
            return false;
        };
        if !self.operations.contains_key(&uuid)
            && !self.hear_of_operation(agent, uuid, update.framework_id, &status)
        {
            self.acknowledge_at(agent, &uuid);
            return false;
        }
        if self.operations.get(&uuid).is_none_or(|tracked| tracked.agent != *agent) {
            return false;
        }
        let status = pb::OperationStatus { agent_id: Some(agent.to_proto()), ..status };
        self.advance_operation(&uuid, &status);
        let Some(tracked) = self.operations.get_mut(&uuid) else { return true };
        if tracked.id().is_some() {
            tracked.told = Some(status);
            tracked.retry_ms = FIRST_RETRY_MS;
            self.tell_operation(&uuid);
        } else if is_terminal_operation(status.state()) {
            self.end_operation(&uuid);
        }
        true
    }

    /// An operation that an earlier leader sent; whether somebody wants to know its end.
    fn hear_of_operation(
        &mut self,
        agent: &AgentId,
        uuid: OperationUuid,
        framework: Option<pb::FrameworkId>,
        status: &pb::OperationStatus,
    ) -> bool {
        let framework = framework.map(FrameworkId::from).filter(|id| self.frameworks.contains_key(id));
        let (Some(framework), Some(_)) = (framework, &status.operation_id) else { return false };
        let info = Operation { id: status.operation_id.clone(), ..Operation::default() };
        self.track_operation(uuid, Some(&framework), agent, info);
        true
    }

    /// Tells the framework, now and later again.
    pub(crate) fn tell_operation(&mut self, uuid: &OperationUuid) {
        let now = self.now;
        let Some(tracked) = self.operations.get_mut(uuid) else { return };
        let (Some(framework), Some(status)) = (tracked.framework.clone(), tracked.told.clone()) else {
            return;
        };
        let due = now + tracked.retry_ms;
        tracked.retry_ms = (tracked.retry_ms * 2).min(LAST_RETRY_MS);
        if let Some(before) = tracked.due_ms.replace(due) {
            self.timers.cancel(before, Timer::Operation(*uuid));
        }
        if self.frameworks.get(&framework).is_some_and(Framework::is_connected) {
            self.send(&framework, events::operation(status));
            self.timers.set(due, Timer::Operation(*uuid));
        }
    }

    /// A framework is back: it is told again what it has not acknowledged.
    pub(crate) fn tell_operations(&mut self, id: &FrameworkId) {
        let Some(framework) = self.frameworks.get(id) else { return };
        for uuid in framework.operations.values().copied().collect::<Vec<_>>() {
            if let Some(tracked) = self.operations.get_mut(&uuid) {
                tracked.retry_ms = FIRST_RETRY_MS;
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
        let told = uuid.and_then(|uuid| self.operations.get(&uuid)?.told.as_ref()?.uuid.as_ref());
        match (uuid, told) {
            (Some(uuid), Some(told)) if told.value == acknowledge.uuid => {
                self.counters.add("master/valid_operation_status_update_acknowledgements", 1);
                self.forget_operation(&uuid);
            }
            _ => self.counters.add("master/invalid_operation_status_update_acknowledgements", 1),
        }
    }

    /// The operation is over for its framework: its agent may forget it too.
    fn forget_operation(&mut self, uuid: &OperationUuid) {
        if let Some(tracked) = self.end_operation(uuid) {
            self.acknowledge_at(&tracked.agent, uuid);
        }
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
            self.forget_operation(&uuid);
        }
    }

    /// What a report says of operations; those that it does not know never reached the agent, or nobody asked it to
    /// remember them.
    pub(crate) fn adopt_operations(&mut self, agent: &AgentId, reported: Vec<OperationUpdate>) {
        let known: BTreeSet<_> = reported.iter().map(|update| update.uuid.to_vec()).collect();
        for update in reported {
            self.note_operation(agent, update);
        }
        for uuid in self.operations_of(agent, |tracked| !known.contains(&tracked.uuid[..])) {
            let text = "Operation is unknown to its agent";
            self.judge_operation(&uuid, OperationState::OperationDropped, text);
            self.end_operation(&uuid);
        }
    }

    /// The agent is out of contact, or gone for good.
    pub(crate) fn lose_operations(&mut self, agent: &AgentId, state: OperationState) {
        for uuid in self.operations_of(agent, |_| true) {
            self.judge_operation(&uuid, state, "The operation's agent is lost");
            let asked = self.operations.get(&uuid).is_some_and(|tracked| tracked.id().is_some());
            if !asked || state != OperationState::OperationUnreachable {
                self.end_operation(&uuid);
            }
        }
    }

    /// A status by the leader itself of an operation that has not ended: it has no uuid, so it is not acknowledged.
    fn judge_operation(&mut self, uuid: &OperationUuid, state: OperationState, message: &str) {
        let Some(tracked) = self.operations.get(uuid) else { return };
        if is_terminal_operation(tracked.state()) {
            return;
        }
        let status = pb::OperationStatus {
            state: state.into(),
            message: Some(message.to_owned()),
            uuid: None,
            ..tracked.latest()
        };
        let (framework, asked) = (tracked.framework.clone(), tracked.id().is_some());
        self.advance_operation(uuid, &status);
        if let Some(framework) = framework.filter(|_| asked) {
            self.send(&framework, events::operation(status));
        }
    }

    /// What is known of an operation, for reconciliation.
    pub(crate) fn operation_status(&self, framework: &FrameworkId, id: &str) -> Option<pb::OperationStatus> {
        let uuid = self.frameworks.get(framework)?.operations.get(id)?;
        let latest = self.operations.get(uuid)?.latest();
        let message = Some("Reconciliation: Latest operation status".to_owned());
        Some(pb::OperationStatus { uuid: None, message, ..latest })
    }
}
