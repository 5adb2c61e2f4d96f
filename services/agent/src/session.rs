//! The session with the registry: admission, pings, and the news of who leads the allocator.

use std::{sync::Arc, time::Duration};

use meshos_mesh::{Backoff, Env, MAX_MESSAGE_BYTES, connect};
use meshos_proto::{
    meshos::registry::v1::{
        Leader, Pong, Register, SessionRequest, SessionResponse, registry_client::RegistryClient,
        session_request::Body as Request, session_response::Body as Response,
    },
    mesos::v1 as pb,
};
use meshos_types::AgentId;
use tokio::{
    sync::{Notify, mpsc, watch},
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tracing::{error, info, warn};

use crate::{
    core::Input,
    runner::{Event, Status},
};

/// A registry that does not answer a new session for so long is left for the next.
const OPENING: Duration = Duration::from_secs(5);
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LAST_DELAY: Duration = Duration::from_secs(5);
/// Until the registry says otherwise.
const PING_TIMEOUT: Duration = Duration::from_secs(15);

/// What the session needs to know and to tell.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) env: Env,
    pub(crate) addresses: Vec<String>,
    pub(crate) register: Register,
    /// The agent as it is now, without its id.
    pub(crate) info: watch::Receiver<pb::AgentInfo>,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) leader: watch::Sender<Option<Leader>>,
    pub(crate) status: watch::Sender<Status>,
    /// Notified when the agent is another, or the allocator does not take it: a new session puts its record right.
    pub(crate) renew: Arc<Notify>,
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("{0}")]
    Broken(String),
    #[error("refused: {0}")]
    Refused(String),
    #[error("the agent ends")]
    Stopped,
}

impl From<tonic::Status> for Ended {
    fn from(status: tonic::Status) -> Self {
        Self::Broken(format!("{}: {}", status.code(), status.message()))
    }
}

impl Session {
    /// Holds a session with one registry after another, for ever, unless one refuses the agent.
    pub(crate) async fn run(mut self) {
        let mut backoff = Backoff::new(&self.env.rng, FIRST_DELAY, LAST_DELAY);
        // Agents that start together spread over the replicas.
        let count = self.addresses.len().max(1);
        let mut next = usize::try_from(self.env.rng.below(count as u64)).unwrap_or_default();
        loop {
            let Some(address) = self.addresses.get(next % count).cloned() else {
                warn!("no registry is configured");
                return;
            };
            next += 1;
            match self.hold(&address, &mut backoff).await {
                Ended::Refused(reason) => {
                    error!(
                        registry = address,
                        reason, "the registry refuses this agent: it ends its tasks and stays out"
                    );
                    self.status.send_modify(|status| status.refused = Some(reason));
                    let _ = self.events.send(Event::Input(Input::Shutdown)).await;
                    return;
                }
                Ended::Stopped => return,
                broken @ Ended::Broken(_) => warn!(registry = address, error = %broken, "session ended"),
            }
            backoff.wait().await;
        }
    }

    async fn hold(&mut self, address: &str, backoff: &mut Backoff) -> Ended {
        match self.try_hold(address, backoff).await {
            Ok(()) => Ended::Broken("closed by the registry".to_owned()),
            Err(ended) => ended,
        }
    }

    async fn try_hold(&mut self, address: &str, backoff: &mut Backoff) -> Result<(), Ended> {
        let (requests, receiver) = mpsc::channel(4);
        let id = self.register.agent.as_ref().and_then(|agent| agent.id.clone());
        self.register.agent = Some(pb::AgentInfo { id, ..self.info.borrow().clone() });
        let register = Request::Register(self.register.clone());
        send(&requests, register).await?;
        let mut client =
            RegistryClient::new(connect(&self.env, address)).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let opening = timeout(OPENING, client.session(ReceiverStream::new(receiver))).await;
        let mut responses = opening.map_err(|_| silent(OPENING))??.into_inner();
        let mut patience = OPENING;
        while let Some(response) = self.next(&mut responses, patience).await? {
            match response.body {
                Some(Response::Registered(registered)) => {
                    backoff.reset();
                    patience = match registered.ping_timeout_ms {
                        0 => PING_TIMEOUT,
                        ms => Duration::from_millis(ms),
                    };
                    self.registered(address, registered.agent_id).await?;
                    self.lead(registered.allocator);
                }
                Some(Response::Ping(ping)) => {
                    send(&requests, Request::Pong(Pong { sequence: ping.sequence })).await?
                }
                Some(Response::Allocator(leader)) => self.lead(Some(leader)),
                Some(Response::Refused(refused)) => return Err(Ended::Refused(refused.reason)),
                None => {}
            }
        }
        Ok(())
    }

    async fn registered(&mut self, registry: &str, id: Option<pb::AgentId>) -> Result<(), Ended> {
        let id = AgentId::parse(&id.map(|id| id.value).unwrap_or_default())
            .map_err(|error| Ended::Broken(format!("registry gave an unusable id: {error}")))?;
        info!(registry, agent_id = %id, "registered");
        if let Some(agent) = self.register.agent.as_mut() {
            agent.id = Some(id.to_proto());
        }
        // Before the leader is known, so that the id is there when the link opens.
        self.events.send(Event::Input(Input::Registered(id))).await.map_err(|_| Ended::Stopped)
    }

    async fn next(
        &self,
        responses: &mut Streaming<SessionResponse>,
        patience: Duration,
    ) -> Result<Option<SessionResponse>, Ended> {
        tokio::select! {
            biased;
            () = self.renew.notified() => Err(Ended::Broken("to be opened anew".to_owned())),
            response = timeout(patience, responses.message()) => Ok(response.map_err(|_| silent(patience))??),
        }
    }

    /// An absent leader changes nothing: the link finds out by itself whether its leader still leads.
    fn lead(&self, leader: Option<Leader>) {
        let Some(leader) = leader.filter(|leader| !leader.address.is_empty()) else { return };
        self.leader.send_if_modified(|current| {
            let newer = current.as_ref().is_none_or(|current| current.epoch < leader.epoch);
            if newer {
                info!(leader = leader.instance, epoch = leader.epoch, "allocator leads");
                *current = Some(leader);
            }
            newer
        });
    }
}

fn silent(patience: Duration) -> Ended {
    Ended::Broken(format!("nothing heard for {} ms", patience.as_millis()))
}

async fn send(requests: &mpsc::Sender<SessionRequest>, body: Request) -> Result<(), Ended> {
    let request = SessionRequest { body: Some(body) };
    requests.send(request).await.map_err(|_| Ended::Broken("closed by the registry".to_owned()))
}
