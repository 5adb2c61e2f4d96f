//! RECONCILE_OPERATIONS: what the leader knows of operations (Mesos 4.4).

use meshos_proto::{
    meshos::registry::v1::AgentState,
    mesos::v1::{
        self as pb, OperationState,
        scheduler::call::{ReconcileOperations, reconcile_operations},
    },
};
use meshos_types::{AgentId, FrameworkId};

use crate::core::{Core, events};

impl Core {
    /// An empty list asks for all operations that have an id.
    pub(crate) fn reconcile_operations(&mut self, id: &FrameworkId, asked: &ReconcileOperations) {
        let Some(framework) = self.frameworks.get(id) else { return };
        let statuses: Vec<pb::OperationStatus> = if asked.operations.is_empty() {
            let known = framework.operations.keys();
            known.filter_map(|operation| self.operation_status(id, operation)).collect()
        } else {
            let known = |operation| self.operation_status(id, operation);
            asked
                .operations
                .iter()
                .map(|operation| {
                    known(&operation.operation_id.value).unwrap_or_else(|| self.unknown_operation(operation))
                })
                .collect()
        };
        for status in statuses {
            self.send(id, events::operation(status));
        }
    }

    /// What can be said of an unknown operation depends on its agent alone.
    fn unknown_operation(&self, asked: &reconcile_operations::Operation) -> pb::OperationStatus {
        let agent = asked.agent_id.as_ref().map(AgentId::from);
        let known = agent.as_ref().and_then(|agent| self.agents.get(agent));
        let awaited = agent.as_ref().is_some_and(|agent| self.recovered.contains(agent));
        let (state, text) = match known.map(|agent| agent.state) {
            _ if awaited => {
                (OperationState::OperationRecovering, "Agent is recovered but has not re-registered")
            }
            Some(AgentState::Connected | AgentState::Disconnected) => {
                (OperationState::OperationUnknown, "Operation is unknown to the agent")
            }
            Some(AgentState::Unreachable) => (OperationState::OperationUnreachable, "Agent is unreachable"),
            Some(AgentState::Gone) => (OperationState::OperationGoneByOperator, "Agent is marked gone"),
            _ => (OperationState::OperationUnknown, "Both operation and agent are unknown"),
        };
        pb::OperationStatus {
            operation_id: Some(asked.operation_id.clone()),
            state: state.into(),
            message: Some(format!("Reconciliation: {text}")),
            agent_id: asked.agent_id.clone(),
            resource_provider_id: asked.resource_provider_id.clone(),
            ..pb::OperationStatus::default()
        }
    }
}
