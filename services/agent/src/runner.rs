//! Drives the core: one loop that takes events in and carries effects out.

use std::sync::Arc;

use futures::{StreamExt, stream::BoxStream};
use meshos_mesh::{Env, FeedStream};
use meshos_proto::{
    meshos::{
        agent::v1::{Delta, Snapshot, WatchResponse, watch_response},
        allocator::v1::Reregister,
    },
    mesos::v1 as pb,
};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::{Instant, sleep_until},
};

use crate::{
    checkpoint::Checkpoint,
    containerizer::{Ended, SharedContainerizer},
    core::{Core, Effect, Input, Now, TaskKey},
    housekeeping::Past,
    http::Sandboxes,
    workdir::WorkDir,
};

mod containers;
mod effects;
mod event;
mod executors;
mod launch;
mod outlet;
mod recording;
mod volumes;

pub(crate) use containers::ContainerRequest;
pub(crate) use event::{Event, Identity, Status};
pub(crate) use executors::ExecutorRequest;
use outlet::{Linked, Outlet};

/// Events that wait for the loop.
pub(crate) const EVENTS: usize = 1024;

#[derive(Debug)]
pub(crate) struct Runner {
    pub(crate) env: Env,
    pub(crate) core: Core,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) containerizer: SharedContainerizer,
    pub(crate) identity: Identity,
    pub(crate) sandboxes: Sandboxes,
    pub(crate) past: Past,
    /// The agent as the registry shall know it.
    pub(crate) announced: watch::Sender<pb::AgentInfo>,
    pub(crate) status: watch::Sender<Status>,
    pub(crate) events: mpsc::Sender<Event>,
    /// Told when the session with the registry must be opened again.
    pub(crate) renew: Arc<Notify>,
    /// Locked for as long as the loop runs.
    _work_dir: WorkDir,
    outlet: Outlet,
    started: Instant,
    /// Why records are missing in the checkpoint, until it is written anew as a whole.
    unwritten: Option<String>,
}

/// The parts that [`Runner::new`] puts together.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) env: Env,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) containerizer: SharedContainerizer,
    pub(crate) identity: Identity,
    pub(crate) sandboxes: Sandboxes,
    pub(crate) past: Past,
    /// The agent as the registry shall know it.
    pub(crate) announced: watch::Sender<pb::AgentInfo>,
    pub(crate) status: watch::Sender<Status>,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) renew: Arc<Notify>,
    pub(crate) work_dir: WorkDir,
}

impl Runner {
    pub(crate) fn new(parts: Parts, core: Core, started: Instant) -> Self {
        let Parts {
            env,
            checkpoint,
            containerizer,
            identity,
            sandboxes,
            past,
            announced,
            status,
            events,
            renew,
            work_dir,
        } = parts;
        let outlet = Outlet::default();
        Self {
            env,
            core,
            checkpoint,
            containerizer,
            identity,
            sandboxes,
            past,
            announced,
            status,
            events,
            renew,
            _work_dir: work_dir,
            outlet,
            started,
            unwritten: None,
        }
    }

    /// Runs until the environment's tasks stop. `effects` are those of the recovery.
    pub(crate) async fn run(
        mut self,
        mut effects: Vec<Effect>,
        mut events: mpsc::Receiver<Event>,
        mut ended: BoxStream<'static, Ended>,
    ) {
        // The checkpoint was written anew after the recovery.
        effects.retain(|effect| !matches!(effect, Effect::Record(_)));
        self.apply(effects);
        loop {
            let timer = self.core.next_timer().map(|at| self.started + at);
            let link = self.outlet.link.as_ref().filter(|_| !self.outlet.waiting.is_empty());
            let link = link.map(|link| link.sender.clone());
            tokio::select! {
                biased;
                permit = async { link.as_ref()?.reserve().await.ok() }, if link.is_some() => match permit {
                    Some(permit) => if let Some(message) = self.outlet.waiting.pop_front() { permit.send(message) },
                    // The link's end is on its way as an event.
                    None => self.outlet.waiting.clear(),
                },
                event = events.recv() => match event {
                    Some(event) => self.take(event),
                    None => return,
                },
                Some(Ended { container_id, exit }) = ended.next() => self.input(Input::Exited { container_id, exit }),
                () = async { sleep_until(timer.unwrap_or(self.started)).await }, if timer.is_some() => {
                    self.input(Input::Timer);
                }
            }
        }
    }

