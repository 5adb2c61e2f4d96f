//! Containers that nobody launched as a task: below a task's or an executor's, or standing alone. They end with what
//! they are below of.

mod place;

use std::{collections::BTreeMap, path::PathBuf};

use meshos_proto::mesos::v1 as pb;
use meshos_types::{FrameworkId, ids::check_id};
use tracing::info;

use super::{
    Core, Effect, Phase,
    kill::SIGKILL,
    record,
    task::{Home, Task},
};
use crate::{
    checkpoint::{self, Change},
    containerizer::{Exit, Recovered, Stdio},
};
use place::nested_spec;

/// Containers below containers below containers: no deeper than this.
const DEPTH: usize = 8;

/// A container to be launched.
#[derive(Clone, Debug, Default)]
pub struct NestedLaunch {
    pub container_id: pb::ContainerId,
    pub command: Option<pb::CommandInfo>,
    pub container: Option<pb::ContainerInfo>,
    /// Empty: it uses what the one above it may use.
    pub resources: Vec<pb::Resource>,
    pub limits: BTreeMap<String, f64>,
    pub stdio: Option<Stdio>,
    /// Somebody looks into the container above: it begins in that one's sandbox, with its variables, and does not
    /// outlive the agent.
    pub is_session: bool,
}

/// Why something cannot be done with a container.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContainerError {
    #[error("Container '{0}' already exists")]
    Exists(String),
    #[error("Container '{0}' cannot be found")]
    NotFound(String),
    #[error("Container '{0}' has not terminated yet")]
    Runs(String),
    #[error("{0}")]
    Refused(String),
}

#[derive(Debug)]
pub(super) struct Nested {
    id: pb::ContainerId,
    directory: PathBuf,
    phase: Phase,
    pid: Option<u32>,
    exit: Option<Exit>,
    is_session: bool,
    /// What it was below of is gone.
    is_orphan: bool,
    /// What is to be sent as soon as it is there.
    signal: Option<i32>,
}

/// A container of the API, for readers.
#[derive(Clone, Debug)]
pub struct ViewNested {
    pub id: pb::ContainerId,
    /// As the containerizer knows it.
    pub key: String,
    pub pid: Option<u32>,
    pub phase: Phase,
}

/// The ids from the outermost container to this one, separated by dots.
#[must_use]
pub fn container_path(id: &pb::ContainerId) -> String {
    match &id.parent {
        Some(parent) => format!("{}.{}", container_path(parent), id.value),
        None => id.value.clone(),
    }
}

/// Whether the ids may name directories and cgroups.
fn check(id: &pb::ContainerId, depth: usize) -> Result<(), String> {
    check_id("ContainerID", &id.value).map_err(|error| error.to_string())?;
    if id.value.contains(|c: char| c == '.' || c.is_whitespace()) {
        return Err(format!("'ContainerID.value' '{}' contains invalid characters", id.value));
    }
    match (&id.parent, depth) {
        (None, _) => Ok(()),
        (Some(_), 0) => Err(format!("containers may be nested {DEPTH} deep")),
        (Some(parent), depth) => check(parent, depth - 1),
    }
}

impl Core {
    /// Launches a container of the API; it is on its way when this returns.
    ///
    /// # Errors
    /// [`ContainerError`]: it is there already, what it shall be below of is not, or it cannot be run.
    pub fn launch_nested(&mut self, launch: NestedLaunch) -> Result<Vec<Effect>, ContainerError> {
        check(&launch.container_id, DEPTH).map_err(ContainerError::Refused)?;
        let key = container_path(&launch.container_id);
        if self.nested.contains_key(&key) || self.knows_container(&launch.container_id) {
            return Err(ContainerError::Exists(key));
        }
        if self.stopping {
            return Err(ContainerError::Refused("The agent is shutting down".to_owned()));
        }
        let above = match &launch.container_id.parent {
            Some(parent) => {
                self.above(parent).ok_or_else(|| ContainerError::NotFound(container_path(parent)))?
            }
            None => self.standalone(&key),
        };
        let spec = nested_spec(&self.settings, &launch, &key, above).map_err(ContainerError::Refused)?;
        info!(container_id = key, session = launch.is_session, "container of the API begins");
        let nested = Nested {
            id: launch.container_id,
            directory: spec.sandbox.clone(),
            phase: Phase::Launching,
            pid: None,
            exit: None,
            is_session: launch.is_session,
            is_orphan: false,
            signal: None,
        };
        if !nested.is_session {
            self.effects.push(record(Change::Nested(nested.record())));
        }
        self.nested.insert(key, nested);
        self.effects.push(Effect::Launch(Box::new(spec)));
        Ok(std::mem::take(&mut self.effects))
    }

