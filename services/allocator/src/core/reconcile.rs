//! Reconciliation: what the leader knows of tasks (Mesos 4.4).

use meshos_proto::{
    meshos::registry::v1::AgentState,
    mesos::v1::{self as pb, OperationState, TaskState, scheduler::call, task_status::Reason},
};
use meshos_types::{AgentId, FrameworkId, TaskId};

use super::{
    Core,
    events::{self, Verdict},
    ledger::Entry,
};

impl Core {
    /// An empty list asks for all tasks.
    pub(super) fn reconcile(&mut self, id: &FrameworkId, reconcile: &call::Reconcile) {
        if !reconcile.tasks.is_empty() {
            for task in &reconcile.tasks {
                let agent = task.agent_id.as_ref().map(AgentId::from);
                self.reconcile_one(id, &TaskId::from(&task.task_id), agent.as_ref());
            }
            return;
        }
        let Some(framework) = self.frameworks.get(id) else { return };
        let live = framework.ledger.live.iter();
        let known: Vec<_> = live.map(|(task, entry)| self.known_status(task, entry)).collect();
        for status in known {
            self.answer(id, status);
        }
    }

    /// One task, known or not; silence where nobody can know yet.
    pub(super) fn reconcile_one(&mut self, id: &FrameworkId, task: &TaskId, agent: Option<&AgentId>) {
        let Some(framework) = self.frameworks.get(id) else { return };
        if let Some(entry) = framework.ledger.live.get(task) {
            let status = self.known_status(task, entry);
            return self.answer(id, status);
        }
        let remembered = framework.ledger.unreachable.get(task).map(|task| AgentId::from(&task.agent_id));
        let agent = remembered.as_ref().or(agent);
        let may_return = match agent {
            Some(agent) => self.recovered.contains(agent),
            None => !self.recovered.is_empty(),
        };
        if may_return {
            return;
        }
        let known = agent.and_then(|agent| self.agents.get(agent));
        let (precise, text) = match known.map(|agent| agent.state) {
            Some(AgentState::Connected | AgentState::Disconnected) => {
                (TaskState::TaskGone, "Reconciliation: Task is unknown to the agent")
            }
            Some(AgentState::Unreachable) => {
                (TaskState::TaskUnreachable, "Reconciliation: Task is unreachable")
            }
            Some(AgentState::Gone) => {
                (TaskState::TaskGoneByOperator, "Reconciliation: Task is gone, as is its agent")
            }
            _ => (TaskState::TaskUnknown, "Reconciliation: Task is unknown"),
        };
        let (state, message) = (framework.state_or_lost(precise), text.to_owned());
        let verdict = Verdict { state, reason: Reason::Reconciliation, message };
        let mut status = events::status(task, agent, &verdict, self.now);
        if precise == TaskState::TaskUnreachable {
            let ms = known.map_or(0, |agent| agent.unreachable_at_ms);
            let nanoseconds = i64::try_from(ms.saturating_mul(1_000_000)).unwrap_or(i64::MAX);
            status.unreachable_time = Some(pb::TimeInfo { nanoseconds });
        }
        self.answer(id, status);
    }

    /// The state that the framework was told last.
    fn known_status(&self, task: &TaskId, entry: &Entry) -> pb::TaskStatus {
        let told = entry.task.status_update_state.and_then(|state| TaskState::try_from(state).ok());
        let state = told.unwrap_or_else(|| entry.task.state());
        let message = "Reconciliation: Latest task state".to_owned();
        let verdict = Verdict { state, reason: Reason::Reconciliation, message };
        let last = entry.task.statuses.iter().rev().find(|status| status.state() == state);
        pb::TaskStatus {
            executor_id: entry.task.executor_id.clone(),
            healthy: last.and_then(|status| status.healthy),
            labels: last.and_then(|status| status.labels.clone()),
            container_status: last.and_then(|status| status.container_status.clone()),
            check_status: last.and_then(|status| status.check_status),
            ..events::status(task, Some(&entry.agent), &verdict, self.now)
        }
    }

    fn answer(&mut self, id: &FrameworkId, status: pb::TaskStatus) {
        self.send(id, events::update(status));
    }

    /// No operation is ever outstanding: what can be said depends on the agent alone.
    pub(super) fn reconcile_operations(&mut self, id: &FrameworkId, asked: &call::ReconcileOperations) {
        for operation in &asked.operations {
            let agent = operation.agent_id.as_ref().map(AgentId::from);
            let known = agent.as_ref().and_then(|agent| self.agents.get(agent));
            let recovering = agent.as_ref().is_some_and(|agent| self.recovered.contains(agent));
            let state = match known.map(|agent| agent.state) {
                _ if recovering => OperationState::OperationRecovering,
                Some(AgentState::Unreachable) => OperationState::OperationUnreachable,
                Some(AgentState::Gone) => OperationState::OperationGoneByOperator,
                _ => OperationState::OperationUnknown,
            };
            let status = pb::OperationStatus {
                operation_id: Some(operation.operation_id.clone()),
                state: state.into(),
                agent_id: operation.agent_id.clone(),
                resource_provider_id: operation.resource_provider_id.clone(),
                ..pb::OperationStatus::default()
            };
            self.send(id, events::operation(status));
        }
    }
}
