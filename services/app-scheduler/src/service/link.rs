//! The link to the leading allocator: one event stream, and calls in order.

mod caller;

use std::time::Duration;

use meshos_mesh::{Backoff, Env, LeaderInfo, MAX_MESSAGE_BYTES, connect, follow_leader};
use meshos_proto::{
    meshos::{
        allocator::v1::{SubscribeRequest, SubscribeResponse, scheduler_client::SchedulerClient},
        apps::v1::FrameworkMessage,
    },
    mesos::v1::scheduler::{Call, Event, event},
};
use meshos_store::SharedStore;
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use tracing::{Span, error, info, warn};

use self::caller::Caller;
use crate::{config::MarathonArgs, core::Input, framework};

/// Calls that wait; more means that the allocator does not keep up.
const CALLS: usize = 65_536;
/// The answer to SUBSCRIBE may take this long.
const DEADLINE: Duration = Duration::from_secs(10);
/// Metadata that names the stream.
const STREAM_ID: &str = "mesos-stream-id";

/// A call, and the spans that it belongs to; it is made inside the first.
#[derive(Debug)]
pub(super) struct Sent {
    pub call: Call,
    pub spans: Vec<Span>,
}

/// Where calls of one stream go.
#[derive(Debug)]
pub(super) struct Calls {
    ordered: mpsc::Sender<Sent>,
    acknowledgements: mpsc::Sender<Sent>,
    broken: CancellationToken,
}

impl Calls {
    /// Queues a call. False, and the stream is given up, when too many wait.
    pub(super) fn send(&self, sent: Sent, acknowledge: bool) -> bool {
        let queue = if acknowledge { &self.acknowledgements } else { &self.ordered };
        match queue.try_send(sent) {
            // A closed queue belongs to a stream whose end is about to be reported.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.broken.cancel();
                false
            }
        }
    }
}

/// What the link reports.
#[derive(Debug)]
pub(super) enum FromLink {
    Connected(Calls),
    Inputs(Vec<Input>),
    Broken,
}

/// Keeps the framework subscribed to whoever leads the allocator.
pub(super) fn spawn(
    env: &Env,
    store: &SharedStore,
    args: MarathonArgs,
    framework_id: watch::Receiver<Option<String>>,
    events: mpsc::Sender<FromLink>,
) {
    let leader = follow_leader(env, store, "allocator");
    let link = Link { env: env.clone(), args, framework_id, events, leader, heard: false };
    env.tasks.spawn("app-scheduler-link", link.run());
}

struct Link {
    env: Env,
    args: MarathonArgs,
    framework_id: watch::Receiver<Option<String>>,
    events: mpsc::Sender<FromLink>,
    leader: watch::Receiver<Option<LeaderInfo>>,
    /// Whether the allocator said more than that it refuses us.
    heard: bool,
}

impl Link {
    async fn run(mut self) {
        let mut backoff = Backoff::new(&self.env.rng, Duration::from_millis(20), Duration::from_secs(2));
        loop {
            let leader = match self.leader.wait_for(Option::is_some).await {
                Ok(leader) => leader.clone(),
                Err(_) => return,
            };
            let Some(leader) = leader else { continue };
            let ended = self.subscribed_to(&leader).await;
            if self.events.send(FromLink::Broken).await.is_err() {
                return;
            }
            if let Err(status) = ended {
                warn!(allocator = leader.instance, code = ?status.code(), message = status.message(),
                    "subscription failed, trying again");
            }
            if std::mem::take(&mut self.heard) {
                backoff.reset();
            }
            backoff.wait().await;
        }
    }

