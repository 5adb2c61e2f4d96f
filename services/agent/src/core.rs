//! What an agent decides: which containers to start and to end, which status updates to send and when, what to
//! write down. No I/O: inputs come in, effects come out, in the order in which they must be carried out.

mod checks;
mod environment;
mod executor;
mod kill;
mod launch;
mod limits;
mod needs;
mod nested;
mod operations;
mod pod;
mod probing;
mod reconfigure;
mod recovery;
mod status;
mod task;
mod updates;
mod view;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::PathBuf,
    time::Duration,
};

use meshos_mesh::Rng;
use meshos_proto::{
    meshos::allocator::v1::{
        AllocatorMessage, ExecutorEnded, FrameworkMessage, OperationUpdate, StatusUpdate,
        allocator_message::Body,
    },
    mesos::v1::{self as pb, executor::Event},
};
use meshos_types::{AgentId, FrameworkId, Resources, TaskId};
use tracing::{debug, info, warn};

use crate::{
    checkpoint::{self, Change, Record},
    containerizer::{ContainerSpec, Exit, Limits, Probe, ProbeOutcome},
    token::Secret,
};
pub use checks::Which;
pub use executor::{CallError, ExecutorKey, ExecutorState};
pub use limits::{DiskQuota, Limitation, LiveSandbox};
pub use nested::{ContainerError, NestedLaunch, ViewNested, container_path};
use operations::Operations;
pub use task::Phase;
use task::{Framework, Task};
pub use view::{Counters, View, ViewExecutor, ViewFramework, ViewTask};

/// The time, twice: what timers go by, and what statuses carry.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    /// Since any fixed moment; never goes back.
    pub elapsed: Duration,
    /// Since the Unix epoch.
    pub unix: Duration,
}

/// What the core must know of its node.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Address that tasks are known by.
    pub ip: String,
    /// `ip:port` of the HTTP API.
    pub endpoint: String,
    pub work_dir: PathBuf,
    /// What the agent has, as its flags or its machine say.
    pub resources: Resources,
    pub recovery_timeout: Duration,
    /// Between SIGTERM and SIGKILL when a framework is shut down.
    pub shutdown_grace: Duration,
    /// The agent as executors are told of it, without its id.
    pub agent_info: pb::AgentInfo,
    /// For an executor to subscribe once its process runs.
    pub executor_registration_timeout: Duration,
    /// For an executor to subscribe again after a restart of the agent.
    pub executor_reregistration_timeout: Duration,
    /// Signs what executors prove their identity with; absent: they need not.
    pub executor_secret: Option<Secret>,
    /// The operator's variables for executors.
    pub executor_environment: BTreeMap<String, String>,
    /// Ended executors that the history keeps for a framework.
    pub max_completed_executors: usize,
}

#[cfg(test)]
impl Settings {
    /// An agent with nothing, and the defaults of the flags.
    pub(crate) fn test(work_dir: impl Into<PathBuf>) -> Self {
        Self {
            ip: "10.0.0.1".to_owned(),
            endpoint: "10.0.0.1:5051".to_owned(),
            work_dir: work_dir.into(),
            resources: Resources::default(),
            recovery_timeout: Duration::from_secs(900),
            shutdown_grace: Duration::from_secs(5),
            agent_info: pb::AgentInfo { hostname: "node".to_owned(), ..pb::AgentInfo::default() },
            executor_registration_timeout: Duration::from_secs(60),
            executor_reregistration_timeout: Duration::from_secs(2),
            executor_secret: None,
            executor_environment: BTreeMap::new(),
            max_completed_executors: 150,
        }
    }
}

/// Names a task on this agent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskKey {
    pub framework_id: FrameworkId,
    pub task_id: TaskId,
}

impl TaskKey {
    pub(crate) fn to_record(&self) -> checkpoint::Key {
        checkpoint::Key { framework_id: self.framework_id.to_string(), task_id: self.task_id.to_string() }
    }

    /// Checks the ids, which become names of directories.
    fn parse(framework_id: &str, task_id: &str) -> Option<Self> {
        let parsed = FrameworkId::parse(framework_id)
            .and_then(|framework_id| TaskId::parse(task_id).map(|task_id| Self { framework_id, task_id }));
        parsed
            .inspect_err(|error| warn!(framework_id, task_id, %error, "command with an invalid id dropped"))
            .ok()
    }
}

