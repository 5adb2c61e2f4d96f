//! Reconciliation: what the leader knows of tasks (Mesos 4.4).

use std::collections::{BTreeSet, VecDeque};

use meshos_proto::{
    meshos::registry::v1::AgentState,
    mesos::v1::{self as pb, TaskState, scheduler::call, task_status::Reason},
};
use meshos_types::{AgentId, FrameworkId, TaskId, task_state::compatible_state};

use super::{
    Core,
    events::{self, Verdict},
    ledger::Entry,
};

/// Tasks that are answered for in one turn.
const ANSWERS: usize = 1000;
/// Questions that may wait; with more, the oldest are answered at once.
const QUESTIONS: usize = 256;

/// What a framework still wants to know of its tasks.
#[derive(Debug)]
pub(super) enum Question {
    All(VecDeque<TaskId>),
    Some(VecDeque<(TaskId, Option<AgentId>)>),
}

impl Question {
    /// The next task, the agent that it is said to be on, and whether it is one of all.
    fn next(&mut self) -> Option<(TaskId, Option<AgentId>, bool)> {
        match self {
            Self::All(tasks) => tasks.pop_front().map(|task| (task, None, true)),
            Self::Some(tasks) => tasks.pop_front().map(|(task, agent)| (task, agent, false)),
        }
    }
}

impl Core {
    /// An empty list asks for all tasks: those of agents that are still awaited follow when these link.
    pub(super) fn reconcile(&mut self, id: &FrameworkId, reconcile: &call::Reconcile) {
        let awaiting = !self.recovered.is_empty();
        let Some(framework) = self.frameworks.get_mut(id) else { return };
        let question = if reconcile.tasks.is_empty() {
            framework.unanswered.all |= awaiting;
            Question::All(framework.ledger.live.keys().cloned().collect())
        } else {
            let named = |task: &call::reconcile::Task| {
                (TaskId::from(&task.task_id), task.agent_id.as_ref().map(AgentId::from))
            };
            Question::Some(reconcile.tasks.iter().map(named).collect())
        };
        if matches!(question, Question::All(_)) {
            // The newest asks for what the ones before ask for.
            self.questions.retain(|(of, question)| of != id || !matches!(question, Question::All(_)));
        }
        self.questions.push_back((id.clone(), question));
        while self.questions.len() > QUESTIONS {
            self.answer_next();
        }
        // Behind those that wait already.
        if self.questions.len() == 1 {
            self.answer_questions();
        }
    }

    /// A turn's part of the answers: a framework with very many tasks holds up nobody.
    pub(super) fn answer_questions(&mut self) {
        for _ in 0..ANSWERS {
            if self.questions.is_empty() {
                return;
            }
            self.answer_next();
        }
    }

    fn answer_next(&mut self) {
        let Some((id, question)) = self.questions.front_mut() else { return };
        let (id, next) = (id.clone(), question.next());
        match next {
            // One that has ended since is no longer among all.
            Some((task, None, true)) if self.live_state(&id, &task).is_none() => {}
            Some((task, agent, _)) => self.reconcile_one(&id, &task, agent.as_ref()),
            None => drop(self.questions.pop_front()),
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
            let mut status = self.known_status(task, entry);
            status.state = compatible_state(status.state(), framework.is_partition_aware()).into();
            return self.answer(id, status);
        }
        let remembered = framework.ledger.unreachable.get(task).map(|task| task.agent.clone());
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
            // It may run there, but the agent may not say so.
            Some(AgentState::Connected | AgentState::Disconnected)
                if known.is_some_and(|agent| agent.kept_out) =>
            {
                (TaskState::TaskUnreachable, "Reconciliation: Task is unreachable: its agent is not taken")
            }
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
            let ms = if ms == 0 { self.now } else { ms };
            let nanoseconds = i64::try_from(ms.saturating_mul(1_000_000)).unwrap_or(i64::MAX);
            status.unreachable_time = Some(pb::TimeInfo { nanoseconds });
        }
        self.answer(id, status);
    }

    /// The state that the framework was told last.
    fn known_status(&self, task: &TaskId, entry: &Entry) -> pb::TaskStatus {
        let state = entry.task.told().unwrap_or_else(|| entry.task.state());
        let message = "Reconciliation: Latest task state".to_owned();
        let verdict = Verdict { state, reason: Reason::Reconciliation, message };
        let last = entry.task.last_of(state).unwrap_or_default();
        pb::TaskStatus {
            executor_id: entry.task.executor().map(|id| pb::ExecutorId { value: id.to_owned() }),
            healthy: last.healthy,
            labels: last.labels,
            container_status: last.container_status,
            check_status: last.check_status,
            ..events::status(task, Some(&entry.agent), &verdict, self.now)
        }
    }

    fn answer(&mut self, id: &FrameworkId, status: pb::TaskStatus) {
        self.send(id, events::update(status));
    }
}