    /// Sends a signal to a container of the API.
    ///
    /// # Errors
    /// There is none that runs.
    pub fn signal_container(
        &mut self,
        id: &pb::ContainerId,
        signal: i32,
    ) -> Result<Vec<Effect>, ContainerError> {
        let key = container_path(id);
        if let Some(nested) = self.nested.get_mut(&key).filter(|nested| nested.phase != Phase::Ended) {
            if nested.phase == Phase::Launching {
                nested.signal = Some(signal);
            } else {
                self.effects.push(Effect::Signal { container_id: key, signal });
            }
        } else if let Some(container_id) = self.live_container(id) {
            self.effects.push(Effect::Signal { container_id, signal });
        } else {
            return Err(ContainerError::NotFound(key));
        }
        Ok(std::mem::take(&mut self.effects))
    }

    /// Forgets an ended container of the API, with its sandbox.
    ///
    /// # Errors
    /// It runs.
    pub fn remove_container(&mut self, id: &pb::ContainerId) -> Result<Vec<Effect>, ContainerError> {
        let key = container_path(id);
        match self.nested.get(&key) {
            None if self.live_container(id).is_some() => return Err(ContainerError::Runs(key)),
            None => return Err(ContainerError::NotFound(key)),
            Some(nested) if nested.phase != Phase::Ended => return Err(ContainerError::Runs(key)),
            Some(nested) => {
                let path = nested.directory.clone();
                self.forget_nested(&key);
                self.effects.push(Effect::RemoveVolume { path, is_mount: false });
            }
        }
        Ok(std::mem::take(&mut self.effects))
    }

    /// How a container ended; none inside while it runs.
    ///
    /// # Errors
    /// It is not known.
    pub fn container_exit(&self, id: &pb::ContainerId) -> Result<Option<Option<Exit>>, ContainerError> {
        let key = container_path(id);
        match self.nested.get(&key) {
            Some(nested) if nested.phase == Phase::Ended => Ok(Some(nested.exit)),
            Some(_) => Ok(None),
            None if self.live_container(id).is_some() => Ok(None),
            None => Err(ContainerError::NotFound(key)),
        }
    }

    /// Containers of the API that run.
    pub(super) fn live_nested(&self) -> usize {
        self.nested.values().filter(|nested| nested.phase != Phase::Ended).count()
    }

    /// For readers.
    pub(super) fn view_nested(&self) -> Vec<ViewNested> {
        let view = |(key, nested): (&String, &Nested)| ViewNested {
            id: nested.id.clone(),
            key: key.clone(),
            pid: nested.pid,
            phase: nested.phase,
        };
        self.nested.iter().map(view).collect()
    }

    /// The task that runs in a container of this id.
    fn task_in(&self, id: &pb::ContainerId) -> Option<(&FrameworkId, &Task)> {
        let key = self.containers.get(&id.value)?;
        let task = self.task(key).filter(|task| task.phase != Phase::Ended && task.container() == *id)?;
        Some((&key.framework_id, task))
    }

    /// The containerizer's name of a task's or executor's container that runs.
    fn live_container(&self, id: &pb::ContainerId) -> Option<String> {
        let executor = || id.parent.is_none().then(|| self.executor_containers.get(&id.value)).flatten();
        let found = self.task_in(id).is_some() || executor().is_some();
        found.then(|| id.value.clone())
    }

    fn knows_container(&self, id: &pb::ContainerId) -> bool {
        self.containers.contains_key(&id.value) || self.live_container(id).is_some()
    }

    /// Whether this was news of a container of the API.
    pub(super) fn nested_launched(&mut self, key: &str, pid: u32) -> bool {
        let Some(nested) = self.nested.get_mut(key) else { return false };
        if nested.phase == Phase::Launching {
            (nested.phase, nested.pid) = (Phase::Running, Some(pid));
        }
        if let Some(signal) = nested.signal.take() {
            self.effects.push(Effect::Signal { container_id: key.to_owned(), signal });
        }
        if nested.is_orphan {
            self.effects.push(Effect::Signal { container_id: key.to_owned(), signal: SIGKILL });
        }
        true
    }

