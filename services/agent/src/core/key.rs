//! The name of a task.

use meshos_types::{FrameworkId, TaskId};
use tracing::warn;

use crate::checkpoint;

/// Names a task on this agent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskKey {
    pub framework_id: FrameworkId,
    pub task_id: TaskId,
}

impl TaskKey {
    pub(crate) fn to_record(&self) -> checkpoint::Key {
        checkpoint::Key { framework_id: self.framework_id.to_string(), task_id: self.task_id.to_string() }
    }

    /// Checks the ids, which become names of directories.
    pub(super) fn parse(framework_id: &str, task_id: &str) -> Option<Self> {
        let parsed = FrameworkId::parse(framework_id)
            .and_then(|framework_id| TaskId::parse(task_id).map(|task_id| Self { framework_id, task_id }));
        parsed
            .inspect_err(|error| warn!(framework_id, task_id, %error, "command with an invalid id dropped"))
            .ok()
    }
}

impl std::fmt::Display for TaskKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.framework_id, self.task_id)
    }
}
