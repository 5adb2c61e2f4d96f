//! Drives the core: one loop that takes events in and carries effects out.

use std::{
    collections::{BTreeMap, VecDeque},
    path::{Path, PathBuf},
    sync::Arc,
};

use futures::{StreamExt, stream::BoxStream};
use meshos_mesh::{Env, Feed, FeedStream, trace};
use meshos_proto::{
    meshos::{
        agent::v1::{Delta, Snapshot, WatchResponse, watch_response},
        allocator::v1::{AgentMessage, AllocatorMessage, Reregister, agent_message},
    },
    mesos::v1 as pb,
};
use meshos_types::Resources;
use tokio::{
    sync::{Notify, Semaphore, mpsc, oneshot, watch},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, error, info, warn};

use crate::{
    beneath::Beneath,
    checkpoint::{Change, Checkpoint, Record},
    containerizer::{ContainerSpec, ContainerizerError, Ended, Probe, ProbeKind, SharedContainerizer},
    core::{Core, Effect, Input, LiveSandbox, Now, TaskKey, View, Which},
    housekeeping::Past,
    http::Sandboxes,
    workdir::WorkDir,
};

mod containers;
mod executors;

pub(crate) use containers::ContainerRequest;
use containers::Waiting;
pub(crate) use executors::ExecutorRequest;
use executors::Streams;

/// Containers that are being started at the same time.
const STARTING: usize = 16;
/// Connections to look after tasks that are made at the same time, and commands that are run.
const CONNECTING: usize = 4096;
const COMMANDS: usize = 256;
/// Changes that a slow reader of the feed may be behind.
const FEED: usize = 4096;
/// Events that wait for the loop.
pub(crate) const EVENTS: usize = 1024;

/// What comes into the loop.
#[derive(Debug)]
pub(crate) enum Event {
    Input(Input),
    /// A link is being opened: updates go to `sender` once the allocator has accepted it.
    LinkOpened {
        number: u64,
        sender: mpsc::Sender<AgentMessage>,
        reply: oneshot::Sender<Reregister>,
    },
    LinkClosed {
        number: u64,
    },
    FromAllocator {
        number: u64,
        message: Box<AllocatorMessage>,
    },
    /// An ended container is forgotten.
    Cleaned,
    Executor(ExecutorRequest),
    Container(ContainerRequest),
    /// The reader of an executor's event stream is gone.
    ExecutorGone {
        stream: u64,
    },
    Watch(oneshot::Sender<FeedStream<WatchResponse>>),
    View(oneshot::Sender<View>),
    Live {
        with_disks: bool,
        reply: oneshot::Sender<Vec<LiveSandbox>>,
    },
    /// Other resources and attributes; the answer is why not.
    Reconfigure {
        info: Box<pb::AgentInfo>,
        resources: Resources,
        reply: oneshot::Sender<Result<(), String>>,
    },
}

/// What others may want to wait for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Status {
    pub(crate) agent_id: Option<String>,
    pub(crate) linked: bool,
    pub(crate) refused: Option<String>,
    /// Containers that there are, running or not cleaned up.
    pub(crate) live: usize,
}

/// The agent as it presents itself.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) info: pb::AgentInfo,
    pub(crate) version: String,
    pub(crate) endpoint: String,
    pub(crate) capabilities: Vec<pb::agent_info::Capability>,
}

/// An open link.
#[derive(Debug)]
struct Linked {
    number: u64,
    sender: mpsc::Sender<AgentMessage>,
}

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

/// Where news go.
#[derive(Debug)]
struct Outlet {
    link: Option<Linked>,
    /// Updates that the link has no room for yet: at most one for each task.
    waiting: VecDeque<AgentMessage>,
    executors: Streams,
    waiting_for: Waiting,
    feed: Feed<WatchResponse>,
    revision: u64,
    starting: Arc<Semaphore>,
    connecting: Arc<Semaphore>,
    commands: Arc<Semaphore>,
    /// Containers that are being started, each with what stops that.
    launching: BTreeMap<String, CancellationToken>,
    /// Containers that are being cleaned up.
    cleaning: usize,
}

