//! The one task that owns the core: takes requests in, sends effects out.

mod handle;
mod outgoing;
mod readers;
mod streams;

use std::{collections::BTreeMap, time::Duration};

use meshos_mesh::{Env, Feed, trace};
use meshos_proto::{
    meshos::allocator::v1::{AllocatorMessage, Delta, SubscribeResponse, WatchResponse, watch_response},
    mesos::v1::{TaskState, scheduler::call},
};
use meshos_types::FrameworkId;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};
use tracing::{debug, error, info_span, warn};

pub(crate) use handle::{Arrivals, CallAnswer, Ended, OwnerHandle, Point, QueuedCall, Request, not_leading};
pub(crate) use streams::{Guarded, Outbox};

use self::{outgoing::Outgoing, readers::Readers};
use super::registry::RecordWriter;
use crate::{
    core::{CallError, Core, Effect, Input, LinkId, StreamId},
    metrics::AllocatorMetrics,
    timings::Timing,
};

/// Calls and other requests taken together before offers are made and effects go out.
const BATCH: usize = 256;
/// Agents' reports that are taken beside them: each may be long.
const LINKS: usize = 32;
/// Changes that a reader of Watch may be behind.
const FEED: usize = 4096;
/// Longest sleep without a timer.
const IDLE: Duration = Duration::from_secs(60);

/// Where a call's answer goes, and what it says.
type Answer = (oneshot::Sender<Result<Point, CallError>>, Result<(), CallError>);
/// The same of calls that came together.
type Answers = (oneshot::Sender<(Point, Vec<CallAnswer>)>, Vec<CallAnswer>);

/// Owns the core and the sending sides of all streams.
#[derive(Debug)]
pub(crate) struct Owner {
    env: Env,
    core: Core,
    epoch: u64,
    revision: u64,
    writer: RecordWriter,
    metrics: AllocatorMetrics,
    /// How long runs took, and how long they were waited for.
    runs: Timing,
    waits: Timing,
    /// Requests that were waiting when the turn began.
    waiting: usize,
    feed: Feed<WatchResponse>,
    streams: BTreeMap<StreamId, Outbox<SubscribeResponse>>,
    links: BTreeMap<LinkId, Outbox<AllocatorMessage>>,
    /// Events that wait for the end of the turn.
    outgoing: Outgoing,
    /// Answers that wait for the end of the turn.
    answers: Vec<Answer>,
    batches: Vec<Answers>,
    /// Told when the removal of their framework is durable.
    removals: BTreeMap<FrameworkId, Vec<oneshot::Sender<()>>>,
    /// Told when the role settings of this turn are durable.
    role_waiters: Vec<oneshot::Sender<()>>,
    readers: Readers,
}

impl Owner {
    pub(super) fn new(
        env: &Env,
        core: Core,
        epoch: u64,
        writer: RecordWriter,
        metrics: AllocatorMetrics,
    ) -> Self {
        Self {
            env: env.clone(),
            core,
            epoch,
            revision: 0,
            writer,
            metrics,
            runs: Timing::default(),
            waits: Timing::default(),
            waiting: 0,
            feed: Feed::new(FEED),
            streams: BTreeMap::new(),
            links: BTreeMap::new(),
            outgoing: Outgoing::default(),
            answers: Vec::new(),
            batches: Vec::new(),
            removals: BTreeMap::new(),
            role_waiters: Vec::new(),
            readers: Readers::new(Instant::now()),
        }
    }

    /// Runs until nobody can send requests any more.
    pub(super) async fn run(mut self, Arrivals { others: mut requests, mut links }: Arrivals) {
        self.settle(Instant::now());
        loop {
            let mut taken = 0;
            tokio::select! {
                biased;
                request = requests.recv() => match request {
                    Some(request) => {
                        taken += request.weight();
                        self.take(request);
                    }
                    None => return,
                },
                Some(link) = links.recv() => self.take(link),
                () = sleep(self.until_due().min(self.patience())) => {}
            }
            let began = Instant::now();
            self.waiting = requests.len();
            while taken < BATCH
                && let Ok(request) = requests.try_recv()
            {
                taken += request.weight();
                self.take(request);
            }
            for _ in 0..LINKS {
                let Ok(link) = links.try_recv() else { break };
                self.take(link);
            }
            if self.until_due().is_zero() {
                self.input(Input::Tick);
            }
            self.settle(began);
        }
    }