    /// One subscription, until it ends or another allocator leads.
    async fn subscribed_to(&mut self, leader: &LeaderInfo) -> Result<(), Status> {
        let channel = connect(&self.env, &leader.address);
        let mut client = SchedulerClient::new(channel.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let id = self.framework_id.borrow().clone();
        let call = Some(framework::subscribe(&self.args, id.as_deref()));
        let response = timeout(DEADLINE, client.subscribe(SubscribeRequest { call })).await;
        let response = response.map_err(|_| Status::deadline_exceeded("no answer to SUBSCRIBE"))??;
        let stream_id = response.metadata().get(STREAM_ID).and_then(|value| value.to_str().ok());
        let stream_id = stream_id.map(str::to_owned).unwrap_or_default();
        info!(allocator = leader.instance, epoch = leader.epoch, stream_id, "event stream opened");
        let broken = CancellationToken::new();
        // Everything of this stream ends with it.
        let scope = self.env.child();
        let caller = Caller {
            calls: meshos_mesh::Calls::open(&scope, channel),
            stream_id,
            broken,
            events: self.events.clone(),
            secrets_dir: self.args.secrets_dir.clone(),
        };
        let calls = start_callers(&scope, caller);
        let stream = response.into_inner();
        let result = self.read(stream, calls, leader.epoch).await;
        scope.tasks.stop();
        result
    }

    async fn read(
        &mut self,
        mut stream: Streaming<SubscribeResponse>,
        calls: Calls,
        epoch: u64,
    ) -> Result<(), Status> {
        let broken = calls.broken.clone();
        let gone = Status::cancelled("the app-scheduler stops");
        self.events.send(FromLink::Connected(calls)).await.map_err(|_| gone.clone())?;
        let mut followed = self.leader.clone();
        let replaced = followed.wait_for(|now| now.as_ref().is_some_and(|now| now.epoch != epoch));
        tokio::pin!(replaced);
        loop {
            let message = tokio::select! {
                biased;
                () = broken.cancelled() => return Err(Status::unavailable("calls do not get through")),
                _ = &mut replaced => return Ok(()),
                message = stream.message() => message?,
            };
            let Some(message) = message else { return Err(Status::unavailable("the event stream ended")) };
            let (inputs, refused) = inputs(message.events);
            if !inputs.is_empty() {
                self.events.send(FromLink::Inputs(inputs)).await.map_err(|_| gone.clone())?;
            }
            if let Some(reason) = refused {
                return Err(Status::failed_precondition(reason));
            }
            self.heard = true;
        }
    }
}

/// The events in order, offers that came together as one; and why the stream ends, if it does.
fn inputs(events: Vec<Event>) -> (Vec<Input>, Option<String>) {
    let mut inputs = Vec::new();
    for event in events {
        match event.r#type() {
            event::Type::Subscribed => inputs.extend(event.subscribed.into_iter().flat_map(subscribed)),
            event::Type::Offers => {
                let offers = event.offers.unwrap_or_default().offers;
                match inputs.last_mut() {
                    Some(Input::Offers(earlier)) => earlier.extend(offers),
                    _ => inputs.push(Input::Offers(offers)),
                }
            }
            event::Type::Update => {
                inputs.extend(event.update.map(|event| Input::Status(Box::new(event.status))))
            }
            event::Type::Message => inputs.extend(event.message.map(|message| {
                Input::Message(Box::new(FrameworkMessage {
                    agent_id: message.agent_id.value,
                    executor_id: message.executor_id.value,
                    message: message.data,
                }))
            })),
            event::Type::Error => {
                let message = event.error.map(|event| event.message).unwrap_or_default();
                error!(message, "the allocator ended the subscription");
                if message.contains("Framework has been removed") {
                    inputs.push(Input::FrameworkRemoved);
                }
                return (inputs, Some(message));
            }
            // A rescinded offer is none that is held: offers are used or declined when they come.
            _ => {}
        }
    }
    (inputs, None)
}

fn subscribed(event: event::Subscribed) -> Vec<Input> {
    let domain = event.master_info.and_then(|info| info.domain?.fault_domain);
    let mut inputs = vec![Input::Subscribed { framework_id: event.framework_id.value }];
    inputs.extend(domain.map(|domain| Input::HomeRegion(domain.region.name)));
    inputs
}

fn start_callers(scope: &Env, caller: Caller) -> Calls {
    let (ordered, ordered_receiver) = mpsc::channel(CALLS);
    let (acknowledgements, acknowledgement_receiver) = mpsc::channel(CALLS);
    // Beside the others, which may have to wait for secrets.
    scope.tasks.spawn("app-scheduler-acknowledgements", caller.clone().run(acknowledgement_receiver));
    let broken = caller.broken.clone();
    scope.tasks.spawn("app-scheduler-calls", caller.run(ordered_receiver));
    Calls { ordered, acknowledgements, broken }
}