impl Default for Outlet {
    fn default() -> Self {
        let starting = Arc::new(Semaphore::new(STARTING));
        Self {
            link: None,
            waiting: VecDeque::new(),
            executors: Streams::default(),
            waiting_for: Waiting::default(),
            feed: Feed::new(FEED),
            revision: 0,
            starting,
            connecting: Arc::new(Semaphore::new(CONNECTING)),
            commands: Arc::new(Semaphore::new(COMMANDS)),
            launching: BTreeMap::new(),
            cleaning: 0,
        }
    }
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
            Event::Cleaned => {
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

    fn apply(&mut self, effects: Vec<Effect>) {
        let rewritten = (self.unwritten.is_some() || self.checkpoint.is_large()) && self.rewrite();
        let mut records: Vec<Record> = Vec::new();
        let mut refused = Vec::new();
        for effect in effects {
            match effect {
                // The state that was written has it already.
                Effect::Record(_) if rewritten => {}
                Effect::Record(record) => records.push(*record),
                effect => {
                    self.write(&mut records);
                    match (effect, &self.unwritten) {
                        (Effect::Launch(spec), Some(error)) => refused.push(cannot_record(*spec, error)),
                        (effect, _) => self.carry_out(effect),
                    }
                }
            }
        }
        self.write(&mut records);
        // After the effects that came with the launch.
        for input in refused {
            self.input(input);
        }
    }

    /// Records are safe from the end of this process when this returns, unless it leaves a reason in `unwritten`.
    fn write(&mut self, records: &mut Vec<Record>) {
        let records = std::mem::take(records);
        // After a gap, records would mean something else.
        if records.is_empty() || self.unwritten.is_some() {
            return;
        }
        let lasting = records.iter().any(|record| matches!(record.change, Some(Change::Operation(_))));
        let written = self.checkpoint.append(&records);
        let written = if lasting { written.and_then(|()| self.checkpoint.sync()) } else { written };
        self.unwritten = complain(written);
    }

    /// Whether the whole state is in the checkpoint.
    fn rewrite(&mut self) -> bool {
        let failed = complain(self.checkpoint.rewrite(&self.core.records()));
        let rewritten = failed.is_none();
        // A checkpoint that was only to become shorter is still whole.
        if rewritten || self.unwritten.is_some() {
            self.unwritten = failed;
        }
        rewritten
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Record(_) => {}
            Effect::Launch(spec) => self.launch(*spec),
            Effect::Probe { which, probe } => self.probe(which, *probe),
            Effect::Abandon { container_id } => {
                self.outlet.launching.get(&container_id).inspect(|launch| launch.cancel());
            }
            Effect::Signal { container_id, signal } => {
                let containerizer = Arc::clone(&self.containerizer);
                self.env.tasks.spawn("signal", async move {
                    if let Err(error) = containerizer.signal(&container_id, signal).await {
                        warn!(container_id, signal, %error, "signal failed");
                    }
                });
            }
            Effect::Cleanup { container_id } => {
                let (containerizer, events) = (Arc::clone(&self.containerizer), self.events.clone());
                self.outlet.cleaning += 1;
                self.env.tasks.spawn("cleanup", async move {
                    if let Err(error) = containerizer.cleanup(&container_id).await {
                        warn!(container_id, %error, "clean-up failed");
                    }
                    let _ = events.send(Event::Cleaned).await;
                });
            }
            Effect::Send(update) => {
                // Without a link it is sent again when there is one.
                if self.outlet.link.is_some() {
                    let body = Some(agent_message::Body::Update(*update));
                    self.outlet.waiting.push_back(AgentMessage { body });
                }
            }
            Effect::SendOperation(update) => {
                let body = Some(agent_message::Body::OperationUpdate(*update));
                self.outlet.waiting.push_back(AgentMessage { body });
            }
            Effect::SendMessage(message) => {
                let body = Some(agent_message::Body::FrameworkMessage(*message));
                self.best_effort(AgentMessage { body });
            }
            Effect::SendExecutorEnded(ended) => {
                if self.outlet.link.is_some() {
                    let body = Some(agent_message::Body::ExecutorEnded(*ended));
                    self.outlet.waiting.push_back(AgentMessage { body });
                }
            }
            Effect::ToExecutor { stream, event } => self.outlet.executors.send(stream, *event),
            Effect::CloseExecutor { stream } => self.outlet.executors.forget(stream),
            Effect::ContainerEnded { path, exit } => self.outlet.waiting_for.ended(&path, exit),
            Effect::Resize { container_id, limits } => {
                let containerizer = Arc::clone(&self.containerizer);
                self.env.tasks.spawn("resize", async move {
                    if let Err(error) = containerizer.resize(&container_id, &limits).await {
                        warn!(container_id, %error, "container keeps its limits");
                    }
                });
            }
            Effect::MakeVolume(path) => {
                if let Err(error) = std::fs::create_dir_all(&path) {
                    error!(path = %path.display(), %error, "volume cannot be made: tasks that use it will fail");
                }
            }
            Effect::RemoveVolume { path, is_mount } => self.remove_volume(path, is_mount),
            Effect::Changed(key) => self.publish(&key, false),
            Effect::Removed(key) => self.publish(&key, true),
            Effect::Reannounce(info) => {
                self.identity.info = (*info).clone();
                self.announced.send_replace(*info);
                // Both are opened again, and tell what is new.
                self.outlet.link = None;
                self.renew.notify_one();
            }
            Effect::Collect(directory) => self.past.add(directory),
            Effect::Detach(directory) => self.sandboxes.detach(&directory),
            Effect::LinkRefused(reason) => {
                warn!(reason, "the allocator refuses the link");
                // The stream ends with its sender; the link is tried again, with growing delays. Whatever the reason,
                // the registry knows better: it takes the agent back or refuses it for good.
                self.outlet.link = None;
                self.renew.notify_one();
            }
        }
    }

