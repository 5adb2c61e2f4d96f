//! Calls to the leader of another service.

use std::{
    error::Error as StdError,
    future::Future,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use meshos_mesh::{Backoff, Env, LeaderInfo, MeshChannel, connect};
use meshos_store::SharedStore;
use tokio::{
    sync::watch,
    time::{Instant, timeout, timeout_at},
};
use tonic::{Code, Response, Status};

/// How long a call may be tried again while the lead changes hands.
const RETRY: Duration = Duration::from_secs(5);
/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(15);

/// Whether a call may be sent again when it is not known if it was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Twice has the same effect as once.
    Safe,
    /// Only when it certainly was not carried out.
    Unsafe,
}

/// Why there is no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// Nobody leads.
    #[error("no {service} leads at the moment; try again")]
    NoLeader { service: &'static str },
    /// The leader was silent. The call may have been carried out.
    #[error("the leading {service} did not answer in time; look at the state before you try again")]
    Silent { service: &'static str },
    /// The connection broke. The call may have been carried out.
    #[error("the connection to the leading {service} broke; look at the state before you try again")]
    Broken { service: &'static str },
    /// The leader's refusal.
    #[error("{}", .0.message())]
    Refused(Box<Status>),
}

/// Whoever leads `service`, found through the store.
#[derive(Debug)]
pub(crate) struct Leader {
    env: Env,
    service: &'static str,
    info: watch::Receiver<Option<LeaderInfo>>,
    /// Channel to the address that it was made for.
    channel: Mutex<Option<(String, MeshChannel)>>,
}

impl Leader {
    pub(crate) fn new(env: &Env, store: &SharedStore, service: &'static str) -> Self {
        let info = meshos_mesh::follow_leader(env, store, service);
        Self { env: env.clone(), service, info, channel: Mutex::new(None) }
    }

    /// Follows who leads.
    pub(crate) fn changes(&self) -> watch::Receiver<Option<LeaderInfo>> {
        self.info.clone()
    }

    /// A channel to `address`, shared by all calls while the leader stays there.
    pub(crate) fn channel(&self, address: &str) -> MeshChannel {
        let mut kept = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        match kept.as_ref() {
            Some((known, channel)) if known == address => channel.clone(),
            _ => {
                let channel = connect(&self.env, address);
                *kept = Some((address.to_owned(), channel.clone()));
                channel
            }
        }
    }

    /// Calls the leader; while the lead changes hands the call is tried again for some seconds, as far as
    /// `repeat` allows.
    pub(crate) async fn call<T, F, Fut>(&self, repeat: Repeat, call: F) -> Result<Response<T>, CallError>
    where
        F: Fn(MeshChannel) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        self.attempts(repeat, |leader| call(self.channel(&leader.address))).await
    }

    /// As [`Leader::call`], whatever way `attempt` takes to a leader.
    pub(crate) async fn attempts<T, F, Fut>(&self, repeat: Repeat, attempt: F) -> Result<T, CallError>
    where
        F: Fn(&LeaderInfo) -> Fut,
        Fut: Future<Output = Result<T, Status>>,
    {
        let deadline = Instant::now() + RETRY;
        let mut backoff = Backoff::new(&self.env.rng, Duration::from_millis(20), Duration::from_millis(500));
        loop {
            let leader = self.wait_leader(deadline).await?;
            let answer = timeout(ATTEMPT, attempt(&leader)).await;
            let status = match answer {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(status)) => status,
                Err(_) => return Err(CallError::Silent { service: self.service }),
            };
            if !may_repeat(&status, repeat) || Instant::now() >= deadline {
                return Err(self.failure(status));
            }
            // Another leader is a reason to go on at once.
            let mut changes = self.info.clone();
            changes.mark_unchanged();
            let _ = timeout(backoff.delay(), changes.changed()).await;
        }
    }

    fn failure(&self, status: Status) -> CallError {
        if is_local(&status) {
            tracing::debug!(service = self.service, error = %status, "call failed on its way");
            return CallError::Broken { service: self.service };
        }
        CallError::Refused(Box::new(status))
    }

    async fn wait_leader(&self, deadline: Instant) -> Result<LeaderInfo, CallError> {
        let mut info = self.info.clone();
        let found = timeout_at(deadline, info.wait_for(Option::is_some)).await;
        let leader = found.ok().and_then(Result::ok).and_then(|leader| leader.clone());
        leader.ok_or(CallError::NoLeader { service: self.service })
    }
}

/// Whether sending the call again can do no harm.
fn may_repeat(status: &Status, repeat: Repeat) -> bool {
    let refused_unheard = status.code() == Code::Unavailable && status.message() == "not leading";
    let lost = status.code() == Code::Unavailable || is_local(status);
    refused_unheard || never_sent(status) || (repeat == Repeat::Safe && lost)
}

/// Whether the status was made on this side: what a peer sends has no cause.
fn is_local(status: &Status) -> bool {
    status.source().is_some()
}

/// Whether no connection came about, or the connection was not used.
fn never_sent(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>()
            || error.is::<meshos_mesh::TransportError>()
            || error.is::<meshos_mesh::NotSent>()
        {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_harmless_calls_are_repeated() {
        let standby = Status::unavailable("not leading");
        let broken = Status::unavailable("connection reset");
        let invalid = Status::invalid_argument("not leading");
        assert!(may_repeat(&standby, Repeat::Unsafe));
        assert!(!may_repeat(&broken, Repeat::Unsafe));
        assert!(may_repeat(&broken, Repeat::Safe));
        assert!(!may_repeat(&invalid, Repeat::Safe));
        let reset = Status::from_error(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into());
        assert!(may_repeat(&reset, Repeat::Safe) && !may_repeat(&reset, Repeat::Unsafe));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_leader_a_call_waits_a_little_and_fails() {
        let env = Env::in_memory();
        let store: SharedStore = std::sync::Arc::new(meshos_store::Embedded::in_memory());
        let leader = Leader::new(&env, &store, "allocator");
        let began = Instant::now();
        let called = leader.call(Repeat::Safe, |_| async { Ok(Response::new(())) }).await;
        assert!(matches!(called, Err(CallError::NoLeader { service: "allocator" })));
        assert!(began.elapsed() >= RETRY && began.elapsed() < RETRY * 2);
        env.tasks.stop();
    }

    #[tokio::test]
    async fn a_call_that_met_a_closed_door_was_never_sent() {
        use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
        let env = Env::in_memory();
        let mut client = HealthClient::new(connect(&env, "nobody"));
        let status = client.check(HealthCheckRequest::default()).await.unwrap_err();
        assert!(never_sent(&status), "{status:?}");
        assert!(!never_sent(&Status::unavailable("connection reset")));
    }
}