    /// How much longer readers wait for their picture.
    fn patience(&self) -> Duration {
        self.readers.patience(self.core.awaited_agents(), Instant::now()).unwrap_or(IDLE)
    }

    fn until_due(&self) -> Duration {
        let now = self.env.clock.unix_ms();
        self.core.next_deadline().map_or(IDLE, |due| Duration::from_millis(due.saturating_sub(now)).min(IDLE))
    }

    fn take(&mut self, request: Request) {
        match request {
            Request::Input(input) => self.input(input),
            Request::Call { input, removes, durable, reply } => {
                let result = self.handle(input);
                if let (Ok(()), Some(framework), Some(durable)) = (&result, removes, durable) {
                    self.removals.entry(framework).or_default().push(durable);
                }
                self.answers.push((reply, result));
            }
            Request::Calls { calls, cost: _, reply } => {
                let answers = calls.into_iter().map(|call| self.call(call)).collect();
                self.batches.push((reply, answers));
            }
            Request::SetRoles { input, durable, reply } => {
                let result = self.handle(input);
                if result.is_ok() {
                    self.role_waiters.push(durable);
                }
                self.answers.push((reply, result));
            }
            Request::Subscribe { stream, call, events, reply } => {
                self.streams.insert(stream.clone(), events);
                let result = self.handle(Input::Subscribe { stream: stream.clone(), call });
                if result.is_err() {
                    self.streams.remove(&stream);
                }
                self.answers.push((reply, result));
            }
            // One that was given up meanwhile has ended before it began.
            Request::Link { commands, .. } if commands.is_closed() => {}
            Request::Link { link, report, commands, taken } => {
                self.links.insert(link, commands);
                self.readers.agent_linked(Instant::now());
                self.input(Input::AgentLinked { link, report });
                let _ = taken.send(());
            }
            Request::Unlink { link } => {
                self.links.remove(&link);
                self.input(Input::AgentUnlinked { link });
            }
            Request::StreamClosed { stream } => {
                self.streams.remove(&stream);
                self.input(Input::StreamClosed { stream });
            }
            Request::Watch { reply } => self.readers.wait(reply),
            Request::Metrics { reply } => {
                // Whoever asked may have gone.
                let _ = reply.send(self.mesos_metrics());
            }
            Request::Explain { subject, reply } => drop(reply.send(self.core.explain(&subject))),
        }
    }

    fn handle(&mut self, input: Input) -> Result<(), CallError> {
        self.core.handle(input, self.env.clock.unix_ms())
    }