    /// Moved away at once, so that the place is free; deleted in the background.
    fn remove_volume(&self, path: PathBuf, is_mount: bool) {
        let mut held = None;
        let doomed = match is_mount {
            true => std::fs::read_dir(&path).into_iter().flatten().flatten().map(|e| e.path()).collect(),
            false => {
                let name = format!(".{}.destroyed", self.env.rng.uuid());
                match set_aside(&path, &name, self.sandboxes.root()) {
                    Ok((parent, aside)) => {
                        held = parent;
                        vec![aside]
                    }
                    Err(error) => {
                        warn!(path = %path.display(), %error, "volume cannot be removed");
                        return;
                    }
                }
            }
        };
        self.env.tasks.spawn("remove-volume", async move {
            let _held = held;
            for path in doomed {
                let removed = match path.is_dir() && !path.is_symlink() {
                    true => tokio::fs::remove_dir_all(&path).await,
                    false => tokio::fs::remove_file(&path).await,
                };
                if let Err(error) = removed {
                    warn!(path = %path.display(), %error, "content of a destroyed volume is left behind");
                }
            }
        });
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

    fn probe(&self, which: Which, probe: Probe) {
        let room = Arc::clone(match probe.kind {
            ProbeKind::Command(_) => &self.outlet.commands,
            ProbeKind::Http { .. } | ProbeKind::Tcp { .. } => &self.outlet.connecting,
        });
        let (containerizer, events) = (Arc::clone(&self.containerizer), self.events.clone());
        self.env.tasks.spawn("probe", async move {
            // One that may take for ever must not keep others from their turn; there is one for each check at most.
            let permit = if probe.timeout.is_some() { room.acquire().await.ok() } else { None };
            let outcome = containerizer.probe(&probe).await;
            drop(permit);
            let probed = Input::Probed { container_id: probe.container_id, which, outcome };
            let _ = events.send(Event::Input(probed)).await;
        });
    }

    fn launch(&mut self, spec: ContainerSpec) {
        // What lies below another sandbox is shown with it.
        match &spec.within {
            Some(within) => self.sandboxes.attach(&within.sandbox),
            None if spec.container_id.contains('.') => {}
            None => self.sandboxes.attach(&spec.sandbox),
        }
        let span = tracing::info_span!("launch_task", container_id = spec.container_id);
        trace::set_parent(&span, spec.environment.get("TRACEPARENT").map_or("", String::as_str));
        let abandoned = CancellationToken::new();
        self.outlet.launching.insert(spec.container_id.clone(), abandoned.clone());
        let starting = Arc::clone(&self.outlet.starting);
        let (containerizer, events) = (Arc::clone(&self.containerizer), self.events.clone());
        let launch = async move {
            let launched = start(&containerizer, &spec, (&starting, &abandoned)).await;
            let container_id = spec.container_id;
            let input = match launched {
                Ok(pid) => {
                    info!(container_id, pid, "container started");
                    Input::Launched { container_id, pid }
                }
                Err(error) => {
                    warn!(container_id, %error, "container cannot be started");
                    Input::LaunchFailed { container_id, reason: error.reason() }
                }
            };
            // Nobody is there any more when the agent ends.
            let _ = events.send(Event::Input(input)).await;
        };
        self.env.tasks.spawn("launch", launch.instrument(span));
    }

    /// All sandboxes that the state knows.
    pub(crate) fn attach_all(sandboxes: &Sandboxes, directories: Vec<PathBuf>) {
        directories.iter().for_each(|directory| sandboxes.attach(directory));
    }
}

/// Makes, fills and starts a container; its process id.
async fn start(
    containerizer: &SharedContainerizer,
    spec: &ContainerSpec,
    (starting, abandoned): (&Semaphore, &CancellationToken),
) -> Result<u32, ContainerizerError> {
    let killed = || ContainerizerError::container(&spec.container_id, "killed before it started");
    // The semaphore is never closed.
    let permit = starting.acquire().await;
    containerizer.prepare(spec).await?;
    if spec.uris.is_empty() {
        return containerizer.launch(spec).await;
    }
    // A slow server must not keep others from starting.
    drop(permit);
    tokio::select! {
        biased;
        () = abandoned.cancelled() => return Err(killed()),
        fetched = containerizer.fetch(spec) => fetched?,
    }
    let _permit = starting.acquire().await;
    if abandoned.is_cancelled() { Err(killed()) } else { containerizer.launch(spec).await }
}

/// A task that a restart of the agent would know nothing of is not started.
fn cannot_record(spec: ContainerSpec, error: &str) -> Input {
    let reason = format!("the checkpoint cannot be written: {error}");
    Input::LaunchFailed { container_id: spec.container_id, reason }
}

/// The error's text.
fn complain(written: std::io::Result<()>) -> Option<String> {
    let error = written.err()?;
    error!(%error, "checkpoint cannot be written: a restart of the agent would forget what happens now");
    Some(error.to_string())
}

/// Gives a directory another name beside. A task's user may own what lies above it in the work directory, so its
/// parent is held open and no link is followed; an operator's own disk may lie behind one.
fn set_aside(path: &Path, name: &str, work_dir: &Path) -> std::io::Result<(Option<Beneath>, PathBuf)> {
    let (Some(parent), Some(old)) = (path.parent(), path.file_name()) else {
        return Err(std::io::ErrorKind::InvalidInput.into());
    };
    if !path.starts_with(work_dir) {
        let aside = path.with_file_name(name);
        std::fs::rename(path, &aside)?;
        return Ok((None, aside));
    }
    let parent = Beneath::open(parent, None)?;
    parent.rename(Path::new(old), Path::new(name))?;
    let aside = parent.path().join(name);
    Ok((Some(parent), aside))
}

#[cfg(test)]
mod tests;
