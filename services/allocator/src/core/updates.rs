//! Status updates from agents (Mesos 4.3).

use meshos_proto::{meshos::allocator::v1::StatusUpdate, mesos::v1::TaskState};
use meshos_types::{FrameworkId, TaskId};

use super::{Core, LinkId, events, ledger::add_status};

impl Core {
    /// Accounts for the newest state, and passes the update on. A framework that is away gets it later: the
    /// agent sends it again until it is acknowledged.
    pub(super) fn status_update(&mut self, link: LinkId, update: StatusUpdate) {
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
                let first_sight = entry.task.status_update_uuid != status.uuid;
                self.change_task(&framework, &task, |task| {
                    // The field's default is STARTING, which no update is behind.
                    let newest = TaskState::try_from(latest).unwrap_or(TaskState::TaskStarting);
                    let newest = if newest == TaskState::TaskStarting { status.state() } else { newest };
                    task.state = newest.into();
                    task.status_update_state = Some(status.state);
                    task.status_update_uuid.clone_from(&status.uuid);
                    add_status(task, &status);
                });
                if first_sight {
                    self.counters.status(&status);
                }
            }
            // Forwarded all the same: the framework has the last word, and its acknowledgement quiets the agent.
            _ => self.counters.add("master/invalid_status_updates", 1),
        }
        self.send_traced(&framework, events::update(status), update.traceparent);
    }
}