    pub(crate) fn now(env: &Env, started: Instant) -> Now {
        Now { elapsed: started.elapsed(), unix: env.clock.since_epoch() }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Input(input) => self.input(input),
            Event::LinkOpened { number, sender, reply } => {
                self.input(Input::LinkDown);
                self.outlet.waiting.clear();
                self.outlet.link = Some(Linked { number, sender });
                // Gone again when nobody takes it.
                let _ = reply.send(self.reregister());
            }
            Event::LinkClosed { number } if self.is_current(number) => {
                self.outlet.link = None;
                self.outlet.waiting.clear();
                self.input(Input::LinkDown);
            }
            Event::FromAllocator { number, message } if self.is_current(number) => {
                self.input(Input::Allocator(message));
            }
            // Of a link that was replaced.
            Event::LinkClosed { .. } | Event::FromAllocator { .. } => {}
            Event::Cleaned { failed } => {
                if failed {
                    self.core.count_destroy_error();
                }
                self.outlet.cleaning = self.outlet.cleaning.saturating_sub(1);
                self.tell();
            }
            Event::Executor(request) => self.executor(request),
            Event::Container(request) => self.container(request),
            Event::ExecutorGone { stream } => {
                self.outlet.executors.forget(stream);
                self.core.executor_gone(stream);
            }
            Event::Watch(reply) => drop(reply.send(self.watch())),
            Event::View(reply) => drop(reply.send(self.core.view())),
            Event::Reconfigure { info, resources, reply } => {
                let outcome = self.core.can_become(&resources);
                if outcome.is_ok() {
                    self.input(Input::Reconfigure { info, resources });
                }
                let _ = reply.send(outcome);
            }
            Event::Live { with_disks, reply } => {
                let _ = reply.send(self.core.live_sandboxes(with_disks));
            }
        }
    }

    fn is_current(&self, number: u64) -> bool {
        self.outlet.link.as_ref().is_some_and(|link| link.number == number)
    }

    fn input(&mut self, input: Input) {
        if let Input::Launched { container_id, .. } | Input::LaunchFailed { container_id, .. } = &input {
            self.outlet.launching.remove(container_id);
            self.outlet.waiting_for.started(&input);
        }
        let now = Self::now(&self.env, self.started);
        let effects = self.core.handle(input, now);
        self.apply(effects);
        self.tell();
    }

    /// Lets those know who wait for the agent to get somewhere.
    fn tell(&self) {
        let (agent_id, live, linked) = (
            self.core.agent_id().map(|id| id.to_string()),
            self.core.live() + self.outlet.cleaning,
            self.core.is_linked(),
        );
        self.status.send_if_modified(|status| {
            let changed = status.agent_id != agent_id || status.live != live || status.linked != linked;
            (status.agent_id, status.live, status.linked) = (agent_id, live, linked);
            changed
        });
    }

    fn reregister(&self) -> Reregister {
        let Identity { info, version, endpoint, capabilities } = self.identity.clone();
        let agent = pb::AgentInfo { id: self.core.agent_id().map(Into::into), ..info };
        Reregister { agent: Some(agent), version, endpoint, capabilities, ..self.core.reregister() }
    }

    fn watch(&self) -> FeedStream<WatchResponse> {
        let agent = pb::AgentInfo { id: self.core.agent_id().map(Into::into), ..self.identity.info.clone() };
        let snapshot = Snapshot { agent: Some(agent), tasks: self.core.task_protos() };
        let body = Some(watch_response::Body::Snapshot(snapshot));
        self.outlet.feed.subscribe(WatchResponse { revision: self.outlet.revision, body })
    }

    fn publish(&mut self, key: &TaskKey, removed: bool) {
        self.outlet.revision += 1;
        if !self.outlet.feed.has_readers() {
            return;
        }
        let delta = if removed {
            Delta { removed: vec![key.to_string()], ..Delta::default() }
        } else {
            Delta { changed: self.core.task_proto(key).into_iter().collect(), ..Delta::default() }
        };
        let body = Some(watch_response::Body::Delta(delta));
        self.outlet.feed.publish(WatchResponse { revision: self.outlet.revision, body });
    }
}

#[cfg(test)]
mod tests;
