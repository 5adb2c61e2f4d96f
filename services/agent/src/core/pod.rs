//! Task groups whose executor is Mesos's own: the agent plays it, without a process. The tasks share its sandbox; when
//! one of a group fails or is killed, the rest of the group is killed.

use std::path::{Component, Path, PathBuf};

use meshos_proto::mesos::v1::{
    self as pb, TaskState,
    task_status::Reason,
    volume::source::{self, sandbox_path},
};
use tracing::info;

use super::{
    Core, Effect, Now, Phase, TaskKey,
    executor::{Batch, ExecutorKey, ExecutorState},
    kill::DEFAULT_GRACE,
    launch::{positive, spec},
    status::News,
    task::{Home, Task},
};
use crate::containerizer::{ContainerSpec, Within};

impl Core {
    /// Starts the tasks of a group, or none of them.
    pub(super) fn begin_pod_tasks(&mut self, key: &ExecutorKey, batch: Batch, now: Now) {
        let Some(executor) = self.executor(key) else { return };
        let (directory, parent) = (executor.directory.clone(), executor.container_id.clone());
        let group = batch.group.clone().unwrap_or_else(|| self.rng.uuid().to_string());
        let mut prepared = Vec::new();
        for (task_key, info) in &batch.tasks {
            let container_id = self.rng.uuid().to_string();
            let sandbox = directory.join("containers").join(&container_id);
            let task = Task::new(info.clone(), container_id, sandbox, batch.traceparent.clone());
            let task = Task {
                home: Home::Pod { id: key.executor_id.clone(), group: group.clone(), parent: parent.clone() },
                ..task
            };
            match self.pod_spec(&directory, task_key, &task) {
                Ok(spec) => prepared.push((task_key.clone(), task, spec)),
                Err(reason) => {
                    let text =
                        format!("No task of the group was started: task '{}': {reason}", task_key.task_id);
                    self.refuse(
                        key,
                        batch,
                        News::agent(TaskState::TaskFailed, Reason::ContainerLaunchFailed, text),
                        now,
                    );
                    return self.end_empty_pod(key);
                }
            }
        }
        for (task_key, task, spec) in prepared {
            self.containers.insert(task.container_id.clone(), task_key.clone());
            self.take_task(&task_key, task);
            self.effects.push(Effect::Launch(Box::new(spec)));
            self.report(&task_key, News::executor(TaskState::TaskStarting), now);
        }
    }

    fn pod_spec(&self, directory: &Path, key: &TaskKey, task: &Task) -> Result<ContainerSpec, String> {
        let framework = self.frameworks.get(&key.framework_id).ok_or("its framework is not known")?;
        let shared = parent_volumes(&task.info)?;
        let container =
            task.info.container.clone().map(|container| pb::ContainerInfo { volumes: vec![], ..container });
        let info = pb::TaskInfo { container, ..task.info.clone() };
        let bare =
            Task::new(info, task.container_id.clone(), task.directory.clone(), task.traceparent.clone());
        let bare = Task { home: task.home.clone(), ..bare };
        let spec = spec(&self.settings, &framework.info, &bare)?;
        let link = Path::new("tasks").join(key.task_id.as_str());
        Ok(ContainerSpec { within: Some(Within { sandbox: directory.to_owned(), link, shared }), ..spec })
    }

    /// A task of a group ended: so may its group, and the executor.
    pub(super) fn member_ended(&mut self, key: &TaskKey, home: &Home, now: Now) {
        let Home::Pod { id, group, .. } = home else { return };
        let executor = ExecutorKey { framework_id: key.framework_id.clone(), executor_id: id.clone() };
        self.enforce_group(&executor, group, now);
        self.end_empty_pod(&executor);
    }

    /// Kills the rest of a group of which a member failed or was killed.
    fn enforce_group(&mut self, executor: &ExecutorKey, group: &str, now: Now) {
        let members: Vec<_> = self
            .tasks_of(executor)
            .into_iter()
            .filter(|key| self.task(key).is_some_and(|task| task.home.group() == Some(group)))
            .collect();
        let broken = members.iter().any(|key| {
            self.task(key).is_some_and(|task| task.is_over() && task.state() != TaskState::TaskFinished)
        });
        if !broken {
            return;
        }
        for key in members {
            if let Some(task) =
                self.task(&key).filter(|task| task.phase != Phase::Ended && task.kill.is_none())
            {
                let grace = task.info.kill_policy.as_ref().and_then(super::kill::grace);
                info!(task_id = %key.task_id, framework_id = %key.framework_id, "killed with its group");
                self.end(&key, grace.unwrap_or(DEFAULT_GRACE), now);
            }
        }
    }

    /// The executor of task groups ends with its last task.
    fn end_empty_pod(&mut self, key: &ExecutorKey) {
        let live = self
            .tasks_of(key)
            .iter()
            .any(|key| self.task(key).is_some_and(|task| task.phase != Phase::Ended));
        if !live && self.executor(key).is_some_and(super::executor::Executor::is_pod) {
            self.forget_executor(key, None);
        }
    }

    /// All tasks of the executor shall end.
    pub(super) fn shutdown_pod(&mut self, key: &ExecutorKey, now: Now) {
        let own = self
            .executor(key)
            .and_then(|executor| executor.info.shutdown_grace_period.as_ref().and_then(positive));
        let grace = own.unwrap_or(self.settings.shutdown_grace);
        if let Some(executor) = self.executor_mut(key) {
            executor.state = ExecutorState::Terminating;
        }
        for task_key in self.tasks_of(key) {
            self.end(&task_key, grace, now);
        }
        self.end_empty_pod(key);
    }

    /// After a restart of the agent, once the tasks were compared with their containers.
    pub(super) fn resume_pod(&mut self, key: &ExecutorKey, now: Now) {
        let mut groups: Vec<_> = self
            .tasks_of(key)
            .iter()
            .filter_map(|key| self.task(key)?.home.group().map(str::to_owned))
            .collect();
        groups.dedup();
        for group in groups {
            self.enforce_group(key, &group, now);
        }
        self.end_empty_pod(key);
    }
}

/// Directories of the executor's sandbox that a task shares with the others: where they are there, and where in the
/// task's own sandbox.
fn parent_volumes(task: &pb::TaskInfo) -> Result<Vec<(PathBuf, PathBuf)>, String> {
    let Some(container) = &task.container else { return Ok(Vec::new()) };
    container.volumes.iter().map(parent_volume).collect()
}

fn parent_volume(volume: &pb::Volume) -> Result<(PathBuf, PathBuf), String> {
    let path = volume.source.as_ref().filter(|source| source.r#type() == source::Type::SandboxPath);
    let path = path.and_then(|source| source.sandbox_path.as_ref());
    let path = path.filter(|path| path.r#type() == sandbox_path::Type::Parent);
    let Some(path) = path else {
        return Err(format!(
            "the volume at '{}' is of a kind that this agent does not support: only SANDBOX_PATH of type PARENT is",
            volume.container_path
        ));
    };
    Ok((inside(&path.path)?, inside(&volume.container_path)?))
}

/// A path that leads into a sandbox.
fn inside(path: &str) -> Result<PathBuf, String> {
    let path = Path::new(path);
    let normal = |part: Component<'_>| matches!(part, Component::Normal(_));
    match !path.as_os_str().is_empty() && path.components().all(normal) {
        true => Ok(path.to_owned()),
        false => Err(format!("the path '{}' of a volume must be relative, without '..'", path.display())),
    }
}
