//! Tasks that an executor of the framework runs: queued, told to it, killed.

use meshos_proto::{
    meshos::allocator::v1::ExecutorEnded,
    mesos::v1::{self as pb, TaskState, executor::event, task_status::Reason},
};
use tracing::{debug, info, warn};

use super::{ExecutorKey, ExecutorState, Queued, event_of};
use crate::{
    checkpoint::{self, Change},
    core::{
        Core, Now, Phase, TaskKey,
        launch::unknown_resources,
        status::News,
        task::{Home, Kill, Task},
    },
};

/// Tasks that came together for one executor.
#[derive(Debug)]
pub(in crate::core) struct Batch {
    pub(in crate::core) tasks: Vec<(TaskKey, pb::TaskInfo)>,
    /// Of one task group.
    pub(in crate::core) group: Option<String>,
    pub(in crate::core) traceparent: String,
}

impl Core {
    /// Takes tasks for an executor, which is made if it is not there. A group is taken whole or not at all.
    pub(in crate::core) fn launch_with_executor(
        &mut self,
        key: &ExecutorKey,
        info: pb::ExecutorInfo,
        mut batch: Batch,
        now: Now,
    ) {
        let before = batch.tasks.len();
        batch.tasks.retain(|(key, _)| self.task(key).is_none());
        if batch.tasks.is_empty() || (batch.group.is_some() && batch.tasks.len() < before) {
            // Told twice, after a break of the link.
            return debug!(executor_id = %key.executor_id, "launch of tasks that are here already dropped");
        }
        let refusal = self.refusal(key, &batch);
        let late = self.executor(key).is_some();
        let made = match (&refusal, self.executor(key)) {
            (None, None) => {
                let resources: Vec<_> =
                    batch.tasks.iter().flat_map(|(_, task)| task.resources.clone()).collect();
                self.begin_executor(key, info, &resources)
            }
            _ => Ok(()),
        };
        let Some((container_id, directory, is_pod)) = self.place_of(key) else {
            let reason = made.err().unwrap_or_default();
            let failed = News::agent(TaskState::TaskFailed, Reason::ContainerLaunchFailed, reason);
            self.refuse(key, batch, refusal.unwrap_or(failed), now);
            // The leader has counted it already.
            return self.tell_executor_ended(ExecutorEnded {
                framework_id: Some((&key.framework_id).into()),
                executor_id: Some((&key.executor_id).into()),
                wait_status: 0,
            });
        };
        match refusal {
            Some(refusal) => self.refuse(key, batch, refusal, now),
            None if is_pod => self.begin_pod_tasks(key, batch, now),
            None => {
                // Refused above when they cannot be told.
                let volumes =
                    if late { self.late_volumes(key, &batch).unwrap_or_default() } else { Vec::new() };
                let queued = Queued {
                    tasks: batch.tasks.iter().map(|(key, _)| key.task_id.clone()).collect(),
                    is_group: batch.group.is_some(),
                    waits_for: self.provide(key, volumes),
                };
                for (task_key, info) in batch.tasks {
                    let home = Home::Executor { id: key.executor_id.clone(), group: batch.group.clone() };
                    let task =
                        Task::new(info, container_id.clone(), directory.clone(), batch.traceparent.clone());
                    self.take_task(&task_key, Task { home, ..task });
                }
                if let Some(executor) = self.executor_mut(key) {
                    executor.queued.push_back(queued);
                }
                self.deliver(key);
            }
        }
    }

    fn place_of(&self, key: &ExecutorKey) -> Option<(String, std::path::PathBuf, bool)> {
        let executor = self.executor(key)?;
        Some((executor.container_id.clone(), executor.directory.clone(), executor.is_pod()))
    }

    /// Why none of the tasks can be taken.
    fn refusal(&self, key: &ExecutorKey, batch: &Batch) -> Option<News> {
        let (first, _) = batch.tasks.first()?;
        let state = self.dropped_state(first);
        if self.executor(key).is_some_and(|executor| executor.state == ExecutorState::Terminating) {
            return Some(News::agent(state, Reason::ExecutorTerminated, "Executor is terminating"));
        }
        // One that is not there yet is given them when it starts, and one that the agent plays has none of its own.
        let runs = self.executor(key).is_some_and(|executor| !executor.is_pod());
        if let Some(Err(reason)) = runs.then(|| self.late_volumes(key, batch)) {
            return Some(News::agent(TaskState::TaskFailed, Reason::ContainerUpdateFailed, reason));
        }
        let unknown =
            batch.tasks.iter().find_map(|(_, task)| unknown_resources(&self.total, &task.resources))?;
        Some(News::agent(state, Reason::ResourcesUnknown, format!("The agent does not have {unknown}")))
    }

    /// Tells that tasks were not taken.
    pub(in crate::core) fn refuse(&mut self, key: &ExecutorKey, batch: Batch, news: News, now: Now) {
        for (task_key, info) in batch.tasks {
            let home = Home::Executor { id: key.executor_id.clone(), group: batch.group.clone() };
            let task = Task::new(info, String::new(), std::path::PathBuf::new(), batch.traceparent.clone());
            self.take_task(&task_key, Task { home, phase: Phase::Ended, ..task });
            self.report(&task_key, news.clone(), now);
        }
    }

