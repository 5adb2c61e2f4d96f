//! From a launch command to a running container, and to its end.

mod spec;

use std::{path::PathBuf, time::Duration};

use meshos_proto::{
    meshos::allocator::v1::Launch,
    mesos::v1::{self as pb, TaskState, framework_info::capability::Type as Capability, task_status::Reason},
};
use meshos_types::FrameworkId;
use tracing::{debug, warn};

pub(super) use spec::{bytes, command_line, in_container, program, unknown_resources, volumes};

use super::{
    Core, Effect, ExecutorKey, Now, Phase, TaskKey, Timer, container,
    executor::Batch,
    nested::path_of,
    status::News,
    task::{Framework, Task},
};
use crate::{
    checkpoint::Change,
    containerizer::{ContainerSpec, Exit},
};

impl Core {
    pub(super) fn launch(&mut self, launch: Launch, now: Now) {
        let Some(info) = launch.framework else {
            warn!("launch without a framework dropped");
            return;
        };
        let framework_id = info.id.as_ref().map(|id| id.value.clone()).unwrap_or_default();
        if self.stopping || self.agent_id.is_none() {
            warn!(framework_id, "launch on an agent that stops or is not registered dropped");
            return;
        }
        let keys: Vec<_> =
            launch.tasks.iter().map(|task| TaskKey::parse(&framework_id, &task.task_id.value)).collect();
        if keys.iter().any(Option::is_some) {
            self.learn(info);
        }
        let whole = keys.iter().all(Option::is_some);
        let tasks: Vec<_> =
            keys.into_iter().zip(launch.tasks).filter_map(|(key, task)| Some((key?, task))).collect();
        if let Some(executor) = launch.group_executor {
            let key = ExecutorKey::parse(&framework_id, &executor.executor_id.value);
            if let Some(key) = key.filter(|_| whole) {
                let group = Some(self.rng.uuid().to_string());
                let batch = Batch { tasks, group, traceparent: launch.traceparent };
                self.launch_with_executor(&key, executor, batch, now);
            }
            return;
        }
        for (key, task) in tasks {
            match task.executor.clone() {
                Some(executor) => {
                    let Some(executor_key) = ExecutorKey::parse(&framework_id, &executor.executor_id.value)
                    else {
                        continue;
                    };
                    let traceparent = launch.traceparent.clone();
                    let batch = Batch { tasks: vec![(key, task)], group: None, traceparent };
                    self.launch_with_executor(&executor_key, executor, batch, now);
                }
                None if self.task(&key).is_none() => self.begin(key, task, &launch.traceparent, now),
                // Told twice, after a break of the link.
                None => debug!(%key, "launch of a task that is here already dropped"),
            }
        }
    }

    /// Remembers a framework as it is now.
    fn learn(&mut self, info: pb::FrameworkInfo) {
        let id = FrameworkId::new(info.id.as_ref().map(|id| id.value.clone()).unwrap_or_default());
        let known = self.frameworks.get(&id).map(|framework| &framework.info);
        if known == Some(&info) {
            return;
        }
        if info.checkpoint.unwrap_or_default() {
            self.effects.push(super::record(Change::Framework(info.clone())));
        }
        match self.frameworks.get_mut(&id) {
            Some(framework) => framework.info = info,
            None => drop(self.frameworks.insert(id, Framework::new(info))),
        }
    }

    fn begin(&mut self, key: TaskKey, info: pb::TaskInfo, traceparent: &str, now: Now) {
        let container_id = self.rng.uuid().to_string();
        let directory = self.run_directory(&key.framework_id, key.task_id.as_str(), &container_id);
        let info = pb::TaskInfo { container: container::or_default(&self.settings, info.container), ..info };
        let task = Task::new(info, container_id.clone(), directory, traceparent.to_owned());
        let Some(framework) = self.frameworks.get(&key.framework_id) else { return };
        let spec = spec::spec(&self.settings, &framework.info, &task);
        let unknown = unknown_resources(&self.total, &task.info.resources);
        self.take_task(&key, task);
        if let Some(unknown) = unknown {
            let message = format!("The agent does not have {unknown}");
            let state = self.dropped_state(&key);
            if let Some(task) = self.task_mut(&key) {
                task.phase = Phase::Ended;
            }
            return self.report(&key, News::agent(state, Reason::ResourcesUnknown, message), now);
        }
        match spec {
            Ok(spec) => {
                self.containers.insert(container_id, key.clone());
                self.start(&key, spec, now);
            }
            Err(reason) => {
                if let Some(task) = self.task_mut(&key) {
                    task.phase = Phase::Ended;
                }
                self.report(
                    &key,
                    News::agent(TaskState::TaskFailed, Reason::ContainerLaunchFailed, reason),
                    now,
                );
            }
        }
    }

    /// Has a task's container started. While its files are fetched it is TASK_STAGING, as in Mesos, where only then there
    /// is an executor that says more.
    pub(super) fn start(&mut self, key: &TaskKey, spec: ContainerSpec, now: Now) {
        let needs_files = spec.needs_files();
        self.effects.push(Effect::Launch(Box::new(spec)));
        if !needs_files {
            self.starting(key, now);
        }
    }

    pub(super) fn fetched(&mut self, container_id: &str, now: Now) {
        let Some(key) = self.key_of(container_id) else { return };
        if self.task(&key).is_some_and(|task| task.phase == Phase::Launching && task.kill.is_none()) {
            self.starting(&key, now);
        }
    }