impl std::fmt::Display for TaskKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.framework_id, self.task_id)
    }
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// The registry admitted the agent.
    Registered(AgentId),
    /// The link to the allocator broke, or another is being opened.
    LinkDown,
    /// From the leader that the agent is linked to.
    Allocator(Box<AllocatorMessage>),
    Launched {
        container_id: String,
        pid: u32,
    },
    LaunchFailed {
        container_id: String,
        reason: String,
    },
    Exited {
        container_id: String,
        exit: Exit,
    },
    /// What an [`Effect::Probe`] found.
    Probed {
        container_id: String,
        which: Which,
        outcome: ProbeOutcome,
    },
    /// A container took more than it may.
    LimitExceeded {
        container_id: String,
        limitation: Limitation,
    },
    /// The agent has other resources and attributes; see [`Core::can_become`].
    Reconfigure {
        info: Box<pb::AgentInfo>,
        resources: Resources,
    },
    /// The time of [`Core::next_timer`] has come.
    Timer,
    /// End all tasks: the node stops.
    Shutdown,
}

/// What to do, in this order.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Must be durable before any later effect is carried out.
    Record(Box<Record>),
    Launch(Box<ContainerSpec>),
    /// Look whether a container does its work; [`Input::Probed`] answers.
    Probe {
        which: Which,
        probe: Box<Probe>,
    },
    /// Stop the launch of a container that has not started yet; it then fails.
    Abandon {
        container_id: String,
    },
    Signal {
        container_id: String,
        signal: i32,
    },
    /// Forget an ended container.
    Cleanup {
        container_id: String,
    },
    Send(Box<StatusUpdate>),
    SendOperation(Box<OperationUpdate>),
    /// Best effort.
    SendMessage(Box<FrameworkMessage>),
    /// Best effort: a re-registration tells what there is.
    SendExecutorEnded(Box<ExecutorEnded>),
    /// To the executor that reads this stream.
    ToExecutor {
        stream: u64,
        event: Box<Event>,
    },
    /// After what was sent there.
    CloseExecutor {
        stream: u64,
    },
    /// Those who wait for the end of this container are told; how it ended, where that is known.
    ContainerEnded {
        path: String,
        exit: Option<Exit>,
    },
    /// A running container may use more or less from now on.
    Resize {
        container_id: String,
        limits: Limits,
    },
    /// A persistent volume was created.
    MakeVolume(PathBuf),
    /// A persistent volume was destroyed: its content goes. `is_mount`: the directory itself stays, it is a
    /// disk's root.
    RemoveVolume {
        path: PathBuf,
        is_mount: bool,
    },
    /// The task is new or differs.
    Changed(TaskKey),
    /// The task is gone, but for the history.
    Removed(TaskKey),
    /// The others must know the agent anew.
    Reannounce(Box<pb::AgentInfo>),
    /// What ran in this sandbox has ended: it may be removed when its time has come.
    Collect(PathBuf),
    /// This sandbox is no longer part of the history.
    Detach(PathBuf),
    /// The allocator does not want this link.
    LinkRefused(String),
}

/// Sorts timers of one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Kill,
    Completion,
    Retry,
    Probe(Which),
}

/// An agent's state.
#[derive(Debug)]
pub struct Core {
    settings: Settings,
    rng: Rng,
    agent_id: Option<AgentId>,
    /// Unix time, milliseconds.
    registered_at_ms: u64,
    /// The newest allocator that was obeyed.
    epoch: u64,
    linked: bool,
    /// Executors that ended since the report: told once the link is accepted.
    ended_unlinked: Vec<ExecutorEnded>,
    stopping: bool,
    frameworks: BTreeMap<FrameworkId, Framework>,
    /// Frameworks without tasks, the longest idle first.
    idle: VecDeque<FrameworkId>,
    containers: BTreeMap<String, TaskKey>,
    /// Containers of the API, by [path](container_path).
    nested: BTreeMap<String, nested::Nested>,
    /// Containers of executors.
    executor_containers: BTreeMap<String, ExecutorKey>,
    /// The agent's resources with all operations applied.
    total: Resources,
    operations: Operations,
    /// May hold timers that no longer mean anything: they are compared with the task when they fire.
    timers: BTreeSet<(Duration, Timer, TaskKey)>,
    /// As `timers`.
    executor_timers: BTreeSet<(Duration, ExecutorKey)>,
    counters: Counters,
    effects: Vec<Effect>,
}