    fn call(&mut self, QueuedCall { number, stream, call, traceparent }: QueuedCall) -> CallAnswer {
        let removes = (call.r#type() == call::Type::Teardown)
            .then(|| call.framework_id.as_ref().map(FrameworkId::from))
            .flatten();
        let result = self.handle(Input::Call { stream, call, traceparent });
        let durable = removes.filter(|_| result.is_ok()).map(|framework| {
            let (told, durable) = oneshot::channel();
            self.removals.entry(framework).or_default().push(told);
            durable
        });
        CallAnswer { number, result, durable }
    }

    fn input(&mut self, input: Input) {
        if let Err(fault) = self.handle(input) {
            error!(%fault, "an input that is no call was refused");
        }
    }

    /// Ends a turn: effects, changes and answers go out, in this order. A stream that was cut off meanwhile is an
    /// input of its own, so it may take more than one round.
    fn settle(&mut self, turn_began: Instant) {
        loop {
            let (runs, begins) = (self.core.allocation_runs(), Instant::now());
            let watched = self.feed.has_readers();
            self.core.watch(watched);
            let outcome = self.core.settle(self.env.clock.unix_ms());
            if self.core.allocation_runs() > runs {
                self.runs.took(begins.elapsed());
                self.waits.took(begins.saturating_duration_since(turn_began));
            }
            let mut cut = Vec::new();
            for effect in outcome.effects {
                cut.extend(self.apply(effect));
            }
            for stream in self.outgoing.streams() {
                cut.extend(self.send_events(stream));
            }
            if !watched {
                // What changed is not known: an older picture must not pass for this one.
                self.revision += 1;
            } else if !outcome.changes.is_empty() {
                self.revision += 1;
                let body = watch_response::Body::Delta(Delta { changes: outcome.changes });
                self.feed.publish(self.watch_response(body));
            }
            if cut.is_empty() {
                break;
            }
            for input in cut {
                self.input(input);
            }
        }
        for reader in self.readers.take(self.core.awaited_agents(), Instant::now()) {
            let (epoch, revision) = (self.epoch, self.revision);
            let message = move |part| {
                let body = Some(watch_response::Body::Snapshot(part));
                WatchResponse { epoch, revision, body }
            };
            let _ = reader.send(self.feed.subscribe_parts(self.core.picture().parts().map(message)));
        }
        let point = Point { epoch: self.epoch, revision: self.revision };
        for (reply, result) in std::mem::take(&mut self.answers) {
            let _ = reply.send(result.map(|()| point));
        }
        for (reply, answers) in std::mem::take(&mut self.batches) {
            let _ = reply.send((point, answers));
        }
        // Sent after the records of this turn: the writer keeps their order. Without a record there was nothing to change.
        let waiters = std::mem::take(&mut self.role_waiters);
        if !waiters.is_empty() {
            self.writer.put_roles(Vec::new(), waiters);
        }
        // A removal without a record to write found the framework removed already.
        self.removals.clear();
        self.show_metrics();
    }

    fn watch_response(&self, body: watch_response::Body) -> WatchResponse {
        WatchResponse { epoch: self.epoch, revision: self.revision, body: Some(body) }
    }

    /// Carries out an effect; a reader that is too slow is cut off, which is an input.
    fn apply(&mut self, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Events { stream, events, traceparent } => {
                if !traceparent.is_empty() {
                    let span = info_span!("forward status update");
                    trace::set_parent(&span, &traceparent);
                    let _entered = span.enter();
                }
                self.outgoing.add(stream, events);
            }
            Effect::CloseStream { stream } => {
                // Cut off or closed, it ends.
                let _ = self.send_events(stream.clone());
                self.streams.remove(&stream);
            }
            Effect::Command { link, command } => {
                let sender = self.links.get_mut(&link)?;
                let message = AllocatorMessage { epoch: self.epoch, body: Some(*command) };
                if sender.try_send(Ok(message)).is_err() {
                    warn!(link, "agent does not read its commands, cutting it off");
                    self.links.remove(&link);
                    return Some(Input::AgentUnlinked { link });
                }
            }
            Effect::CloseLink { link } => {
                debug!(link, "link closed");
                self.links.remove(&link);
            }
            Effect::Persist(record) => {
                let id = record.info.as_ref().and_then(|info| info.id.as_ref()).map(FrameworkId::from);
                let waiters = id.filter(|_| record.removed).and_then(|id| self.removals.remove(&id));
                self.writer.put(*record, waiters.unwrap_or_default());
            }
            Effect::PersistRoles(roles) => self.writer.put_roles(roles, Vec::new()),
        }
        None
    }

    /// The core's, and what only the shell can tell.
    fn mesos_metrics(&self) -> BTreeMap<String, f64> {
        let mut metrics = self.core.metrics();
        self.runs.show("allocator/mesos/allocation_run", &mut metrics);
        self.waits.show("allocator/mesos/allocation_run_latency", &mut metrics);
        let waiting = u32::try_from(self.waiting).unwrap_or(u32::MAX);
        metrics.insert("master/event_queue_messages".to_owned(), f64::from(waiting));
        self.writer.show(&mut metrics);
        metrics
    }

    /// Hands over the events of one stream.
    fn send_events(&mut self, stream: StreamId) -> Option<Input> {
        let messages = self.outgoing.take(&stream);
        let sender = self.streams.get_mut(&stream)?;
        for events in messages {
            if sender.try_send(Ok(SubscribeResponse { events })).is_err() {
                warn!(stream_id = stream, "framework does not read its events, cutting it off");
                self.streams.remove(&stream);
                return Some(Input::StreamClosed { stream });
            }
        }
        None
    }

    fn show_metrics(&self) {
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.metrics.agents.set(count(self.core.linked_agents()));
        self.metrics.frameworks.set(count(self.core.connected_frameworks()));
        self.metrics.offers.set(count(self.core.outstanding_offers()));
        let running = self.core.live_tasks(TaskState::TaskRunning);
        self.metrics.running_tasks.set(i64::try_from(running).unwrap_or(i64::MAX));
        self.metrics.turns.inc();
    }
}