    /// Tells that a task is being started, once.
    fn starting(&mut self, key: &TaskKey, now: Now) {
        if self.task(key).is_some_and(|task| task.state() == TaskState::TaskStaging) {
            self.report(key, News::executor(TaskState::TaskStarting), now);
        }
    }

    /// The sandbox of an executor's run.
    pub(super) fn run_directory(
        &self,
        framework_id: &FrameworkId,
        executor_id: &str,
        container_id: &str,
    ) -> PathBuf {
        let agent = self.agent_id.as_ref().map(|id| id.to_string()).unwrap_or_default();
        let mut path = self.settings.work_dir.join("slaves");
        for part in
            [&agent, "frameworks", framework_id.as_str(), "executors", executor_id, "runs", container_id]
        {
            path.push(part);
        }
        path
    }

    fn key_of(&self, container_id: &str) -> Option<TaskKey> {
        self.containers.get(container_id).cloned()
    }

    pub(super) fn launched(&mut self, container_id: &str, pid: u32, now: Now) {
        if let Some(key) = self.executor_containers.get(container_id).cloned() {
            return self.executor_launched(&key, pid, now);
        }
        if self.nested_launched(container_id, pid) {
            return;
        }
        let Some(key) = self.key_of(container_id) else { return };
        let Some(task) = self.task_mut(&key) else { return };
        // It may have ended before this came.
        if task.phase != Phase::Launching {
            return;
        }
        task.pid = Some(pid);
        task.phase = Phase::Running;
        if task.kill.is_some() {
            self.kill_at_once(&key, now);
        } else {
            self.running(&key, now);
        }
    }

    /// Tells that a task runs, and sets the time that it may take.
    pub(super) fn running(&mut self, key: &TaskKey, now: Now) {
        // The agent may have died between the two.
        self.starting(key, now);
        self.report(key, News::executor(TaskState::TaskRunning), now);
        let Some(task) = self.task(key) else { return };
        if let Some(limit) = task.info.max_completion_time.as_ref().and_then(positive) {
            self.set_timer(now.elapsed + limit, Timer::Completion, key);
        }
        self.begin_checks(key, now);
    }

    pub(super) fn launch_failed(&mut self, container_id: &str, reason: &str, now: Now) {
        if let Some(key) = self.executor_containers.get(container_id).cloned() {
            return self.executor_launch_failed(&key, reason, now);
        }
        if self.nested_launch_failed(container_id) {
            return;
        }
        let Some(key) = self.key_of(container_id) else { return };
        let Some(task) = self.task_mut(&key) else { return };
        if task.phase != Phase::Launching {
            return;
        }
        task.phase = Phase::Ended;
        let killed = task.kill.is_some();
        self.counters.launch_errors += 1;
        let news = if killed {
            News::agent(TaskState::TaskKilled, Reason::TaskKilledDuringLaunch, "Killed before it started")
        } else {
            News::agent(TaskState::TaskFailed, Reason::ContainerLaunchFailed, reason)
        };
        self.finish(&key, news, now);
    }

    pub(super) fn exited(&mut self, container_id: &str, exit: Exit, now: Now) {
        if let Some(key) = self.executor_containers.get(container_id).cloned() {
            return self.executor_exited(&key, exit, now);
        }
        if self.nested_exited(container_id, exit) {
            return;
        }
        let Some(key) = self.key_of(container_id) else {
            // Of an agent before, or of a framework that wants no checkpoint.
            self.effects.push(Effect::Cleanup { container_id: container_id.to_owned() });
            return;
        };
        let Some(task) = self.task_mut(&key) else { return };
        let before = std::mem::replace(&mut task.phase, Phase::Ended);
        match before {
            // Told twice, or ended after it was given up: it is still to be forgotten.
            Phase::Ended => {
                self.effects.push(Effect::Cleanup { container_id: container_id.to_owned() });
                return;
            }
            // The end overtook the answer to the launch.
            Phase::Launching if task.kill.is_none() => {
                self.starting(&key, now);
                self.report(&key, News::executor(TaskState::TaskRunning), now);
            }
            Phase::Launching | Phase::Running => {}
        }
        if let Some(task) = self.task(&key) {
            let news = News::ended(task, exit);
            self.finish(&key, news, now);
        }
    }

    /// The container is no more: tells so, then lets it be forgotten.
    pub(super) fn finish(&mut self, key: &TaskKey, news: News, now: Now) {
        let Some(task) = self.task(key) else { return };
        let (container_id, silent) = (task.container_id.clone(), task.silent);
        let (home, path) = (task.home.clone(), path_of(task));
        if silent {
            self.remove(key);
        } else {
            self.report(key, news, now);
        }
        self.effects.push(Effect::Cleanup { container_id });
        if let Some(path) = path {
            self.end_nested_below(&path);
            self.effects.push(Effect::ContainerEnded { path, exit: None });
        }
        self.member_ended(key, &home, now);
    }

    /// The state for a task that never started: frameworks that know nothing of partitions get LOST.
    pub(super) fn dropped_state(&self, key: &TaskKey) -> TaskState {
        let aware = self.frameworks.get(&key.framework_id).is_some_and(|f| f.can(Capability::PartitionAware));
        if aware { TaskState::TaskDropped } else { TaskState::TaskLost }
    }
}

pub(super) fn positive(duration: &pb::DurationInfo) -> Option<Duration> {
    u64::try_from(duration.nanoseconds).ok().map(Duration::from_nanos)
}
