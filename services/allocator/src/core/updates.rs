//! Status updates from agents (Mesos 4.3).

use meshos_proto::{
    meshos::allocator::v1::StatusUpdate,
    mesos::v1::{self as pb, TaskState},
};
use meshos_types::{FrameworkId, TaskId, task_state::compatible_state};

use super::{Core, Framework, LinkId, events};

impl Core {
    /// Accounts for the newest state, and passes the update on. A framework that is away gets it later: the
    /// agent sends it again until it is acknowledged.
    pub(super) fn status_update(&mut self, link: LinkId, update: StatusUpdate) {
        self.counters.add("master/messages_status_update", 1);
        let latest = update.latest_state;
        let (Some(framework), Some(status)) = (update.framework_id, update.status) else {
            return self.counters.add("master/invalid_status_updates", 1);
        };
        let framework = FrameworkId::from(framework);
        let task = TaskId::from(&status.task_id);
        let Some(agent) = self.links.get(&link).cloned() else { return };
        let Some(known) = self.frameworks.get(&framework) else {
            return self.counters.add("master/invalid_status_updates", 1);
        };
        match known.ledger.live.get(&task) {
            Some(entry) if entry.agent == agent => {
                self.counters.add("master/valid_status_updates", 1);
                let first_sight = entry.task.uuid() != status.uuid.as_deref();
                self.change_task(&framework, &task, |task| {
                    // The field's default is STARTING, which no update is behind.
                    let newest = TaskState::try_from(latest).unwrap_or(TaskState::TaskStarting);
                    let newest = if newest == TaskState::TaskStarting { status.state() } else { newest };
                    task.tell(newest, status.state, status.uuid.as_deref());
                    task.add_status(&status);
                });
                if first_sight {
                    self.count_status(&framework, &status);
                }
            }
            // Forwarded all the same: the framework has the last word, and its acknowledgement quiets the agent.
            _ => self.counters.add("master/invalid_status_updates", 1),
        }
        self.forward(&framework, status, update.traceparent);
    }

    /// In the words that the framework knows: it may have forgotten some since its agent heard of it.
    fn forward(&mut self, framework: &FrameworkId, mut status: pb::TaskStatus, traceparent: String) {
        let aware = self.frameworks.get(framework).is_some_and(Framework::is_partition_aware);
        status.state = compatible_state(status.state(), aware).into();
        self.send_traced(framework, events::update(status), traceparent);
    }
}
