//! Executors that frameworks give: their processes, and the tasks that they are told to run. The executor of a task
//! group of Mesos's own kind has no process: the agent plays it, and starts the tasks itself.

mod calls;
mod ends;
mod recovery;
mod tasks;
mod volumes;

use std::{collections::VecDeque, path::PathBuf, time::Duration};

use bytes::Bytes;
use meshos_proto::mesos::v1::{
    self as pb,
    executor::{Event, event},
    executor_info,
};
use meshos_types::{ExecutorId, FrameworkId, TaskId};
use tracing::{info, warn};

use super::{
    Core, Effect, Now, Settings, TaskKey,
    container::{self, Order},
    environment,
    launch::{program, volumes},
    needs, record, scalar,
};
use crate::{
    checkpoint::{self, Change},
    containerizer::{ContainerSpec, Limits},
    token::{self, Claims},
};
pub use calls::CallError;
pub(super) use ends::Verdict;
pub(super) use tasks::Batch;

/// Names an executor on this agent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExecutorKey {
    pub framework_id: FrameworkId,
    pub executor_id: ExecutorId,
}

impl ExecutorKey {
    pub(super) fn parse(framework_id: &str, executor_id: &str) -> Option<Self> {
        let parsed = FrameworkId::parse(framework_id).and_then(|framework_id| {
            ExecutorId::parse(executor_id).map(|executor_id| Self { framework_id, executor_id })
        });
        parsed
            .inspect_err(
                |error| warn!(framework_id, executor_id, %error, "command with an invalid id dropped"),
            )
            .ok()
    }

    pub(super) fn to_record(&self) -> checkpoint::ExecutorKey {
        checkpoint::ExecutorKey {
            framework_id: self.framework_id.to_string(),
            executor_id: self.executor_id.to_string(),
        }
    }
}

/// How far an executor got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecutorState {
    /// Its process is being started.
    Launching,
    /// Its process runs, and has not subscribed to this agent process.
    Registering,
    Running,
    /// It shall end.
    Terminating,
}

/// Tasks that wait to be told to an executor.
#[derive(Clone, Debug)]
pub(super) struct Queued {
    pub(super) tasks: Vec<TaskId>,
    /// They are told in one event.
    pub(super) is_group: bool,
    /// Number of the provision of volumes that must be made first.
    pub(super) waits_for: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Executor {
    pub(super) info: pb::ExecutorInfo,
    pub(super) container_id: String,
    /// The sandbox.
    pub(super) directory: PathBuf,
    pub(super) state: ExecutorState,
    pub(super) pid: Option<u32>,
    /// Empty: the node's own.
    pub(super) networks: Vec<pb::NetworkInfo>,
    /// It has subscribed once, to this agent process or to one before.
    pub(super) subscribed: bool,
    /// The event stream that it reads.
    pub(super) stream: Option<u64>,
    pub(super) queued: VecDeque<Queued>,
    /// Provisions of volumes so far.
    pub(super) provisions: u64,
    /// When it must have subscribed, or, while it is terminating, when SIGKILL is due.
    pub(super) due: Option<Duration>,
    /// Why the agent ends it.
    pub(super) verdict: Option<Verdict>,
}

impl Executor {
    pub(super) fn new(info: pb::ExecutorInfo, container_id: String, directory: PathBuf) -> Self {
        let is_pod = info.r#type() == executor_info::Type::Default;
        Self {
            info,
            container_id,
            directory,
            state: if is_pod { ExecutorState::Running } else { ExecutorState::Launching },
            pid: None,
            networks: Vec::new(),
            subscribed: false,
            stream: None,
            queued: VecDeque::new(),
            provisions: 0,
            due: None,
            verdict: None,
        }
    }

    /// Whether the agent plays it.
    pub(super) fn is_pod(&self) -> bool {
        self.info.r#type() == executor_info::Type::Default
    }
}

impl Core {
    pub(super) fn executor(&self, key: &ExecutorKey) -> Option<&Executor> {
        self.frameworks.get(&key.framework_id)?.executors.get(&key.executor_id)
    }

