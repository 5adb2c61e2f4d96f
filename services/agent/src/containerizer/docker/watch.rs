//! Watches the engine: who ended, whether it answers, what is to be removed.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bollard::{
    models::{ContainerSummary, ContainerSummaryStateEnum, EventMessage},
    query_parameters::{EventsOptions, ListContainersOptions, RemoveContainerOptions},
};
use futures::StreamExt;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tracing::{debug, info, warn};

use super::{
    Shared,
    create::{CONTAINER, OWNER, name_of},
    engine::EngineError,
    tracked::State,
};
use crate::containerizer::{Ended, Exit, ExitStatus};

/// How often the engine is asked whether it is there, and how long it may think.
const PING: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(10);
/// How often what is left over is looked for.
const SWEEP: Duration = Duration::from_secs(60);
/// Before an engine that was away is tried again.
const AGAIN: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(10);
/// For the last of a container's output to be written.
const DRAIN: Duration = Duration::from_secs(10);
/// For the engine to remove a container.
pub(super) const REMOVAL: Duration = Duration::from_secs(60);
/// Events of so many seconds before are heard again, in case clocks differ a little.
const OVERLAP: u64 = 30;

/// Whether the engine answers, and why not.
pub(super) type Health = Result<(), String>;

impl Shared {
    /// Watches until the agent ends.
    pub(super) async fn watch(self: Arc<Self>) {
        let mut wait = AGAIN;
        loop {
            let began = Instant::now();
            let error = self.listen().await;
            self.down(&error);
            if began.elapsed() > PING {
                wait = AGAIN;
            }
            sleep(wait).await;
            wait = (wait * 2).min(AGAIN_MAX);
        }
    }

    /// The engine does not do its work.
    pub(super) fn down(&self, error: &EngineError) {
        if !error.is_absent() {
            return;
        }
        let said = self.health.send_if_modified(|health| {
            let was_up = health.is_ok();
            *health = Err(error.to_string());
            was_up
        });
        if said {
            warn!(%error, "Docker Engine does not answer");
        }
        self.engine.forget();
    }

    fn up(&self) {
        let said = self.health.send_if_modified(|health| std::mem::replace(health, Ok(())).is_err());
        if said {
            info!(address = self.engine.address(), "Docker Engine answers");
        }
    }

