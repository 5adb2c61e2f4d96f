//! One agent's session: registered, pinged, told who leads, until the stream breaks or falls silent.

use std::{sync::Arc, time::Duration};

use futures::{SinkExt, channel::mpsc};
use meshos_mesh::{Backoff, Env, LeaderInfo};
use meshos_proto::{
    meshos::registry::v1::{
        Leader, Ping, Refused, Register, Registered, SessionRequest, SessionResponse, session_request,
        session_response,
    },
    mesos::v1::AgentId,
};
use tokio::{
    sync::watch,
    time::{Instant, interval, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use tracing::{debug, warn};

use crate::{
    config::Config,
    error::Error,
    held::Held,
    membership::{End, GONE},
    metrics::RegistryMetrics,
    removals::Removals,
    roll::Roll,
};

/// The first message must come within this time.
const REGISTER_WITHIN: Duration = Duration::from_secs(10);

pub(crate) type Responses = mpsc::Sender<Result<SessionResponse, Status>>;

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) env: Env,
    pub(crate) config: Arc<Config>,
    pub(crate) roll: Roll,
    pub(crate) metrics: RegistryMetrics,
    pub(crate) allocator: watch::Receiver<Option<LeaderInfo>>,
    pub(crate) held: Held,
    /// Whether this replica can be counted on.
    pub(crate) listed: watch::Receiver<bool>,
    pub(crate) removals: Removals,
    pub(crate) responses: Responses,
}

impl Session {
    pub(crate) async fn run(mut self, mut requests: Streaming<SessionRequest>) {
        // Apart, as the end below: what is needed once is not kept as long as the session.
        let Some((id, session)) = Box::pin(self.begin(&mut requests)).await else { return };
        self.metrics.registrations.inc();
        self.metrics.sessions.inc();
        let over = self.held.begin(&id, session);
        let registered = Registered {
            agent_id: Some(AgentId { value: id.clone() }),
            ping_timeout_ms: u64::try_from(self.config.ping_timeout().as_millis()).unwrap_or(u64::MAX),
            allocator: self.allocator.borrow_and_update().as_ref().map(leader),
        };
        let end = match self.send(session_response::Body::Registered(registered)).await {
            Ok(()) => self.hold(&id, &mut requests, &over).await,
            Err(()) => End::Broken,
        };
        self.held.end(&id, session);
        self.metrics.sessions.dec();
        let Self { env, roll, responses, .. } = self;
        // The agent opens another one at once, while the store may take its time.
        drop((requests, responses));
        Box::pin(finish(&env, &roll, (&id, session), end)).await;
    }

    /// The agent's id and the number of its session; none when it was refused.
    async fn begin(&mut self, requests: &mut Streaming<SessionRequest>) -> Option<(String, u64)> {
        let error = match first(requests).await {
            Ok(register) => match self.roll.admit(&register).await {
                Ok(Ok(agent)) => return Some((agent.info?.id?.value, agent.session)),
                Ok(Err(refusal)) => {
                    let refused = Refused { reason: refusal.0 };
                    let _ = self.send(session_response::Body::Refused(refused)).await;
                    return None;
                }
                Err(error) => error,
            },
            Err(status) => {
                self.fail(status).await;
                return None;
            }
        };
        self.not_admitted(error).await;
        None
    }

