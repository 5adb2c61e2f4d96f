//! Task groups whose executor is Mesos's own: the agent plays it, without a process. The tasks share its sandbox; when
//! one of a group fails or is killed, the rest of the group is killed.

use std::path::{Path, PathBuf};

use meshos_proto::mesos::v1::{self as pb, TaskState, task_status::Reason};
use tracing::info;

use super::{
    Core, Now, Phase, TaskKey,
    container::{self, Order},
    executor::{Batch, ExecutorKey, ExecutorState},
    kill::DEFAULT_GRACE,
    launch::{in_container, positive},
    status::News,
    task::{Home, Task},
};
use crate::containerizer::{ContainerSetup, ContainerSpec, Within};

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
            self.start(&task_key, spec, now);
        }
    }

    fn pod_spec(&self, directory: &Path, key: &TaskKey, task: &Task) -> Result<ContainerSpec, String> {
        let framework = self.frameworks.get(&key.framework_id).ok_or("its framework is not known")?;
        let link = Path::new("tasks").join(key.task_id.as_str());
        let links = self.linked_volumes(key, task)?;
        let spec = match &links {
            Some(_) => in_container(&self.settings, &framework.info, task, None)?,
            None => {
                let setup = self.pod_setup(directory, key, task)?;
                in_container(&self.settings, &framework.info, task, setup)?
            }
        };
        let shared = links.unwrap_or_default();
        Ok(ContainerSpec { within: Some(Within { sandbox: directory.to_owned(), link, shared }), ..spec })
    }

    /// Directories that a plain process shares with the others of its pod; none when it is more than that.
    fn linked_volumes(&self, key: &TaskKey, task: &Task) -> Result<Option<Vec<(PathBuf, PathBuf)>>, String> {
        let Some(container) = &task.info.container else { return Ok(None) };
        let Some(links) = container::links(&container.volumes) else { return Ok(None) };
        let bare = pb::ContainerInfo { volumes: Vec::new(), ..container.clone() };
        let info = pb::TaskInfo { container: Some(bare), ..task.info.clone() };
        let bare = Task::new(info, task.container_id.clone(), task.directory.clone(), String::new());
        let bare = Task { home: task.home.clone(), ..bare };
        // What cannot be run without its volumes cannot be run with them.
        match self.pod_setup(Path::new(""), key, &bare)? {
            Some(_) => Ok(None),
            None => links.map(Some),
        }
    }

    /// The container of a task of a group: the executor's networks are its own, too, and shared by all.
    fn pod_setup(
        &self,
        directory: &Path,
        key: &TaskKey,
        task: &Task,
    ) -> Result<Option<ContainerSetup>, String> {
        let info = &task.info;
        let Home::Pod { id, parent, .. } = &task.home else { return Ok(None) };
        let executor = ExecutorKey { framework_id: key.framework_id.clone(), executor_id: id.clone() };
        let executor = self.executor(&executor).map(|executor| &executor.info);
        let shared = executor.and_then(|info| info.container.as_ref());
        let shared = shared.map(|container| container.network_infos.clone()).unwrap_or_default();
        let shares = !shared.is_empty()
            && info.container.as_ref().is_none_or(|container| container.network_infos.is_empty());
        let joined = shares.then(|| pb::ContainerInfo {
            r#type: pb::container_info::Type::Mesos as i32,
            network_infos: shared,
            ..info.container.clone().unwrap_or_default()
        });
        // Ports of the pod may be those of any of its parts.
        let mut resources = info.resources.clone();
        resources.extend(executor.map(|info| info.resources.clone()).unwrap_or_default());
        let order = Order {
            info: joined.as_ref().or(info.container.as_ref()),
            command: info.command.as_ref(),
            resources: &resources,
            parent: Some(directory),
        };
        let setup = container::setup(&self.settings, order)?;
        Ok(setup.map(|mut setup| {
            setup.network.shared_as = shares.then(|| parent.clone());
            setup
        }))
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