    /// Whether this was news of a container of the API.
    pub(super) fn nested_launch_failed(&mut self, key: &str) -> bool {
        if !self.nested.contains_key(key) {
            return false;
        }
        self.forget_nested(key);
        self.effects.push(Effect::ContainerEnded { path: key.to_owned(), exit: None });
        true
    }

    /// Whether this was news of a container of the API.
    pub(super) fn nested_exited(&mut self, key: &str, exit: Exit) -> bool {
        let Some(nested) = self.nested.get_mut(key) else { return false };
        if nested.phase == Phase::Ended {
            return true;
        }
        (nested.phase, nested.exit) = (Phase::Ended, Some(exit));
        let (is_orphan, directory) = (nested.is_orphan, nested.directory.clone());
        if self.settings.collect_nested {
            self.effects.push(Effect::Collect(directory));
        }
        self.effects.push(Effect::ContainerEnded { path: key.to_owned(), exit: Some(exit) });
        self.end_nested_below(key);
        if is_orphan {
            self.forget_nested(key);
        }
        true
    }

    fn forget_nested(&mut self, key: &str) {
        let Some(nested) = self.nested.remove(key) else { return };
        if !nested.is_session {
            self.effects.push(record(Change::NestedRemoved(key.to_owned())));
        }
        if nested.id.parent.is_none() {
            self.effects.push(Effect::Detach(nested.directory));
        }
        self.effects.push(Effect::Cleanup { container_id: key.to_owned() });
    }

    /// What is below an ended container ends.
    pub(super) fn end_nested_below(&mut self, path: &str) {
        let prefix = format!("{path}.");
        let below = self.nested.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix));
        for key in below.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            let Some(nested) = self.nested.get_mut(&key) else { continue };
            nested.is_orphan = true;
            match nested.phase {
                Phase::Ended => self.forget_nested(&key),
                Phase::Running => {
                    self.effects.push(Effect::Signal { container_id: key, signal: SIGKILL });
                }
                // Killed once it is there.
                Phase::Launching => {}
            }
        }
    }

    /// All containers of the API end: the node stops.
    pub(super) fn end_all_nested(&mut self) {
        for (key, nested) in &mut self.nested {
            nested.is_orphan = true;
            if nested.phase == Phase::Running {
                self.effects.push(Effect::Signal { container_id: key.clone(), signal: SIGKILL });
            }
        }
    }

    /// Containers of an agent process before this one.
    pub(super) fn restore_nested(
        &mut self,
        replayed: Vec<checkpoint::Nested>,
        there: &mut BTreeMap<String, Recovered>,
    ) {
        for checkpoint::Nested { container_id: id, directory } in replayed {
            let key = container_path(&id);
            let found = there.remove(&key);
            let ended = found.as_ref().is_none_or(|found| found.exit.is_some());
            let nested = Nested {
                is_orphan: id.parent.as_ref().is_some_and(|parent| !self.is_there(parent)),
                id,
                directory: directory.into(),
                phase: if ended { Phase::Ended } else { Phase::Running },
                pid: found.as_ref().map(|found| found.pid),
                exit: found.and_then(|found| found.exit),
                is_session: false,
                signal: None,
            };
            let (is_orphan, phase) = (nested.is_orphan, nested.phase);
            self.nested.insert(key.clone(), nested);
            match (is_orphan, phase) {
                (true, Phase::Ended) => self.forget_nested(&key),
                (true, _) => self.effects.push(Effect::Signal { container_id: key, signal: SIGKILL }),
                (false, _) => {}
            }
        }
    }

    fn is_there(&self, id: &pb::ContainerId) -> bool {
        self.above(id).is_some()
    }

    /// The fewest records that give the containers of the API.
    pub(super) fn nested_changes(&self) -> impl Iterator<Item = Change> {
        self.nested.values().filter(|nested| !nested.is_session).map(|nested| Change::Nested(nested.record()))
    }
}

impl Nested {
    fn record(&self) -> checkpoint::Nested {
        checkpoint::Nested { container_id: self.id.clone(), directory: self.directory.display().to_string() }
    }
}

/// The container path of a task, as [`container_path`] gives it.
pub(super) fn path_of(task: &Task) -> Option<String> {
    (!matches!(task.home, Home::Executor { .. })).then(|| container_path(&task.container()))
}
