//! The loop of a leader: one task owns the core; records are written before anything that depends on them.

mod effects;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use meshos_mesh::{Env, Feed, Leadership, SharedTransport};
use meshos_proto::meshos::apps::v1::{Delta, WatchResponse, watch_response::Body};
use meshos_store::{Error as StoreError, Listing, Revision};
use tokio::sync::{Semaphore, mpsc, watch};

use super::{
    Replica,
    farewells::Farewells,
    link::{self, Calls, FromLink},
    spans,
    writer::{self, Committed, Unit},
};
use crate::{
    core::{After, Core, Input, Output, Settings},
    grpc::{Answer, Command},
    metrics::Metrics,
    store::Records,
    view::{self, View},
};

/// Changes that a reader may be behind.
const FEED: usize = 4096;
/// Batches of events from the allocator that wait for the loop.
const EVENTS: usize = 64;

/// Results of health checks that wait for the loop.
const PROBED: usize = 1024;

/// Events that are taken in as one change.
const INPUTS_AT_ONCE: usize = 256;
/// Commands that are taken in after a batch of events.
const COMMANDS_PER_EVENT: usize = 16;

/// Records that may wait to be stored before more events are taken in: what a user asks for waits behind them.
const MOST_UNSTORED: usize = 512;

/// Why a leader stopped.
pub(super) enum End {
    Lost,
    /// A write failed; whether it happened is not known.
    Failed(StoreError),
    /// A task that it depends on ended, which only a panic makes it do.
    Broken(&'static str),
    /// Somebody asked for another leader.
    Abdicated,
}

/// What waits for its records to be stored.
struct Pending {
    sequence: u64,
    records: usize,
    delta: Delta,
    after: Vec<After>,
}

pub(super) struct Leading {
    env: Env,
    core: Core,
    view: View,
    feed: Feed<WatchResponse>,
    revision: Revision,
    /// The last unit that was handed to the writer.
    sequence: u64,
    pending: VecDeque<Pending>,
    /// Records of what is pending.
    unstored: usize,
    units: mpsc::UnboundedSender<Unit>,
    written: mpsc::UnboundedReceiver<Result<Committed, StoreError>>,
    events: mpsc::Receiver<FromLink>,
    framework_id: watch::Sender<Option<String>>,
    calls: Option<Calls>,
    /// Callers by token.
    answers: std::collections::BTreeMap<u64, Answer>,
    next_token: u64,
    deployments: spans::Deployments,
    metrics: Metrics,
    abdicated: bool,
    probed: (mpsc::Sender<Input>, mpsc::Receiver<Input>),
    /// Room for health checks that are made at once.
    checks: Arc<Semaphore>,
    /// Where tasks are reached.
    network: SharedTransport,
    farewells: Farewells,
}

impl Leading {
    pub(super) fn new(replica: &Replica, scope: &Env, leadership: &Leadership, listing: Listing) -> Self {
        let records = Records::from_items(&listing.items);
        let leader = format!("{} {}", replica.config.instance, replica.address);
        let view = View::new(&records, leader).with_settings(replica.config.marathon.shown());
        let (framework_id, id_receiver) = watch::channel(records.framework_id.clone());
        let settings = Settings::new(replica.config.marathon.clone());
        let core = Core::restore(settings, scope.rng.clone(), records, scope.clock.unix_ms());
        let (units, unit_receiver) = mpsc::unbounded_channel();
        let (done, written) = mpsc::unbounded_channel();
        let writer = writer::run(replica.store.clone(), leadership.fence.clone(), unit_receiver, done);
        scope.tasks.spawn("app-scheduler-writer", writer);
        let (event_sender, events) = mpsc::channel(EVENTS);
        let args = replica.config.marathon.clone();
        link::spawn(scope, &replica.store, args, id_receiver, event_sender);
        Self {
            env: scope.clone(),
            core,
            view,
            feed: Feed::new(FEED),
            revision: listing.revision,
            sequence: 0,
            pending: VecDeque::new(),
            unstored: 0,
            units,
            written,
            events,
            framework_id,
            calls: None,
            answers: std::collections::BTreeMap::new(),
            next_token: 0,
            deployments: spans::Deployments::default(),
            metrics: replica.metrics.clone(),
            abdicated: false,
            probed: mpsc::channel(PROBED),
            checks: Arc::new(Semaphore::new(replica.config.marathon.max_concurrent_health_checks.max(1))),
            network: replica.config.network.clone(),
            farewells: Farewells::new(
                replica.config.marathon.lb_drain_timeout_ms,
                replica.env.clock.unix_ms(),
            ),
        }
    }

    pub(super) async fn run(mut self, replica: &mut Replica) -> End {
        self.handle(Input::Tick);
        loop {
            let deadlines = [self.core.next_deadline(), self.farewells.next()];
            let deadline = deadlines.into_iter().flatten().min();
            let tick = tick(&self.env, deadline);
            tokio::select! {
                biased;
                report = self.written.recv() => match report {
                    Some(Ok(committed)) => self.committed(&committed),
                    Some(Err(StoreError::Fenced { .. })) => return End::Lost,
                    Some(Err(error)) => return End::Failed(error),
                    None => return End::Broken("the writer ended without a report"),
                },
                event = self.events.recv(), if self.unstored < MOST_UNSTORED => {
                    let Some(event) = event else { return End::Broken("the link to the allocator ended") };
                    self.link_reported(event, replica);
                }
                command = replica.commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => return End::Lost,
                },
                Some(result) = self.probed.1.recv() => self.handle(result),
                () = tick => {
                    let due = self.farewells.due(self.env.clock.unix_ms());
                    self.send_all(due);
                    self.handle(Input::Tick);
                }
            }
            if self.abdicated {
                return End::Abdicated;
            }
        }
    }

