//! Persistent volumes of tasks that come to an executor which is there already: they must be in its sandbox before it is
//! told of the tasks.

use std::path::{Path, PathBuf};

use meshos_proto::mesos::v1::{TaskState, task_status::Reason};

use meshos_types::TaskId;

use super::{Batch, ExecutorKey, Queued};
use crate::{
    containerizer::ContainerSpec,
    core::{Core, Effect, Now, Phase, TaskKey, launch::volumes, status::News, task::Task},
};

type Volumes = Vec<(PathBuf, PathBuf)>;

impl Core {
    /// The volumes that these tasks bring to an executor.
    ///
    /// # Errors
    /// Why it cannot be given them.
    pub(super) fn late_volumes(&self, key: &ExecutorKey, batch: &Batch) -> Result<Volumes, String> {
        let of =
            |resources: &[meshos_proto::mesos::v1::Resource]| volumes(&self.settings.work_dir, resources);
        let mut new = Volumes::new();
        for (_, task) in &batch.tasks {
            new.extend(of(&task.resources)?);
        }
        let Some(executor) = self.executor(key).filter(|executor| !executor.is_pod()) else { return Ok(new) };
        if !new.is_empty() && executor.info.container.is_some() {
            return Err(
                "this agent gives a persistent volume to an executor in a container of its own only when it \
                        starts it"
                    .to_owned(),
            );
        }
        let live =
            self.tasks_of(key).into_iter().filter_map(|key| self.task(&key)).filter(|task| !task.is_over());
        let mut there = of(&executor.info.resources)?;
        for task in live {
            there.extend(of(&task.info.resources)?);
        }
        for volume in &new {
            let collides = |(path, place): &&(PathBuf, PathBuf)| {
                (path, place) != (&volume.0, &volume.1) && lie_in_each_other(place, &volume.1)
            };
            if let Some((_, place)) = there.iter().find(collides) {
                return Err(format!(
                    "the path '{}' of a persistent volume and '{}', which the executor has, lie one in the other",
                    volume.1.display(),
                    place.display()
                ));
            }
        }
        Ok(new)
    }

    /// The volumes of tasks that wait for an executor; those that were there when it started, too.
    pub(super) fn volumes_of(&self, key: &ExecutorKey, queued: &Queued) -> Volumes {
        let task = |task_id: &TaskId| {
            self.task(&TaskKey { framework_id: key.framework_id.clone(), task_id: task_id.clone() })
        };
        let of = |task: &Task| volumes(&self.settings.work_dir, &task.info.resources).unwrap_or_default();
        queued.tasks.iter().filter_map(task).flat_map(of).collect()
    }

    /// Has volumes brought into an executor's sandbox; what the tasks that need them wait for.
    pub(super) fn provide(&mut self, key: &ExecutorKey, volumes: Volumes) -> Option<u64> {
        let user = self.frameworks.get(&key.framework_id)?.info.user.clone();
        let executor = self.executor_mut(key).filter(|_| !volumes.is_empty())?;
        executor.provisions += 1;
        let number = executor.provisions;
        let own = executor.info.command.as_ref().and_then(|command| command.user.clone());
        let container_id = executor.container_id.clone();
        let spec = ContainerSpec {
            // Its limits are not touched.
            beside: Some(container_id.clone()),
            container_id,
            sandbox: executor.directory.clone(),
            user: Some(own.unwrap_or(user)),
            volumes,
            ..ContainerSpec::default()
        };
        self.effects.push(Effect::Provide { number, spec: Box::new(spec) });
        Some(number)
    }

    /// The volumes of queued tasks are there, or cannot be.
    pub(in crate::core) fn provided(
        &mut self,
        container_id: &str,
        (number, error): (u64, Option<String>),
        now: Now,
    ) {
        let Some(key) = self.executor_containers.get(container_id).cloned() else { return };
        let Some(executor) = self.executor_mut(&key) else { return };
        let Some(at) = executor.queued.iter().position(|queued| queued.waits_for == Some(number)) else {
            return;
        };
        match error {
            None => {
                if let Some(queued) = executor.queued.get_mut(at) {
                    queued.waits_for = None;
                }
            }
            Some(error) => {
                let queued = executor.queued.remove(at);
                self.cannot_provide(&key, queued, &error, now);
            }
        }
        self.deliver(&key);
    }

    fn cannot_provide(&mut self, key: &ExecutorKey, queued: Option<Queued>, error: &str, now: Now) {
        for task_id in queued.into_iter().flat_map(|queued| queued.tasks) {
            let task_key = TaskKey { framework_id: key.framework_id.clone(), task_id };
            let Some(task) = self.task_mut(&task_key).filter(|task| task.phase == Phase::Launching) else {
                continue;
            };
            task.phase = Phase::Ended;
            let message = format!("The executor cannot be given the task's volumes: {error}");
            self.report(
                &task_key,
                News::agent(TaskState::TaskFailed, Reason::ContainerUpdateFailed, message),
                now,
            );
        }
    }
}

fn lie_in_each_other(one: &Path, other: &Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
}
