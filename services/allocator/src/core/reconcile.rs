//! Reconciliation: what the leader knows of tasks (Mesos 4.4).

use std::collections::BTreeSet;

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
    /// An empty list asks for all tasks: those of agents that are still awaited follow when these link.
    pub(super) fn reconcile(&mut self, id: &FrameworkId, reconcile: &call::Reconcile) {
        if !reconcile.tasks.is_empty() {
            for task in &reconcile.tasks {
                let agent = task.agent_id.as_ref().map(AgentId::from);
                self.reconcile_one(id, &TaskId::from(&task.task_id), agent.as_ref());
            }
            return;
        }
        let awaiting = !self.recovered.is_empty();
        let Some(framework) = self.frameworks.get_mut(id) else { return };
        framework.unanswered.all |= awaiting;
        let live: Vec<TaskId> = framework.ledger.live.keys().cloned().collect();
        for task in live {
            self.reconcile_one(id, &task, None);
        }
    }

    /// An agent is no longer awaited: it has linked, or it is known that it does not come.
    pub(super) fn no_longer_awaited(&mut self, agent: &AgentId) {
        if self.recovered.remove(agent) {
            self.answer_late(agent, false);
        }
    }

    /// Answers what frameworks asked while the agent was awaited. Its live tasks are left out when their frameworks
    /// were `told` of them anyway.
    pub(super) fn answer_late(&mut self, agent: &AgentId, told: bool) {
        let live = self.agents.get(agent).map(|agent| agent.tasks.clone()).unwrap_or_default();
        let mut questions = BTreeSet::new();
        for (id, framework) in self.frameworks.iter_mut().filter(|(_, framework)| framework.is_connected()) {
            let asked = framework.unanswered.tasks.remove(agent).unwrap_or_default();
            questions.extend(asked.into_iter().map(|task| (id.clone(), task)));
        }
        let all =
            |id: &FrameworkId| self.frameworks.get(id).is_some_and(|framework| framework.unanswered.all);
        questions.extend(live.iter().filter(|(id, _)| all(id)).cloned());
        for (id, task) in questions {
            if !(told && live.contains(&(id.clone(), task.clone()))) {
                self.reconcile_one(&id, &task, Some(agent));
            }
        }
    }

    /// One task, known or not; silence where nobody can know yet: the answer follows once its agent has linked.
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
            let agent = agent.cloned();
            if let (Some(agent), Some(framework)) = (agent, self.frameworks.get_mut(id)) {
                framework.unanswered.tasks.entry(agent).or_default().insert(task.clone());
            }
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

    /// An empty list asks for all operations. What can be said of unknown ones depends on the agent alone.
    pub(super) fn reconcile_operations(&mut self, id: &FrameworkId, asked: &call::ReconcileOperations) {
        if asked.operations.is_empty() {
            let Some(framework) = self.frameworks.get(id) else { return };
            for operation in framework.operations.keys().cloned().collect::<Vec<_>>() {
                if let Some(status) = self.operation_status(id, &operation) {
                    self.send(id, events::operation(status));
                }
            }
            return;
        }
        for operation in &asked.operations {
            if let Some(status) = self.operation_status(id, &operation.operation_id.value) {
                self.send(id, events::operation(status));
                continue;
            }
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