    /// Many events must not keep users waiting.
    fn some_commands(&mut self, replica: &mut Replica) {
        for _ in 0..COMMANDS_PER_EVENT {
            let Ok(command) = replica.commands.try_recv() else { return };
            self.command(command);
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Watch(answer) => {
                let revision = self.revision;
                let part = move |part| WatchResponse { revision, body: Some(Body::Snapshot(part)) };
                // A caller that has gone needs no answer.
                let _ = answer.send(Ok(self.feed.subscribe_parts(self.view.parts().map(part))));
            }
            Command::Request { request, traceparent, answer } => {
                let token = self.next_token;
                self.next_token += 1;
                self.answers.insert(token, answer);
                self.handle(Input::Request { token, request, traceparent });
            }
            Command::Abdicate(answer) => {
                self.abdicated = true;
                // A caller that has gone needs no answer.
                let _ = answer.send(Ok(()));
            }
            Command::ControllerJoined(id, answer) => {
                self.farewells.joined(id);
                // A controller that has gone meanwhile says so itself.
                let _ = answer.send(Ok(()));
            }
            Command::ControllerConfirmed(id, instances) => {
                let free = self.farewells.confirmed(id, &instances);
                self.send_all(free);
            }
            Command::ControllerLeft(id) => {
                let free = self.farewells.left(id);
                self.send_all(free);
            }
        }
    }

    fn link_reported(&mut self, event: FromLink, replica: &mut Replica) {
        match event {
            FromLink::Connected(calls) => self.calls = Some(calls),
            FromLink::Broken => {
                self.calls = None;
                self.handle(Input::Disconnected);
            }
            FromLink::Inputs(inputs) => {
                for input in &inputs {
                    if let Input::Offers(offers) = input {
                        self.metrics.offers(offers.len());
                    }
                }
                let mut inputs = inputs.into_iter().peekable();
                while inputs.peek().is_some() {
                    let some = inputs.by_ref().take(INPUTS_AT_ONCE);
                    let output = self.core.handle_all(some, self.env.clock.unix_ms());
                    self.carry_out(output);
                    self.some_commands(replica);
                }
            }
        }
    }

    fn handle(&mut self, input: Input) {
        let output = self.core.handle(input, self.env.clock.unix_ms());
        self.carry_out(output);
    }

    fn carry_out(&mut self, output: Output) {
        output.came_up.iter().for_each(spans::task_running);
        self.metrics.deployments_started(output.deployments_started);
        for call in output.now {
            self.send(call, Vec::new());
        }
        for probe in output.probes {
            self.probe(probe);
        }
        for probe in output.readiness_probes {
            self.readiness_probe(probe);
        }
        let records = output.ops.len();
        let writes = records > 0;
        self.unstored += records;
        if writes {
            self.sequence += 1;
            // The writer ends only after it has reported why; that report ends this loop.
            let _ = self.units.send(Unit { sequence: self.sequence, ops: output.ops });
        } else if output.after.is_empty() && output.delta == Delta::default() {
            return;
        }
        self.pending.push_back(Pending {
            sequence: self.sequence,
            records,
            delta: output.delta,
            after: output.after,
        });
        if !writes && self.pending.len() == 1 {
            // Nothing is being written: it holds at once.
            self.committed(&Committed { sequence: self.sequence, revision: self.revision });
        }
    }

    /// Publishes what is stored, as one change, then does what waited for it.
    fn committed(&mut self, committed: &Committed) {
        let before = self.revision;
        self.revision = self.revision.max(committed.revision);
        let mut delta = Delta::default();
        let mut after = Vec::new();
        while let Some(pending) = self.pop_stored(committed.sequence) {
            self.unstored -= pending.records;
            view::merge(&mut delta, pending.delta);
            after.extend(pending.after);
        }
        let now = self.env.clock.unix_ms();
        delta.leaving_instances.iter().for_each(|id| self.farewells.told(id, now));
        if let Some(first) = view::last_sights(&mut delta) {
            // Under the older revision: the new one is reached only with the whole change.
            self.publish(first, before);
        }
        if delta != Delta::default() {
            self.publish(delta, self.revision);
        }
        for one in after {
            self.perform(one);
        }
    }

    fn pop_stored(&mut self, sequence: u64) -> Option<Pending> {
        if self.pending.front()?.sequence > sequence {
            return None;
        }
        self.pending.pop_front()
    }

    fn publish(&mut self, delta: Delta, revision: Revision) {
        self.view.apply(&delta);
        self.deployments.apply(&delta);
        self.metrics.state(&self.view);
        if let Some(id) = &delta.framework_id {
            self.framework_id.send_replace((!id.is_empty()).then(|| id.clone()));
        }
        self.feed.publish(WatchResponse { revision, body: Some(Body::Delta(delta)) });
    }
}

async fn tick(env: &Env, deadline: Option<u64>) {
    match deadline {
        Some(at) => {
            let left = at.saturating_sub(env.clock.unix_ms()).max(1);
            tokio::time::sleep(Duration::from_millis(left)).await;
        }
        None => std::future::pending().await,
    }
}