    pub(super) fn executor_mut(&mut self, key: &ExecutorKey) -> Option<&mut Executor> {
        self.frameworks.get_mut(&key.framework_id)?.executors.get_mut(&key.executor_id)
    }

    pub(super) fn executor_keys(&self) -> Vec<ExecutorKey> {
        let of_framework = |(id, framework): (&FrameworkId, &super::task::Framework)| {
            let key = |executor_id: &ExecutorId| ExecutorKey {
                framework_id: id.clone(),
                executor_id: executor_id.clone(),
            };
            framework.executors.keys().map(key).collect::<Vec<_>>()
        };
        self.frameworks.iter().flat_map(of_framework).collect()
    }

    /// Tasks of an executor that have not been removed.
    pub(super) fn tasks_of(&self, key: &ExecutorKey) -> Vec<TaskKey> {
        let tasks = self.frameworks.get(&key.framework_id).map(|framework| &framework.tasks);
        let mine =
            tasks.into_iter().flatten().filter(|(_, task)| task.home.executor() == Some(&key.executor_id));
        mine.map(|(task_id, _)| TaskKey { framework_id: key.framework_id.clone(), task_id: task_id.clone() })
            .collect()
    }

    pub(super) fn record_executor(&mut self, key: &ExecutorKey, change: Change) {
        if self.frameworks.get(&key.framework_id).is_some_and(super::task::Framework::checkpoints) {
            self.effects.push(record(change));
        }
    }

    /// Makes an executor; its process is on its way when this returns. `tasks`: what its first tasks have.
    ///
    /// # Errors
    /// Why it cannot be started.
    pub(super) fn begin_executor(
        &mut self,
        key: &ExecutorKey,
        mut info: pb::ExecutorInfo,
        tasks: &[pb::Resource],
    ) -> Result<(), String> {
        let container_id = self.rng.uuid().to_string();
        let directory = self.run_directory(&key.framework_id, key.executor_id.as_str(), &container_id);
        info.framework_id = Some((&key.framework_id).into());
        if info.r#type() != executor_info::Type::Default {
            info.container = container::or_default(&self.settings, info.container);
        }
        let executor = Executor::new(info, container_id.clone(), directory);
        let agent_id = self.agent_id.as_ref().map(|id| id.to_string()).unwrap_or_default();
        let framework = self.frameworks.get_mut(&key.framework_id).ok_or("its framework is not known")?;
        let claims = Claims::new(key, &container_id);
        let token =
            self.settings.executor_secret.as_ref().map(|secret| token::issue(secret, &claims)).transpose()?;
        let spec = match executor.is_pod() {
            true => None,
            false => {
                let token = (agent_id.as_str(), token);
                Some(executor_spec(&self.settings, &framework.info, &executor, tasks, token)?)
            }
        };
        let written = checkpoint::Executor {
            info: executor.info.clone(),
            container_id: container_id.clone(),
            directory: executor.directory.display().to_string(),
        };
        info!(executor_id = %key.executor_id, framework_id = %key.framework_id, container_id, "executor begins");
        framework.executors.insert(key.executor_id.clone(), executor);
        self.record_executor(key, Change::Executor(written));
        if let Some(spec) = spec {
            self.executor_containers.insert(container_id, key.clone());
            self.effects.push(Effect::Launch(Box::new(spec)));
        }
        Ok(())
    }

    /// The process runs.
    pub(super) fn executor_launched(&mut self, key: &ExecutorKey, pid: u32, now: Now) {
        let timeout = now.elapsed + self.settings.executor_registration_timeout;
        let Some(executor) = self.executor_mut(key) else { return };
        executor.pid = Some(pid);
        match executor.state {
            ExecutorState::Launching => {
                executor.state = ExecutorState::Registering;
                self.executor_timer(key, timeout);
            }
            ExecutorState::Terminating => self.kill_executor(key, now),
            // It was quick to subscribe.
            ExecutorState::Registering | ExecutorState::Running => {}
        }
    }