impl Core {
    /// An agent that has never run.
    #[must_use]
    pub fn new(settings: Settings, rng: Rng) -> Self {
        Self {
            rng,
            total: settings.resources.clone(),
            operations: Operations::default(),
            agent_id: None,
            registered_at_ms: 0,
            epoch: 0,
            linked: false,
            ended_unlinked: Vec::new(),
            stopping: false,
            frameworks: BTreeMap::new(),
            idle: VecDeque::new(),
            containers: BTreeMap::new(),
            executor_containers: BTreeMap::new(),
            nested: BTreeMap::new(),
            executor_timers: BTreeSet::new(),
            timers: BTreeSet::new(),
            counters: Counters::default(),
            effects: Vec::new(),
            settings,
        }
    }

    /// Takes notice of something; what to do about it.
    pub fn handle(&mut self, input: Input, now: Now) -> Vec<Effect> {
        match input {
            Input::Registered(id) => self.registered(id, now),
            Input::LinkDown => {
                self.linked = false;
                // The next report does not have them any more.
                self.ended_unlinked.clear();
            }
            Input::Allocator(message) => self.obey(*message, now),
            Input::Launched { container_id, pid } => self.launched(&container_id, pid, now),
            Input::LaunchFailed { container_id, reason } => self.launch_failed(&container_id, &reason, now),
            Input::Exited { container_id, exit } => self.exited(&container_id, exit, now),
            Input::Probed { container_id, which, outcome } => {
                self.probed(&container_id, which, &outcome, now)
            }
            Input::LimitExceeded { container_id, limitation } => {
                self.limit_exceeded(&container_id, limitation)
            }
            Input::Reconfigure { info, resources } => self.reconfigure(*info, resources),
            Input::Timer => {
                self.fire(now);
                self.fire_executors(now);
            }
            Input::Shutdown => self.kill_all(now),
        }
        std::mem::take(&mut self.effects)
    }

    /// When [`Input::Timer`] is due, in [`Now::elapsed`].
    #[must_use]
    pub fn next_timer(&self) -> Option<Duration> {
        let tasks = self.timers.first().map(|(at, ..)| *at);
        let executors = self.executor_timers.first().map(|(at, _)| *at);
        tasks.into_iter().chain(executors).min()
    }

    /// The id that the registry gave.
    #[must_use]
    pub fn agent_id(&self) -> Option<&AgentId> {
        self.agent_id.as_ref()
    }

    fn registered(&mut self, id: AgentId, now: Now) {
        if self.agent_id.as_ref() == Some(&id) {
            return;
        }
        self.registered_at_ms = u64::try_from(now.unix.as_millis()).unwrap_or(u64::MAX);
        let agent = checkpoint::Agent { id: id.to_string(), registered_at_ms: self.registered_at_ms };
        self.effects.push(record(Change::Agent(agent)));
        self.agent_id = Some(id);
    }