    /// Writes a task down and holds it.
    pub(in crate::core) fn take_task(&mut self, key: &TaskKey, task: Task) {
        self.record(key, Change::Launch(task.record(&key.framework_id)));
        if let Some(framework) = self.frameworks.get_mut(&key.framework_id) {
            framework.tasks.insert(key.task_id.clone(), task);
        }
    }

    /// Tells a subscribed executor of the tasks that wait for it.
    pub(super) fn deliver(&mut self, key: &ExecutorKey) {
        let ready = |core: &Self| {
            core.executor(key).is_some_and(|e| e.state == ExecutorState::Running && e.stream.is_some())
        };
        let mut told = false;
        while ready(self) {
            let executor = self.executor_mut(key);
            let waits = |queued: &Queued| queued.waits_for.is_some();
            let next = executor
                .filter(|executor| !executor.queued.front().is_some_and(waits))
                .and_then(|executor| executor.queued.pop_front());
            let Some(queued) = next else { break };
            let keys = queued
                .tasks
                .into_iter()
                .map(|task_id| TaskKey { framework_id: key.framework_id.clone(), task_id });
            let mut infos = Vec::new();
            for task_key in keys {
                // It may have been killed meanwhile.
                let mine = |task: &&mut Task| {
                    task.phase == Phase::Launching && task.home.executor() == Some(&key.executor_id)
                };
                let Some(task) = self.task_mut(&task_key).filter(mine) else { continue };
                task.phase = Phase::Running;
                infos.push(task.info.clone());
            }
            if infos.is_empty() {
                continue;
            }
            if !std::mem::replace(&mut told, true) {
                self.resize_executor(key);
            }
            self.tell_tasks(key, infos, queued.is_group);
        }
    }

    fn tell_tasks(&mut self, key: &ExecutorKey, infos: Vec<pb::TaskInfo>, is_group: bool) {
        info!(executor_id = %key.executor_id, framework_id = %key.framework_id, tasks = infos.len(), "tasks told to their executor");
        if is_group {
            let mut event = event_of(event::Type::LaunchGroup);
            event.launch_group = Some(event::LaunchGroup { task_group: pb::TaskGroupInfo { tasks: infos } });
            return self.tell_executor(key, event);
        }
        for task in infos {
            let mut event = event_of(event::Type::Launch);
            event.launch = Some(event::Launch { task });
            self.tell_executor(key, event);
        }
    }

    /// Kills a task that an executor runs: the executor is asked, unless it has not heard of the task.
    pub(in crate::core) fn kill_in_executor(
        &mut self,
        key: &TaskKey,
        policy: Option<pb::KillPolicy>,
        now: Now,
    ) {
        let Some(task) = self.task_mut(key) else { return };
        let Home::Executor { id, group } = task.home.clone() else { return };
        let executor = ExecutorKey { framework_id: key.framework_id.clone(), executor_id: id };
        match task.phase {
            Phase::Ended => {}
            Phase::Launching => self.kill_queued(&executor, key, group.as_deref(), now),
            Phase::Running => {
                let grace_ms =
                    policy.as_ref().and_then(super::super::kill::grace).map_or(0, super::super::kill::millis);
                task.kill = Some(Kill { deadline: std::time::Duration::MAX, during_launch: false });
                self.record(key, Change::Kill(checkpoint::Kill { key: key.to_record(), grace_ms }));
                let mut event = event_of(event::Type::Kill);
                event.kill = Some(event::Kill { task_id: (&key.task_id).into(), kill_policy: policy });
                if self.executor(&executor).is_none_or(|executor| executor.stream.is_none()) {
                    warn!(task_id = %key.task_id, "kill waits until the executor subscribes");
                }
                self.tell_executor(&executor, event);
            }
        }
    }

    /// A task that was never told to its executor, and those that came in one group with it.
    fn kill_queued(&mut self, executor: &ExecutorKey, key: &TaskKey, group: Option<&str>, now: Now) {
        let mut keys = vec![key.clone()];
        if group.is_some() {
            let of_group = |core: &Self, key: &TaskKey| {
                core.task(key)
                    .is_some_and(|task| task.home.group() == group && task.phase == Phase::Launching)
            };
            keys = self.tasks_of(executor).into_iter().filter(|key| of_group(self, key)).collect();
        }
        for key in keys {
            if let Some(task) = self.task_mut(&key) {
                task.phase = Phase::Ended;
            }
            let text = "Killed before it was told to its executor";
            self.report(&key, News::agent(TaskState::TaskKilled, Reason::TaskKilledDuringLaunch, text), now);
        }
        // One that never got a task has nothing to live for.
        let idle = self.tasks_of(executor).iter().all(|key| self.task(key).is_none_or(Task::is_over));
        if idle && self.executor(executor).is_some_and(|executor| !executor.subscribed) {
            self.shutdown_executor(executor, now);
        }
    }
}
