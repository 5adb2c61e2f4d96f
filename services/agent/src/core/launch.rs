//! From a launch command to a running container, and to its end.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use meshos_proto::{
    meshos::allocator::v1::Launch,
    mesos::v1::{
        self as pb, TaskState, environment::variable::Type as VariableType,
        framework_info::capability::Type as Capability, task_status::Reason,
    },
};
use meshos_types::{FrameworkId, Resources};
use tracing::{debug, warn};

use super::{
    Core, Effect, Now, Phase, Settings, TaskKey, Timer,
    operations::volume_of,
    scalar,
    status::News,
    task::{Framework, Task},
};
use crate::{
    checkpoint::{self, Change},
    containerizer::{ContainerSpec, Exit, Limits},
};

/// Found first by a task that sets no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
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
        for (key, task) in keys.into_iter().zip(launch.tasks) {
            match key {
                Some(key) if self.task(&key).is_none() => self.begin(key, task, &launch.traceparent, now),
                // Told twice, after a break of the link.
                Some(key) => debug!(%key, "launch of a task that is here already dropped"),
                None => {}
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
        let directory = self.sandbox(&key, &container_id);
        let task = Task::new(info, container_id.clone(), directory.clone(), traceparent.to_owned());
        let record = checkpoint::Launch {
            framework_id: key.framework_id.to_string(),
            task: task.info.clone(),
            container_id: container_id.clone(),
            directory: directory.display().to_string(),
            traceparent: traceparent.to_owned(),
        };
        self.record(&key, Change::Launch(record));
        let Some(framework) = self.frameworks.get_mut(&key.framework_id) else { return };
        let spec = spec(&self.settings, &framework.info, &task);
        let unknown = unknown_resources(&self.total, &task.info);
        framework.tasks.insert(key.task_id.clone(), task);
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

    fn sandbox(&self, key: &TaskKey, container_id: &str) -> PathBuf {
        let agent = self.agent_id.as_ref().map(|id| id.to_string()).unwrap_or_default();
        let mut path = self.settings.work_dir.join("slaves");
        let framework_id = key.framework_id.as_str();
        for part in
            [&agent, "frameworks", framework_id, "executors", key.task_id.as_str(), "runs", container_id]
        {
            path.push(part);
        }
        path
    }

    fn key_of(&self, container_id: &str) -> Option<TaskKey> {
        self.containers.get(container_id).cloned()
    }

    pub(super) fn launched(&mut self, container_id: &str, pid: u32, now: Now) {
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
    }

    pub(super) fn launch_failed(&mut self, container_id: &str, reason: &str, now: Now) {
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
        if silent {
            self.remove(key);
        } else {
            self.report(key, news, now);
        }
        self.effects.push(Effect::Cleanup { container_id });
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
fn spec(settings: &Settings, framework: &pb::FrameworkInfo, task: &Task) -> Result<ContainerSpec, String> {
    let info = &task.info;
    let unsupported = [
        (info.executor.is_some(), "a custom executor"),
        (info.container.is_some(), "a container image or volumes (ContainerInfo)"),
        (info.health_check.is_some(), "health checks by the agent"),
        (info.check.is_some(), "checks by the agent"),
        (info.command.as_ref().is_some_and(|command| !command.uris.is_empty()), "URIs to fetch"),
    ];
    if let Some((_, what)) = unsupported.iter().find(|(is, _)| *is) {
        return Err(format!("this agent does not support {what} yet; the task was not started"));
    }
    let command = info.command.as_ref().ok_or("the task has no command")?;
    let (program, argument_zero, arguments) = command_line(command)?;
    Ok(ContainerSpec {
        container_id: task.container_id.clone(),
        program,
        argument_zero,
        arguments,
        environment: environment(settings, framework, task)?,
        sandbox: task.directory.clone(),
        user: Some(command.user.clone().unwrap_or_else(|| framework.user.clone())),
        limits: limits(info),
        volumes: volumes(&settings.work_dir, info)?,
    })
}

/// Reservations and volumes that an operation must have made first; what is missing of them.
fn unknown_resources(total: &Resources, task: &pb::TaskInfo) -> Option<Resources> {
    let resources = Resources::from_proto(&task.resources).ok()?.unallocated();
    let made = resources.filter(|r| r.is_dynamically_reserved() || r.persistence_id().is_some());
    let missing = made.filter(|resource| !total.contains_one(resource));
    (!missing.is_empty()).then_some(missing)
}

/// Persistent volumes, and where in the sandbox they are to be found.
fn volumes(work_dir: &Path, task: &pb::TaskInfo) -> Result<Vec<(PathBuf, PathBuf)>, String> {
    let resources = Resources::from_proto(&task.resources).map_err(|error| error.to_string())?;
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

fn command_line(command: &pb::CommandInfo) -> Result<(String, String, Vec<String>), String> {
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

/// What Mesos's command executor gives its task: its own variables, then the task's.
fn environment(
    settings: &Settings,
    framework: &pb::FrameworkInfo,
    task: &Task,
) -> Result<BTreeMap<String, String>, String> {
    let info = &task.info;
    let directory = task.directory.display().to_string();
    let checkpoint = framework.checkpoint.unwrap_or_default();
    let role = info.resources.iter().find_map(|resource| resource.allocation_info.as_ref()?.role.clone());
    let mut variables: BTreeMap<String, String> = [
        ("PATH", DEFAULT_PATH.to_owned()),
        ("MESOS_FRAMEWORK_ID", framework.id.as_ref().map(|id| id.value.clone()).unwrap_or_default()),
        ("MESOS_EXECUTOR_ID", info.task_id.value.clone()),
        ("MESOS_SLAVE_ID", info.agent_id.value.clone()),
        ("MESOS_DIRECTORY", directory.clone()),
        ("MESOS_SANDBOX", directory),
        ("MESOS_AGENT_ENDPOINT", settings.endpoint.clone()),
        ("MESOS_SLAVE_PID", format!("slave(1)@{}", settings.endpoint)),
        ("MESOS_CHECKPOINT", u8::from(checkpoint).to_string()),
        ("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", mesos_duration(settings.shutdown_grace)),
        ("MESOS_HTTP_COMMAND_EXECUTOR", "0".to_owned()),
        ("MESOS_CONTAINER_IP", settings.ip.clone()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    if checkpoint {
        variables.insert("MESOS_RECOVERY_TIMEOUT".to_owned(), mesos_duration(settings.recovery_timeout));
        variables.insert("MESOS_SUBSCRIPTION_BACKOFF_MAX".to_owned(), "2secs".to_owned());
    }
    variables.extend(role.map(|role| ("MESOS_ALLOCATION_ROLE".to_owned(), role)));
    if !task.traceparent.is_empty() {
        variables.insert("TRACEPARENT".to_owned(), task.traceparent.clone());
    }
    let given = info.command.iter().filter_map(|command| command.environment.as_ref());
    for variable in given.flat_map(|environment| &environment.variables) {
        if variable.r#type == Some(VariableType::Secret as i32) || variable.secret.is_some() {
            return Err(format!("this agent does not support secrets yet (variable '{}')", variable.name));
        }
        variables.insert(variable.name.clone(), variable.value.clone().unwrap_or_default());
    }
    match variables.keys().find(|name| name.is_empty() || name.contains('=')) {
        Some(name) => Err(format!("'{name}' cannot be the name of a variable")),
        None => Ok(variables),
    }
}

/// As Mesos writes durations: the largest unit that leaves no fraction.
fn mesos_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if duration.subsec_nanos() != 0 {
        return format!("{}ms", duration.as_millis());
    }
    match seconds {
        s if s > 0 && s % 3600 == 0 => format!("{}hrs", s / 3600),
        s if s > 0 && s % 60 == 0 => format!("{}mins", s / 60),
        s => format!("{s}secs"),
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast clamps; resources are not negative"
)]
fn limits(info: &pb::TaskInfo) -> Limits {
    let limit = |name: &str| info.limits.get(name).map(|limit| limit.value);
    let bytes = |mb: f64| if mb.is_finite() { (mb * BYTES_PER_MB) as u64 } else { u64::MAX };
    Limits {
        cpus: scalar(&info.resources, "cpus"),
        cpus_limit: limit("cpus"),
        memory: bytes(scalar(&info.resources, "mem")),
        memory_limit: limit("mem").map(bytes),
    }
}
