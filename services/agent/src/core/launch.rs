//! From a launch command to a running container, and to its end.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use meshos_proto::{
    meshos::allocator::v1::Launch,
    mesos::v1::{self as pb, TaskState, framework_info::capability::Type as Capability, task_status::Reason},
};
use meshos_types::{FrameworkId, Resources};
use tracing::{debug, warn};

use super::{
    Core, Effect, ExecutorKey, Now, Phase, Settings, TaskKey, Timer,
    container::{self, Order},
    environment,
    executor::Batch,
    needs,
    nested::path_of,
    operations::volume_of,
    scalar,
    status::News,
    task::{Framework, Task},
};
use crate::{
    checkpoint::Change,
    containerizer::{ContainerSetup, ContainerSpec, Exit, Limits},
};

const SHELL: &str = "/bin/sh";
const BYTES_PER_MB: f64 = 1024.0 * 1024.0;

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
        let task = Task::new(info, container_id.clone(), directory, traceparent.to_owned());
        let Some(framework) = self.frameworks.get(&key.framework_id) else { return };
        let spec = spec(&self.settings, &framework.info, &task);
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
                self.effects.push(Effect::Launch(Box::new(spec)));
                self.report(&key, News::executor(TaskState::TaskStarting), now);
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
                self.report(&key, News::executor(TaskState::TaskRunning), now)
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

/// What to run for a task, or why this agent cannot run it.
pub(super) fn spec(
    settings: &Settings,
    framework: &pb::FrameworkInfo,
    task: &Task,
) -> Result<ContainerSpec, String> {
    let info = &task.info;
    let order = Order {
        info: info.container.as_ref(),
        command: info.command.as_ref(),
        resources: &info.resources,
        parent: None,
    };
    let setup = container::setup(settings, order)?;
    in_container(settings, framework, task, setup)
}

/// As [`spec`], in this container.
pub(super) fn in_container(
    settings: &Settings,
    framework: &pb::FrameworkInfo,
    task: &Task,
    setup: Option<ContainerSetup>,
) -> Result<ContainerSpec, String> {
    let info = &task.info;
    let command = info.command.as_ref().ok_or("the task has no command")?;
    let (program, argument_zero, arguments) = program(command, setup.as_ref())?;
    let environment = environment::of_task(settings, framework, task)?;
    let spec = ContainerSpec {
        container_id: task.container_id.clone(),
        program,
        argument_zero,
        arguments,
        environment: environment::for_image(environment, &[info.command.as_ref()], setup.as_ref()),
        sandbox: task.directory.clone(),
        user: Some(command.user.clone().unwrap_or_else(|| framework.user.clone())),
        limits: limits(info),
        volumes: volumes(&settings.work_dir, &info.resources)?,
        uris: needs::uris(command),
        rlimits: needs::rlimits(info.container.as_ref())?,
        ..ContainerSpec::default()
    };
    Ok(container::name_task(container::contain(spec, setup), framework, info))
}

/// What to run; an image may know it better.
pub(super) fn program(
    command: &pb::CommandInfo,
    setup: Option<&ContainerSetup>,
) -> Result<(String, String, Vec<String>), String> {
    let line = command_line(command);
    // A shell without a line is a mistake in any container.
    if line.is_err() && container::has_image(setup) && !command.shell.unwrap_or(true) {
        return Ok(Default::default());
    }
    line
}

/// Reservations and volumes that an operation must have made first; what is missing of them.
pub(super) fn unknown_resources(total: &Resources, wanted: &[pb::Resource]) -> Option<Resources> {
    let resources = Resources::from_proto(wanted).ok()?.unallocated();
    let made = resources.filter(|r| r.is_dynamically_reserved() || r.persistence_id().is_some());
    let missing = made.filter(|resource| !total.contains_one(resource));
    (!missing.is_empty()).then_some(missing)
}

/// Persistent volumes, and where in the sandbox they are to be found.
pub(super) fn volumes(
    work_dir: &Path,
    resources: &[pb::Resource],
) -> Result<Vec<(PathBuf, PathBuf)>, String> {
    let resources = Resources::from_proto(resources).map_err(|error| error.to_string())?;
    let mut volumes: Vec<(PathBuf, PathBuf)> = Vec::new();
    for resource in &resources {
        let Some(volume) = volume_of(work_dir, resource) else { continue };
        let info = resource.disk.as_ref().and_then(|disk| disk.info().volume.as_ref());
        let container_path = PathBuf::from(info.map(|info| info.container_path.as_str()).unwrap_or_default());
        let inside = |part: std::path::Component<'_>| matches!(part, std::path::Component::Normal(_));
        if container_path.as_os_str().is_empty() || !container_path.components().all(inside) {
            return Err(format!(
                "the path '{}' of a persistent volume must be relative, without '..': it is made in the sandbox",
                container_path.display()
            ));
        }
        // A task owns what is in its volumes: a link there could lead the other volume anywhere.
        let nested =
            |other: &Path| container_path.starts_with(other) || other.starts_with(container_path.as_path());
        if let Some((_, other)) = volumes.iter().find(|(_, other)| nested(other)) {
            return Err(format!(
                "the paths '{}' and '{}' of two persistent volumes lie one in the other: each needs a place of its own",
                other.display(),
                container_path.display()
            ));
        }
        volumes.push((volume.path, container_path));
    }
    Ok(volumes)
}

pub(super) fn command_line(command: &pb::CommandInfo) -> Result<(String, String, Vec<String>), String> {
    let value = command.value.clone().filter(|value| !value.is_empty());
    if command.shell.unwrap_or(true) {
        let text = value.ok_or("the command has no value to give to the shell")?;
        return Ok((SHELL.to_owned(), "sh".to_owned(), vec!["-c".to_owned(), text]));
    }
    let program = value.ok_or("the command has no value to execute")?;
    // As in Mesos: the first argument is the program's own name.
    let mut arguments = command.arguments.iter().cloned();
    let argument_zero = arguments.next().unwrap_or_else(|| program.clone());
    Ok((program, argument_zero, arguments.collect()))
}

fn limits(info: &pb::TaskInfo) -> Limits {
    let limit = |name: &str| info.limits.get(name).map(|limit| limit.value);
    Limits {
        cpus: scalar(&info.resources, "cpus"),
        cpus_limit: limit("cpus"),
        memory: bytes(scalar(&info.resources, "mem")),
        memory_limit: limit("mem").map(bytes),
    }
}

/// Megabytes, as resources count memory.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast clamps; resources are not negative"
)]
pub(super) fn bytes(megabytes: f64) -> u64 {
    if megabytes.is_finite() { (megabytes * BYTES_PER_MB) as u64 } else { u64::MAX }
}