    /// Carries out a command unless a newer leader has been heard.
    fn obey(&mut self, message: AllocatorMessage, now: Now) {
        if message.epoch < self.epoch {
            warn!(epoch = message.epoch, newest = self.epoch, "command of a deposed allocator dropped");
            return;
        }
        if message.epoch > self.epoch {
            self.epoch = message.epoch;
            self.effects.push(record(Change::Epoch(message.epoch)));
        }
        match message.body {
            Some(Body::Accepted(_)) => self.link_up(now),
            Some(Body::Launch(launch)) => self.launch(launch, now),
            Some(Body::Kill(kill)) => self.kill(&kill, now),
            Some(Body::Acknowledge(ack)) => {
                let framework_id = ack.framework_id.map(|id| id.value).unwrap_or_default();
                let task_id = ack.task_id.map(|id| id.value).unwrap_or_default();
                if let Some(key) = TaskKey::parse(&framework_id, &task_id) {
                    self.acknowledge(&key, &ack.uuid, now);
                }
            }
            Some(Body::ShutdownFramework(shutdown)) => {
                let id = shutdown.framework_id.map(|id| id.value).unwrap_or_default();
                self.shutdown_framework(&FrameworkId::new(id), now);
            }
            Some(Body::Refused(refused)) => self.effects.push(Effect::LinkRefused(refused.reason)),
            Some(Body::FrameworkMessage(message)) => {
                if let Some(key) = executor_key(message.framework_id, message.executor_id) {
                    self.message_to_executor(&key, message.data);
                }
            }
            Some(Body::ShutdownExecutor(shutdown)) => {
                if let Some(key) = executor_key(shutdown.framework_id, shutdown.executor_id) {
                    self.shutdown_executor(&key, now);
                }
            }
            Some(Body::ApplyOperation(apply)) => self.apply_operation(*apply),
            Some(Body::AcknowledgeOperation(acknowledge)) => self.acknowledge_operation(&acknowledge.uuid),
            None => debug!(epoch = message.epoch, "command of an unknown kind dropped"),
        }
    }

    fn link_up(&mut self, now: Now) {
        self.linked = true;
        info!(epoch = self.epoch, "linked to the allocator");
        for key in self.keys() {
            if let Some(task) = self.task_mut(&key) {
                task.updates.restart();
            }
            self.send_oldest(&key, now);
        }
        let ended = std::mem::take(&mut self.ended_unlinked);
        self.effects.extend(ended.into_iter().map(|ended| Effect::SendExecutorEnded(Box::new(ended))));
    }

    fn task(&self, key: &TaskKey) -> Option<&Task> {
        self.frameworks.get(&key.framework_id)?.tasks.get(&key.task_id)
    }

    fn task_mut(&mut self, key: &TaskKey) -> Option<&mut Task> {
        self.frameworks.get_mut(&key.framework_id)?.tasks.get_mut(&key.task_id)
    }

    fn keys(&self) -> Vec<TaskKey> {
        let of_framework = |(framework_id, framework): (&FrameworkId, &Framework)| {
            let key =
                |task_id: &TaskId| TaskKey { framework_id: framework_id.clone(), task_id: task_id.clone() };
            framework.tasks.keys().map(key).collect::<Vec<_>>()
        };
        self.frameworks.iter().flat_map(of_framework).collect()
    }

    /// Writes a change down if the framework wants that.
    fn record(&mut self, key: &TaskKey, change: Change) {
        let wanted = self.frameworks.get(&key.framework_id).is_some_and(Framework::checkpoints);
        if wanted {
            self.effects.push(record(change));
        }
    }

    fn set_timer(&mut self, at: Duration, timer: Timer, key: &TaskKey) {
        self.timers.insert((at, timer, key.clone()));
    }

    fn fire(&mut self, now: Now) {
        while let Some((at, timer, key)) = self.timers.first().cloned() {
            if at > now.elapsed {
                return;
            }
            self.timers.pop_first();
            match timer {
                Timer::Retry => self.retry(&key, at, now),
                Timer::Kill => self.grace_over(&key, at, now),
                Timer::Completion => self.completion_time_over(&key, now),
                Timer::Probe(which) => self.probe(&key, which, now),
            }
        }
    }
}

fn executor_key(
    framework_id: Option<pb::FrameworkId>,
    executor_id: Option<pb::ExecutorId>,
) -> Option<ExecutorKey> {
    let framework_id = framework_id.map(|id| id.value).unwrap_or_default();
    ExecutorKey::parse(&framework_id, &executor_id.map(|id| id.value).unwrap_or_default())
}

fn record(change: Change) -> Effect {
    Effect::Record(Box::new(change.into()))
}

/// The sum of a scalar resource.
pub(crate) fn scalar(resources: &[pb::Resource], name: &str) -> f64 {
    let amounts = resources.iter().filter(|resource| resource.name == name);
    amounts.filter_map(|resource| resource.scalar.as_ref()).map(|scalar| scalar.value).sum()
}

#[cfg(test)]
mod tests;