    /// Hears of ends until the engine is away; why.
    async fn listen(self: &Arc<Self>) -> EngineError {
        let docker = match self.engine.docker().await {
            Ok(docker) => docker,
            Err(error) => return error,
        };
        let since = self.clock.since_epoch().as_secs().saturating_sub(OVERLAP);
        let filters = [
            ("type".to_owned(), vec!["container".to_owned()]),
            ("event".to_owned(), vec!["die".to_owned()]),
            ("label".to_owned(), vec![format!("{OWNER}={}", self.ledger.owner())]),
        ];
        let options =
            EventsOptions { since: Some(since.to_string()), until: None, filters: Some(filters.into()) };
        let mut events = std::pin::pin!(docker.events(Some(options)));
        // Those that ended while nobody heard.
        if let Err(error) = self.compare().await {
            return error;
        }
        self.up();
        let (mut ping, mut sweep) = (interval(PING), interval(SWEEP));
        for ticks in [&mut ping, &mut sweep] {
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        loop {
            tokio::select! {
                biased;
                event = events.next() => match event.map(|event| self.engine.item(event)) {
                    Some(Ok(event)) => self.heard(&event),
                    Some(Err(error)) => return error,
                    None => return EngineError::Absent {
                        address: self.engine.address(),
                        reason: "ended its stream of events".to_owned(),
                    },
                },
                _ = ping.tick() => {
                    if let Err(error) = self.engine.call(PATIENCE, |docker| async move { docker.ping().await }).await {
                        return error;
                    }
                    // A call took too long meanwhile: what it was to find out is looked at again.
                    if self.health.borrow().is_err() {
                        if let Err(error) = self.compare().await {
                            return error;
                        }
                        self.up();
                    }
                }
                _ = sweep.tick() => {
                    if !self.is_recovered() {
                        sweep.reset_after(AGAIN);
                        continue;
                    }
                    if let Err(error) = self.sweep().await {
                        return error;
                    }
                }
            }
        }
    }

    fn heard(self: &Arc<Self>, event: &EventMessage) {
        let attributes = event.actor.as_ref().and_then(|actor| actor.attributes.as_ref());
        if let Some(container_id) = attributes.and_then(|attributes| attributes.get(CONTAINER)) {
            self.look_into(container_id);
        }
    }

    /// A container may have ended: tells so once it is certain. It is the launch that tells of one that is starting.
    pub(super) fn look_into(self: &Arc<Self>, container_id: &str) {
        let mut table = self.table.lock();
        let Some(tracked) = table.get_mut(container_id) else { return };
        if !matches!(tracked.state, State::Running(_)) || std::mem::replace(&mut tracked.ending, true) {
            return;
        }
        drop(table);
        let (shared, container_id) = (Arc::clone(self), container_id.to_owned());
        self.tasks.spawn("docker-end", async move {
            match shared.exit_of(&container_id).await {
                Some(exit) => shared.ended(&container_id, exit).await,
                None => {
                    if let Some(tracked) = shared.table.lock().get_mut(&container_id) {
                        tracked.ending = false;
                    }
                }
            }
        });
    }

    /// How it ended; none: it runs, or the engine does not say, and another look will follow.
    async fn exit_of(&self, container_id: &str) -> Option<Exit> {
        match self.inspect(container_id).await {
            Ok(seen) => seen.exit,
            Err(error) if error.is_not_found() => {
                // Somebody else removed it.
                let known = self.ledger.entry(container_id).and_then(|entry| entry.exit);
                Some(known.unwrap_or(Exit { status: ExitStatus::Unknown, out_of_memory: false }))
            }
            Err(error) => {
                debug!(container_id, %error, "end of a container is not known yet");
                self.down(&error);
                None
            }
        }
    }

    /// Tells of an end when all output is there.
    async fn ended(&self, container_id: &str, exit: Exit) {
        let drained = self.table.lock().get(container_id).and_then(|tracked| tracked.drained.clone());
        if let Some(mut drained) = drained {
            // Whoever follows is gone only with the agent.
            let done = timeout(DRAIN, drained.wait_for(|done| *done)).await;
            if done.is_err() {
                warn!(container_id, "the end of a container's output is late");
            }
        }
        if let Err(error) = self.ledger.ended(container_id, exit) {
            warn!(container_id, %error, "end of a container cannot be written down");
        }
        if let Some(tracked) = self.table.lock().get_mut(container_id) {
            tracked.state = State::Ended(tracked.pid().unwrap_or_default(), exit);
        }
        self.tell(&Ended { container_id: container_id.to_owned(), exit });
    }

    /// All containers of this agent that the engine has.
    pub(super) async fn list(&self) -> Result<BTreeMap<String, ContainerSummary>, EngineError> {
        let filters = [("label".to_owned(), vec![format!("{OWNER}={}", self.ledger.owner())])];
        let options =
            ListContainersOptions { all: true, filters: Some(filters.into()), ..Default::default() };
        let list = self
            .engine
            .call(PATIENCE, |docker| async move { docker.list_containers(Some(options)).await })
            .await?;
        let named = list.into_iter().filter_map(|container| {
            let id = container.labels.as_ref()?.get(CONTAINER)?.clone();
            Some((id, container))
        });
        Ok(named.collect())
    }

    /// Looks into all that should run and does not.
    async fn compare(self: &Arc<Self>) -> Result<(), EngineError> {
        let there = self.list().await?;
        let should: Vec<_> = {
            let table = self.table.lock();
            let running = table.iter().filter(|(_, tracked)| matches!(tracked.state, State::Running(_)));
            running.map(|(id, _)| id.clone()).collect()
        };
        let runs = |id: &String| {
            there.get(id).is_some_and(|container| {
                !matches!(
                    container.state,
                    Some(ContainerSummaryStateEnum::EXITED | ContainerSummaryStateEnum::DEAD)
                )
            })
        };
        for id in should.iter().filter(|id| !runs(id)) {
            self.look_into(id);
        }
        // Those that were taken over while the engine was away.
        for id in should.iter().filter(|id| runs(id)) {
            match self.complete(id).await {
                Err(error) if error.is_absent() => return Err(error),
                Err(error) => warn!(container_id = id, %error, "container cannot be looked into"),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// Removes what was forgotten long enough ago, and what nobody knows.
    async fn sweep(self: &Arc<Self>) -> Result<(), EngineError> {
        // An end that the engine would not tell of when it was heard.
        self.compare().await?;
        let there = self.list().await?;
        for (id, container) in &there {
            let name = container.id.clone().unwrap_or_else(|| name_of(id));
            match self.ledger.entry(id) {
                Some(entry) if entry.forgotten.is_some_and(|at| self.is_due(at)) => {
                    self.remove(id, &name).await
                }
                Some(_) => {}
                None if self.table.state(id).is_some() || !self.settings.kill_orphans => {}
                None => {
                    info!(container_id = id, "removing a container that nobody knows from the Docker Engine");
                    self.remove(id, &name).await;
                }
            }
        }
        let gone = self.ledger.entries().into_iter().filter(|entry| !there.contains_key(&entry.container_id));
        for entry in gone.filter(|entry| entry.forgotten.is_some()) {
            self.ledger.remove(&entry.container_id);
        }
        Ok(())
    }

    /// Whether a container that was forgotten then is to be removed now.
    pub(super) fn is_due(&self, forgotten: Duration) -> bool {
        self.clock.since_epoch().saturating_sub(forgotten) >= self.settings.remove_delay
    }

    /// Removes a container from the engine and from the ledger; tried again later when it fails.
    pub(super) async fn remove(&self, container_id: &str, name: &str) {
        let options = RemoveContainerOptions { v: true, force: true, link: false };
        let removed = self
            .engine
            .call(REMOVAL, |docker| async move { docker.remove_container(name, Some(options)).await })
            .await;
        match removed {
            Ok(()) => self.ledger.remove(container_id),
            Err(error) if error.is_not_found() => self.ledger.remove(container_id),
            Err(error) => warn!(container_id, %error, "container is not removed from the Docker Engine yet"),
        }
    }
}
