//! The containers that this agent process knows of.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use crate::containerizer::{Exit, NetworkStatus, process::probe::Near};

/// How far a container got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The engine was asked to make or start it.
    Starting,
    /// Its pid; 0 where it ended too soon to be seen.
    Running(u32),
    Ended(u32, Exit),
}

#[derive(Debug)]
pub(super) struct Tracked {
    pub(super) state: State,
    /// What asks it to end.
    pub(super) stop_signal: Option<String>,
    pub(super) network: NetworkStatus,
    /// The engine's own name of it.
    pub(super) engine_id: String,
    /// Whether it shares the machine's network.
    pub(super) on_host: bool,
    /// Whether all of its output was taken; absent: nobody follows it yet.
    pub(super) drained: Option<watch::Receiver<bool>>,
    /// Its end is being looked into.
    pub(super) ending: bool,
}

impl Tracked {
    pub(super) fn new(state: State) -> Self {
        Self {
            state,
            stop_signal: None,
            network: NetworkStatus::default(),
            engine_id: String::new(),
            on_host: true,
            drained: None,
            ending: false,
        }
    }

    /// Where its ports are looked at from. An engine of another machine, or outside this container, tells pids that
    /// mean something else here: then by its address.
    pub(super) fn near(&self) -> Near {
        let State::Running(pid) = self.state else { return Near::Here };
        if self.on_host {
            return Near::Here;
        }
        let cgroup = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        if !self.engine_id.is_empty() && cgroup.contains(&self.engine_id) {
            return Near::Process(pid);
        }
        let addresses = self.network.networks.iter().flat_map(|network| &network.addresses);
        addresses.copied().next().map_or(Near::Here, Near::Address)
    }

    pub(super) fn pid(&self) -> Option<u32> {
        match self.state {
            State::Starting => None,
            State::Running(pid) | State::Ended(pid, _) => Some(pid),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Table(Mutex<BTreeMap<String, Tracked>>);

impl Table {
    pub(super) fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Tracked>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn state(&self, container_id: &str) -> Option<State> {
        self.lock().get(container_id).map(|tracked| tracked.state)
    }
}
