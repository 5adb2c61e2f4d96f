//! What the files API shows: sandboxes, and the volumes in them, to which only links lead.

use std::path::{Path, PathBuf};

use meshos_proto::mesos::v1 as pb;

use super::{
    Core,
    container::parent_volumes,
    executor::Executor,
    launch::volumes,
    task::{Framework, Home, Task},
};

/// A sandbox, and what is shown with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    pub sandbox: PathBuf,
    /// Where volumes are shown, and where they are.
    pub volumes: Vec<(PathBuf, PathBuf)>,
}

impl Core {
    /// All sandboxes.
    #[must_use]
    pub fn shown(&self) -> Vec<Shown> {
        let of_framework = |framework: &Framework| {
            let own = framework.tasks.values().filter_map(|task| self.shown_of_task(framework, task));
            let executors = framework.executors.values().map(|executor| self.shown_of_executor(executor));
            let past =
                framework.past_sandboxes().into_iter().map(|sandbox| Shown { sandbox, volumes: Vec::new() });
            // The newest last: it is `latest`.
            past.chain(own).chain(executors).collect::<Vec<_>>()
        };
        self.frameworks.values().flat_map(of_framework).collect()
    }

    /// What is shown of a container that is about to start, or to be given more volumes; none: it lies in a sandbox that
    /// is shown as a whole.
    #[must_use]
    pub fn shown_of(&self, container_id: &str) -> Option<Shown> {
        if let Some(key) = self.executor_containers.get(container_id) {
            let executor = self.executor(key)?;
            let mut shown = self.shown_of_executor(executor);
            for task in self.tasks_of(key).iter().filter_map(|key| self.task(key)) {
                shown.volumes.extend(self.named(&task.info.resources, &executor.directory));
            }
            return Some(shown);
        }
        let key = self.containers.get(container_id)?;
        self.shown_of_task(self.frameworks.get(&key.framework_id)?, self.task(key)?)
    }

    fn shown_of_executor(&self, executor: &Executor) -> Shown {
        let volumes = self.named(&executor.info.resources, &executor.directory);
        Shown { sandbox: executor.directory.clone(), volumes }
    }

    fn shown_of_task(&self, framework: &Framework, task: &Task) -> Option<Shown> {
        let resources = &task.info.resources;
        match &task.home {
            Home::Own => {
                let sandbox = task.directory.clone();
                Some(Shown { volumes: self.named(resources, &sandbox), sandbox })
            }
            Home::Executor { id, .. } => {
                let sandbox = framework.executors.get(id)?.directory.clone();
                Some(Shown { volumes: self.named(resources, &sandbox), sandbox })
            }
            Home::Pod { id, .. } => {
                let sandbox = framework.executors.get(id)?.directory.clone();
                let link = sandbox.join("tasks").join(&task.info.task_id.value);
                let mut volumes = self.named(resources, &link);
                volumes.extend(self.named(resources, &task.directory));
                let shared = task.info.container.iter().flat_map(|info| parent_volumes(&info.volumes));
                volumes.extend(shared.map(|(path, place)| (link.join(place), sandbox.join(path))));
                Some(Shown { sandbox, volumes })
            }
        }
    }

    /// Persistent volumes by the names that they have below a directory.
    fn named(&self, resources: &[pb::Resource], dir: &Path) -> Vec<(PathBuf, PathBuf)> {
        // A task with volumes that cannot be was not started.
        let volumes = volumes(&self.settings.work_dir, resources).unwrap_or_default();
        volumes.into_iter().map(|(volume, place)| (dir.join(place), volume)).collect()
    }
}
