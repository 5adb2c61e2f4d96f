//! What an agent decides: which containers to start and to end, which status updates to send and when, what to
//! write down. No I/O: inputs come in, effects come out, in the order in which they must be carried out.

mod addresses;
mod checks;
mod commands;
mod container;
mod environment;
mod executor;
mod io;
mod key;
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
mod settings;
mod shown;
mod status;
mod task;
mod updates;
mod view;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use meshos_mesh::Rng;
use meshos_proto::{meshos::allocator::v1::ExecutorEnded, mesos::v1 as pb};
use meshos_types::{AgentId, FrameworkId, Resources, TaskId};

use crate::checkpoint::{self, Change};
pub use checks::Which;
pub use executor::{CallError, ExecutorKey, ExecutorState};
pub use io::{Effect, Input};
pub use key::TaskKey;
pub use limits::{DiskQuota, Limitation, LiveSandbox};
pub use nested::{ContainerError, NestedLaunch, ViewNested, container_path};
use operations::Operations;
pub use settings::{Now, Settings};
pub use shown::Shown;
pub use task::Phase;
use task::{Framework, Task};
pub use view::{Counters, View, ViewExecutor, ViewFramework, ViewTask};

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
            Input::Addressed { container_id, network } => self.addressed(&container_id, &network),
            Input::Fetched { container_id } => self.fetched(&container_id, now),
            Input::Launched { container_id, pid } => self.launched(&container_id, pid, now),
            Input::LaunchFailed { container_id, reason } => self.launch_failed(&container_id, &reason, now),
            Input::Exited { container_id, exit } => self.exited(&container_id, exit, now),
            Input::Probed { container_id, which, outcome } => {
                self.probed(&container_id, which, &outcome, now)
            }
            Input::Provided { container_id, number, error } => {
                self.provided(&container_id, (number, error), now)
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
