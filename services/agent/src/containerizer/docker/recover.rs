//! Finding again what an agent before left, whether the engine answers or not.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bollard::models::ContainerSummary;
use futures::{StreamExt, stream};
use tokio::time::timeout;
use tracing::{info, warn};

use super::{
    Shared,
    create::name_of,
    engine::EngineError,
    launch::SANDBOX,
    ledger::Entry,
    tracked::{State, Tracked},
};
use crate::containerizer::{Exit, ExitStatus, Recovered};

/// The agent's start waits so long for the engine, and no longer.
const PATIENCE: Duration = Duration::from_secs(15);
/// Looks at the same time.
const LOOKS: usize = 16;
/// For the output of those that have ended to be written.
const DRAIN: Duration = Duration::from_secs(5);

impl Shared {
    /// All containers that were not forgotten. Without the engine those that are written down count as running: their
    /// ends are told when it answers.
    pub(super) async fn recover(self: &Arc<Self>) -> Vec<Recovered> {
        let found = match timeout(PATIENCE, self.found()).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                self.down(&error);
                self.believed(&error.to_string())
            }
            Err(_) => {
                let reason = format!("does not answer within {} s", PATIENCE.as_secs());
                let error = EngineError::Absent { address: self.engine.address(), reason };
                self.down(&error);
                self.believed(&error.to_string())
            }
        };
        self.recovered.store(true, Ordering::Relaxed);
        found
    }

    /// As the engine tells.
    async fn found(self: &Arc<Self>) -> Result<Vec<Recovered>, EngineError> {
        let there = self.list().await?;
        let mut found = Vec::new();
        let looks: Vec<_> = there.iter().map(|(id, container)| self.find(id, container)).collect();
        let mut looks = stream::iter(looks).buffer_unordered(LOOKS);
        while let Some(look) = looks.next().await {
            found.extend(look?);
        }
        for entry in
            self.ledger.entries().into_iter().filter(|entry| !there.contains_key(&entry.container_id))
        {
            found.extend(self.missing(entry));
        }
        found.sort_by(|a: &Recovered, b| a.container_id.cmp(&b.container_id));
        Ok(found)
    }

    async fn find(
        self: &Arc<Self>,
        id: &str,
        container: &ContainerSummary,
    ) -> Result<Option<Recovered>, EngineError> {
        let told = |pid, exit| Some(Recovered { container_id: id.to_owned(), pid, exit });
        match self.table.state(id) {
            Some(State::Starting) => return Ok(None),
            Some(State::Running(pid)) => return Ok(told(pid, None)),
            Some(State::Ended(pid, exit)) => return Ok(told(pid, Some(exit))),
            None => {}
        }
        let entry = self.ledger.entry(id);
        let is_known = entry.as_ref().is_some_and(|entry| entry.forgotten.is_none());
        if entry.as_ref().is_some_and(|entry| entry.forgotten.is_some())
            || (!is_known && !self.settings.kill_orphans)
        {
            return Ok(None);
        }
        let seen = match self.inspect(id).await {
            Ok(seen) => seen,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) if error.is_absent() => return Err(error),
            Err(error) => {
                warn!(container_id = id, %error, "container is taken to run as before");
                let pid = entry.filter(|entry| entry.forgotten.is_none()).and_then(|entry| entry.pid);
                let Some(pid) = pid else { return Ok(None) };
                self.table.lock().insert(id.to_owned(), Tracked::new(State::Running(pid)));
                return Ok(told(pid, None));
            }
        };
        if seen.created {
            info!(container_id = id, "removing a container that was never started");
            self.remove(id, &name_of(id)).await;
            return Ok(None);
        }
        if !is_known {
            let _ = self.ledger.begin(id);
        }
        let (exit, pid) = (seen.exit, entry.and_then(|entry| entry.pid).unwrap_or(seen.pid));
        let pid = if seen.pid > 0 { seen.pid } else { pid };
        let _ = self.ledger.started(id, pid);
        self.take_over(id, seen, &sandbox_of(container));
        if let Some(exit) = exit {
            self.drain(id).await;
            let _ = self.ledger.ended(id, exit);
            if let Some(tracked) = self.table.lock().get_mut(id) {
                tracked.state = State::Ended(pid, exit);
            }
        }
        Ok(told(pid, exit))
    }

    async fn drain(&self, id: &str) {
        let drained = self.table.lock().get(id).and_then(|tracked| tracked.drained.clone());
        if let Some(mut drained) = drained {
            let _ = timeout(DRAIN, drained.wait_for(|done| *done)).await;
        }
    }

    /// The engine does not have it.
    fn missing(&self, entry: Entry) -> Option<Recovered> {
        let id = entry.container_id;
        match (entry.forgotten, entry.pid, self.table.state(&id)) {
            (_, _, Some(State::Starting)) => None,
            (None, Some(pid), _) => {
                warn!(container_id = id, "container is gone from the Docker Engine");
                let exit = entry.exit.unwrap_or(Exit { status: ExitStatus::Unknown, out_of_memory: false });
                self.table.lock().insert(id.clone(), Tracked::new(State::Ended(pid, exit)));
                Some(Recovered { container_id: id, pid, exit: Some(exit) })
            }
            // It was removed, or never made.
            _ => {
                self.ledger.remove(&id);
                None
            }
        }
    }

    /// As it is written down.
    fn believed(self: &Arc<Self>, reason: &str) -> Vec<Recovered> {
        let mut found = Vec::new();
        let mut table = self.table.lock();
        for entry in self.ledger.entries().into_iter().filter(|entry| entry.forgotten.is_none()) {
            let Some(pid) = entry.pid else {
                // Nobody is told of it: when the engine has made it, it goes.
                let _ = self.ledger.forget(&entry.container_id, Duration::ZERO);
                continue;
            };
            let state = match entry.exit {
                Some(exit) => State::Ended(pid, exit),
                None => State::Running(pid),
            };
            table.entry(entry.container_id.clone()).or_insert_with(|| Tracked::new(state));
            found.push(Recovered { container_id: entry.container_id, pid, exit: entry.exit });
        }
        warn!(reason, containers = found.len(), "containers of the Docker Engine are taken to run as before");
        found
    }

    /// Learns the rest about a container that was taken to run while the engine was away.
    pub(super) async fn complete(self: &Arc<Self>, id: &str) -> Result<(), EngineError> {
        let followed = self.table.lock().get(id).is_some_and(|tracked| tracked.drained.is_some());
        if followed {
            return Ok(());
        }
        let seen = self.inspect(id).await?;
        let there: BTreeMap<String, ContainerSummary> = self.list().await?;
        if let Some(container) = there.get(id).filter(|_| seen.running) {
            self.take_over(id, seen, &sandbox_of(container));
        }
        Ok(())
    }
}

fn sandbox_of(container: &ContainerSummary) -> PathBuf {
    let label = container.labels.as_ref().and_then(|labels| labels.get(SANDBOX));
    label.map(PathBuf::from).unwrap_or_default()
}