    /// Keeps the session until it ends.
    async fn hold(
        &mut self,
        id: &str,
        requests: &mut Streaming<SessionRequest>,
        over: &CancellationToken,
    ) -> End {
        let cut_off = cut_off(self.listed.clone(), self.config.ping_timeout() / 2);
        tokio::pin!(cut_off);
        let mut pings = interval(self.config.args.agent_ping_timeout);
        let mut heard = Instant::now();
        let mut sequence = 0;
        loop {
            tokio::select! {
                biased;
                () = over.cancelled() => return self.over(id).await,
                () = &mut cut_off => return End::Broken,
                message = requests.message() => match message {
                    Ok(Some(SessionRequest { body: Some(session_request::Body::Unregister(_)) })) => return End::Left,
                    Ok(Some(_)) => heard = Instant::now(),
                    Ok(None) | Err(_) => return End::Broken,
                },
                changed = self.allocator.changed() => {
                    if changed.is_err() {
                        return End::Broken;
                    }
                    let current = self.allocator.borrow_and_update().as_ref().map(leader);
                    if let Some(current) = current
                        && self.send(session_response::Body::Allocator(current)).await.is_err()
                    {
                        return End::Broken;
                    }
                }
                _ = pings.tick() => {
                    // While it waits for a permit it may still answer.
                    if heard.elapsed() >= self.config.ping_timeout() && self.removals.take(Instant::now()) {
                        self.metrics.unreachable.inc();
                        return End::Silent;
                    }
                    sequence += 1;
                    if self.send(session_response::Body::Ping(Ping { sequence })).await.is_err() {
                        return End::Broken;
                    }
                }
            }
        }
    }

    /// The record says that the session is over. An agent that was declared gone is told: it ends its tasks.
    async fn over(&mut self, id: &str) -> End {
        if self.held.is_gone(id) {
            let refused = Refused { reason: GONE.to_owned() };
            let _ = self.send(session_response::Body::Refused(refused)).await;
        }
        End::Broken
    }

    /// A message that cannot be handed over within a ping interval counts as a broken stream.
    async fn send(&mut self, body: session_response::Body) -> Result<(), ()> {
        let response = Ok(SessionResponse { body: Some(body) });
        match timeout(self.config.args.agent_ping_timeout, self.responses.feed(response)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(()),
        }
    }

    /// A session that may have been recorded is nobody's: should its agent never come back, it must not count as
    /// connected.
    async fn not_admitted(&mut self, error: Error) {
        let recorded = match &error {
            Error::Unsure { agent_id, session, .. } => Some((agent_id.clone(), *session)),
            _ => None,
        };
        self.fail(error.into()).await;
        self.responses.close_channel();
        if let Some((id, session)) = recorded {
            finish(&self.env, &self.roll, (&id, session), End::Broken).await;
        }
    }

    async fn fail(&mut self, status: Status) {
        debug!(%status, "session refused");
        let _ = timeout(REGISTER_WITHIN, self.responses.feed(Err(status))).await;
    }
}

/// Returns once this replica was cut off from the store for `patience`: others will judge its agents soon, who
/// should be with one of them by then. A shorter break makes no agent move.
async fn cut_off(mut listed: watch::Receiver<bool>, patience: Duration) {
    while listed.wait_for(|listed| !listed).await.map(drop).is_ok() {
        let back = async { drop(listed.wait_for(|listed| *listed).await) };
        if timeout(patience, back).await.is_err() {
            return;
        }
    }
    // The replica stops, and its tasks with it.
    std::future::pending().await
}

/// Writes down how it ended. While the store does not answer this goes on trying: nobody else knows.
async fn finish(env: &Env, roll: &Roll, (id, session): (&str, u64), end: End) {
    let mut backoff = Backoff::new(&env.rng, Duration::from_millis(100), Duration::from_secs(5));
    while let Err(error) = roll.end(id, session, end).await {
        warn!(agent_id = id, %error, "end of session not recorded, trying again");
        backoff.wait().await;
    }
}

async fn first(requests: &mut Streaming<SessionRequest>) -> Result<Register, Status> {
    let first = timeout(REGISTER_WITHIN, requests.message())
        .await
        .map_err(|_| Status::deadline_exceeded("no `register` came within 10 s"))??;
    match first {
        Some(SessionRequest { body: Some(session_request::Body::Register(register)) }) => Ok(register),
        _ => Err(Status::invalid_argument("the first message must be `register`")),
    }
}

fn leader(info: &LeaderInfo) -> Leader {
    Leader { instance: info.instance.clone(), address: info.address.clone(), epoch: info.epoch }
}
