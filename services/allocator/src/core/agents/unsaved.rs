//! Tasks that do not outlive their agent's process: those of frameworks that do not ask for checkpoints (Mesos 4.7).

use meshos_proto::{
    meshos::{allocator::v1::TaskPlace, registry::v1::AgentState},
    mesos::v1::{TaskState, task_status::Reason},
};
use meshos_types::{AgentId, FrameworkId};

use crate::core::{
    Core,
    events::{self, Verdict},
};

impl Core {
    /// Declares the tasks lost that nobody can have saved. Only an agent that has broken off from everybody, the
    /// registry included, has ended; a link may break for other reasons, and a change of leader says nothing.
    pub(super) fn lose_unsaved(&mut self, id: &AgentId) {
        let Some(agent) = self.agents.get(id) else { return };
        if agent.link.is_some() || !agent.heard || agent.state != AgentState::Disconnected {
            return;
        }
        let message = format!("Agent {} disconnected", agent.about.info.hostname);
        let of_unsaved = |(framework, _): &&(FrameworkId, _)| !self.is_saved(framework);
        for (framework, task) in agent.tasks.iter().filter(of_unsaved).cloned().collect::<Vec<_>>() {
            let reason = Reason::AgentDisconnected;
            let verdict = Verdict { state: TaskState::TaskLost, reason, message: message.clone() };
            self.judge_task(&framework, events::status(&task, Some(id), &verdict, self.now));
            self.retire_task(&framework, &task, TaskPlace::Completed);
        }
        let unsaved: Vec<FrameworkId> = self.executors.frameworks(id);
        let unsaved: Vec<FrameworkId> = unsaved.into_iter().filter(|id| !self.is_saved(id)).collect();
        self.end_executors(id, |framework, _| unsaved.contains(framework));
    }

    fn is_saved(&self, framework: &FrameworkId) -> bool {
        self.frameworks.get(framework).is_some_and(|known| known.info.checkpoint.unwrap_or_default())
    }
}
