//! Other resources and attributes while tasks run.

use meshos_proto::mesos::v1 as pb;
use meshos_types::Resources;
use tracing::info;

use super::{Core, Effect, record};
use crate::{checkpoint::Change, reconfiguration::fits};

impl Core {
    /// Whether what runs fits into these resources.
    ///
    /// # Errors
    /// Says what is needed.
    pub fn can_become(&self, resources: &Resources) -> Result<(), String> {
        let frameworks = || self.frameworks.values();
        let tasks = frameworks().flat_map(|framework| framework.tasks.values());
        let tasks = tasks.filter(|task| !task.is_over()).map(|task| task.info.resources.as_slice());
        let executors = frameworks().flat_map(|framework| framework.executors.values());
        let executors = executors.map(|executor| executor.info.resources.as_slice());
        fits(resources, &self.total, tasks.chain(executors))
    }

    /// Goes on with these resources, which all that runs fits into.
    pub(super) fn reconfigure(&mut self, info: pb::AgentInfo, resources: Resources) {
        info!(%resources, "the agent's resources and attributes are other ones from now on");
        let before = std::mem::replace(&mut self.total, resources.clone());
        self.settings.resources = resources;
        self.settings.agent_info = info.clone();
        self.put_back(&before);
        self.effects.push(record(Change::Info(info.clone())));
        self.effects.extend(self.operation_changes().into_iter().map(record));
        self.effects.push(Effect::Reannounce(Box::new(info)));
    }
}