    pub(super) fn executor_timer(&mut self, key: &ExecutorKey, at: Duration) {
        if let Some(executor) = self.executor_mut(key) {
            executor.due = Some(at);
            self.executor_timers.insert((at, key.clone()));
        }
    }

    /// Tells an executor something, if it listens.
    pub(super) fn tell_executor(&mut self, key: &ExecutorKey, event: Event) {
        if let Some(stream) = self.executor(key).and_then(|executor| executor.stream) {
            self.effects.push(Effect::ToExecutor { stream, event: Box::new(event) });
        }
    }

    /// A message of the framework, best effort.
    pub(super) fn message_to_executor(&mut self, key: &ExecutorKey, data: Bytes) {
        let mut event = event_of(event::Type::Message);
        event.message = Some(event::Message { data });
        if self.executor(key).is_none_or(|executor| executor.stream.is_none()) {
            self.counters.lost_messages += 1;
            warn!(executor_id = %key.executor_id, framework_id = %key.framework_id, "message to an executor that does not listen dropped");
        } else {
            self.counters.messages += 1;
        }
        self.tell_executor(key, event);
    }

    /// What the executor and its live tasks may use together.
    pub(super) fn executor_limits(&self, key: &ExecutorKey) -> Limits {
        let Some(executor) = self.executor(key) else { return Limits::default() };
        let mut resources = executor.info.resources.clone();
        let live =
            self.tasks_of(key).into_iter().filter_map(|key| self.task(&key)).filter(|task| !task.is_over());
        resources.extend(live.flat_map(|task| task.info.resources.clone()));
        limits_of(&resources)
    }

    /// The container becomes as large as the executor and its tasks need.
    pub(super) fn resize_executor(&mut self, key: &ExecutorKey) {
        let limits = self.executor_limits(key);
        let Some(executor) = self.executor(key) else { return };
        if executor.pid.is_some() && !executor.is_pod() {
            let container_id = executor.container_id.clone();
            self.effects.push(Effect::Resize { container_id, limits });
        }
    }
}

pub(super) fn event_of(kind: event::Type) -> Event {
    Event { r#type: Some(kind as i32), ..Event::default() }
}

fn limits_of(resources: &[pb::Resource]) -> Limits {
    Limits {
        cpus: scalar(resources, "cpus"),
        memory: super::launch::bytes(scalar(resources, "mem")),
        ..Limits::default()
    }
}

/// What to run for an executor, or why this agent cannot run it. `tasks`: what its first tasks have.
fn executor_spec(
    settings: &Settings,
    framework: &pb::FrameworkInfo,
    executor: &Executor,
    tasks: &[pb::Resource],
    token: (&str, Option<String>),
) -> Result<ContainerSpec, String> {
    let info = &executor.info;
    let resources = [info.resources.as_slice(), tasks].concat();
    let order = Order {
        info: info.container.as_ref(),
        command: info.command.as_ref(),
        resources: &resources,
        parent: None,
    };
    let setup = container::setup(settings, order)?;
    let (agent_id, token) = token;
    let environment = environment::of_executor(settings, framework, (executor, agent_id), token)?;
    let command = info.command.as_ref().ok_or("the executor has no command")?;
    let (program, argument_zero, arguments) = program(command, setup.as_ref())?;
    let spec = ContainerSpec {
        container_id: executor.container_id.clone(),
        program,
        argument_zero,
        arguments,
        environment: environment::for_image(environment, &[Some(command)], setup.as_ref()),
        sandbox: executor.directory.clone(),
        user: Some(command.user.clone().unwrap_or_else(|| framework.user.clone())),
        limits: limits_of(&info.resources),
        volumes: volumes(&settings.work_dir, &resources)?,
        uris: needs::uris(command),
        rlimits: needs::rlimits(info.container.as_ref())?,
        ..ContainerSpec::default()
    };
    Ok(container::contain(spec, setup))
}
