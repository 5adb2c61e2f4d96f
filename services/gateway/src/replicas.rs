//! Calls to a service of which any replica will do.

use std::{future::Future, time::Duration};

use meshos_mesh::{Backoff, Env, InstanceInfo, MeshChannel, connect, follow_instances};
use meshos_store::SharedStore;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tonic::{Code, Response, Status};
use tracing::debug;

/// How long replicas are tried, one after the other.
const RETRY: Duration = Duration::from_secs(5);
/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(3);

/// All replicas of a service, found through the store.
#[derive(Debug)]
pub(crate) struct Replicas {
    env: Env,
    service: &'static str,
    known: watch::Receiver<Vec<InstanceInfo>>,
}

impl Replicas {
    pub(crate) fn new(env: &Env, store: &SharedStore, service: &'static str) -> Self {
        Self { env: env.clone(), service, known: follow_instances(env, store, service) }
    }

    /// Calls one replica after the other until one answers: for calls that have the same effect twice as once.
    ///
    /// # Errors
    /// The refusal of a replica, or UNAVAILABLE when none answers.
    pub(crate) async fn call<T, F, Fut>(&self, call: F) -> Result<Response<T>, Status>
    where
        F: Fn(MeshChannel) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let deadline = Instant::now() + RETRY;
        let mut backoff = Backoff::new(&self.env.rng, Duration::from_millis(20), Duration::from_millis(500));
        let mut turn = usize::try_from(self.env.rng.below(1 << 16)).unwrap_or_default();
        while Instant::now() < deadline {
            if let Some(address) = self.address(turn) {
                match timeout(ATTEMPT, call(connect(&self.env, &address))).await {
                    Ok(Err(status)) if status.code() == Code::Unavailable => {
                        debug!(service = self.service, address, %status, "replica not used");
                    }
                    Ok(answer) => return answer,
                    Err(_) => debug!(service = self.service, address, "replica is silent"),
                }
            }
            turn += 1;
            backoff.wait().await;
        }
        Err(Status::unavailable(format!("no {} answers at the moment; try again", self.service)))
    }

    fn address(&self, turn: usize) -> Option<String> {
        let known = self.known.borrow();
        known.get(turn % known.len().max(1)).map(|replica| replica.address.clone())
    }
}
