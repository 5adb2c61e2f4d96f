//! The one task that owns the core: takes requests in, sends effects out.

mod handle;
mod streams;

use std::{collections::BTreeMap, time::Duration};

use meshos_mesh::{Env, Feed, trace};
use meshos_proto::{
    meshos::allocator::v1::{AllocatorMessage, Delta, SubscribeResponse, WatchResponse, watch_response},
    mesos::v1::TaskState,
};
use meshos_types::FrameworkId;
use tokio::{
    sync::{mpsc, oneshot},
    time::sleep,
};
use tonic::Status;
use tracing::{debug, error, info_span, warn};

pub(crate) use handle::{OwnerHandle, Request, not_leading};
pub(crate) use streams::{Guarded, LinkEnd, StreamEnd};

use super::registry::RecordWriter;
use crate::{
    core::{CallError, Core, Effect, Input, LinkId, StreamId},
    metrics::AllocatorMetrics,
};

/// Requests taken together before offers are made and effects go out.
const BATCH: usize = 256;
/// Changes that a reader of Watch may be behind.
const FEED: usize = 4096;
/// Longest sleep without a timer.
const IDLE: Duration = Duration::from_secs(60);

/// Where a call's answer goes, and what it says.
type Answer = (oneshot::Sender<Result<(), CallError>>, Result<(), CallError>);

/// Owns the core and the sending sides of all streams.
#[derive(Debug)]
pub(crate) struct Owner {
    env: Env,
    core: Core,
    epoch: u64,
    revision: u64,
    writer: RecordWriter,
    metrics: AllocatorMetrics,
    feed: Feed<WatchResponse>,
    streams: BTreeMap<StreamId, mpsc::Sender<Result<SubscribeResponse, Status>>>,
    links: BTreeMap<LinkId, mpsc::Sender<Result<AllocatorMessage, Status>>>,
    /// Answers that wait for the end of the turn.
    answers: Vec<Answer>,
    /// Told when the removal of their framework is durable.
    removals: BTreeMap<FrameworkId, Vec<oneshot::Sender<()>>>,
    /// Told when the role settings of this turn are durable.
    role_waiters: Vec<oneshot::Sender<()>>,
    readers: Vec<oneshot::Sender<meshos_mesh::FeedStream<WatchResponse>>>,
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
            feed: Feed::new(FEED),
            streams: BTreeMap::new(),
            links: BTreeMap::new(),
            answers: Vec::new(),
            removals: BTreeMap::new(),
            role_waiters: Vec::new(),
            readers: Vec::new(),
        }
    }

    /// Runs until nobody can send requests any more.
    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        self.settle();
        loop {
            tokio::select! {
                biased;
                request = requests.recv() => match request {
                    Some(request) => self.take(request),
                    None => return,
                },
                () = sleep(self.until_due()) => {}
            }
            for _ in 1..BATCH {
                match requests.try_recv() {
                    Ok(request) => self.take(request),
                    Err(_) => break,
                }
            }
            if self.until_due().is_zero() {
                self.input(Input::Tick);
            }
            self.settle();
        }
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
            Request::Link { link, report, commands } => {
                self.links.insert(link, commands);
                self.input(Input::AgentLinked { link, report });
            }
            Request::Unlink { link } => {
                self.links.remove(&link);
                self.input(Input::AgentUnlinked { link });
            }
            Request::StreamClosed { stream } => {
                self.streams.remove(&stream);
                self.input(Input::StreamClosed { stream });
            }
            Request::Watch { reply } => self.readers.push(reply),
            Request::Metrics { reply } => {
                // Whoever asked may have gone.
                let _ = reply.send(self.core.metrics());
            }
            Request::Explain { subject, reply } => drop(reply.send(self.core.explain(&subject))),
        }
    }

    fn handle(&mut self, input: Input) -> Result<(), CallError> {
        self.core.handle(input, self.env.clock.unix_ms())
    }

    fn input(&mut self, input: Input) {
        if let Err(fault) = self.handle(input) {
            error!(%fault, "an input that is no call was refused");
        }
    }

    /// Ends a turn: effects, changes and answers go out, in this order. A stream that was cut off meanwhile is an
    /// input of its own, so it may take more than one round.
    fn settle(&mut self) {
        loop {
            let outcome = self.core.settle(self.env.clock.unix_ms());
            let mut cut = Vec::new();
            for effect in outcome.effects {
                cut.extend(self.apply(effect));
            }
            if !outcome.changes.is_empty() {
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
        for reader in std::mem::take(&mut self.readers) {
            let snapshot = self.watch_response(watch_response::Body::Snapshot(self.core.snapshot()));
            let _ = reader.send(self.feed.subscribe(snapshot));
        }
        for (reply, result) in std::mem::take(&mut self.answers) {
            let _ = reply.send(result);
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
                let sender = self.streams.get(&stream)?;
                let span = (!traceparent.is_empty()).then(|| {
                    let span = info_span!("forward status update");
                    trace::set_parent(&span, &traceparent);
                    span
                });
                let _entered = span.as_ref().map(tracing::Span::enter);
                if sender.try_send(Ok(SubscribeResponse { events })).is_err() {
                    warn!(stream_id = stream, "framework does not read its events, cutting it off");
                    self.streams.remove(&stream);
                    return Some(Input::StreamClosed { stream });
                }
            }
            Effect::CloseStream { stream } => {
                self.streams.remove(&stream);
            }
            Effect::Command { link, command } => {
                let sender = self.links.get(&link)?;
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
