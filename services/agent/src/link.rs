//! The link to the leading allocator: opened again when it breaks, and when another leads.

use std::{sync::Arc, task::Poll, time::Duration};

use futures::{StreamExt, stream};
use meshos_mesh::{Backoff, Env, MAX_MESSAGE_BYTES, connect};
use meshos_proto::meshos::{
    allocator::v1::{
        AgentMessage, agent_link_client::AgentLinkClient, agent_message::Body,
        allocator_message::Body as Command,
    },
    registry::v1::Leader,
};
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tracing::{info, warn};

use crate::runner::Event;

const OPENING: Duration = Duration::from_secs(5);
const FIRST_DELAY: Duration = Duration::from_millis(20);
const LAST_DELAY: Duration = Duration::from_secs(2);
/// Updates that may be on their way into the stream; more wait in the runner.
const AHEAD: usize = 256;

/// Keeps the link.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) env: Env,
    pub(crate) leader: watch::Receiver<Option<Leader>>,
    pub(crate) events: mpsc::Sender<Event>,
}

impl Link {
    /// Links to whoever leads until the agent ends.
    pub(crate) async fn run(mut self) {
        let mut backoff = Backoff::new(&self.env.rng, FIRST_DELAY, LAST_DELAY);
        let mut number = 0;
        loop {
            let leader = self.leader.borrow_and_update().clone();
            let Some(leader) = leader else {
                if self.leader.changed().await.is_err() {
                    return;
                }
                continue;
            };
            number += 1;
            let mut news = self.leader.clone();
            tokio::select! {
                biased;
                changed = news.changed() => match changed {
                    Ok(()) => backoff.reset(),
                    Err(_) => return,
                },
                broken = self.hold(number, &leader, &mut backoff) => {
                    warn!(leader = leader.instance, epoch = leader.epoch, error = broken, "link to the allocator broken");
                    tokio::select! { biased; _ = news.changed() => {}, () = backoff.wait() => {} }
                }
            }
            if self.events.send(Event::LinkClosed { number }).await.is_err() {
                return;
            }
        }
    }

    /// One link, to its end; why it ended.
    async fn hold(&self, number: u64, leader: &Leader, backoff: &mut Backoff) -> String {
        match self.try_hold(number, leader, backoff).await {
            Ok(()) => "closed by the allocator".to_owned(),
            Err(reason) => reason,
        }
    }

    async fn try_hold(&self, number: u64, leader: &Leader, backoff: &mut Backoff) -> Result<(), String> {
        let ended = |_| "the agent ends".to_owned();
        let failed = |status: tonic::Status| format!("{}: {}", status.code(), status.message());
        let (sender, receiver) = mpsc::channel(AHEAD);
        let (reply, reregister) = oneshot::channel();
        let opened = Event::LinkOpened { number, sender, reply };
        self.events.send(opened).await.map_err(|_| "the agent ends".to_owned())?;
        let reregister = reregister.await.map_err(ended)?;
        let first = AgentMessage { body: Some(Body::Reregister(reregister)) };
        // Once the agent lets go of the sender.
        let closed = Arc::new(Notify::new());
        let closing = Arc::clone(&closed);
        let end = stream::poll_fn(move |_| {
            closing.notify_one();
            Poll::Ready(None)
        });
        let messages = stream::once(async { first }).chain(ReceiverStream::new(receiver)).chain(end);
        let mut client = AgentLinkClient::new(connect(&self.env, &leader.address))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let opening = timeout(OPENING, client.link(messages)).await;
        let mut commands = opening
            .map_err(|_| format!("no answer within {} s", OPENING.as_secs()))?
            .map_err(failed)?
            .into_inner();
        info!(leader = leader.instance, epoch = leader.epoch, "link to the allocator open");
        loop {
            let message = tokio::select! {
                biased;
                message = commands.message() => message.map_err(failed)?,
                () = closed.notified() => return Err("to be opened anew".to_owned()),
            };
            let Some(message) = message else { return Ok(()) };
            if matches!(message.body, Some(Command::Accepted(_))) {
                backoff.reset();
            }
            let event = Event::FromAllocator { number, message: Box::new(message) };
            self.events.send(event).await.map_err(|_| "the agent ends".to_owned())?;
        }
    }
}
