//! The leader's client of the registry: framework records, the view of agents. Any replica will do.

mod records;

use std::time::Duration;

use meshos_mesh::{Backoff, Env, InstanceInfo, MAX_MESSAGE_BYTES, MeshChannel, connect};
use meshos_proto::meshos::registry::v1::{
    Agent, Framework, ListFrameworksRequest, ListRolesRequest, Role, WatchRequest, WatchResponse,
    registry_client::RegistryClient, watch_response::Body,
};
use meshos_types::{AgentId, FrameworkId};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tonic::{Status, Streaming};
use tracing::warn;

use super::owner::{OwnerHandle, Request};
use crate::{core::Input, timings::Timing};
pub(super) use records::RecordWriter;

/// How long a replica may take to answer.
const DEADLINE: Duration = Duration::from_secs(3);

/// Client of whichever replica answers.
#[derive(Clone, Debug)]
pub(super) struct Registry {
    env: Env,
    replicas: watch::Receiver<Vec<InstanceInfo>>,
    epoch: u64,
    figures: Figures,
}

/// How long reads and writes of the registry take.
#[derive(Clone, Debug, Default)]
struct Figures {
    fetch: Timing,
    store: Timing,
}

/// An open Watch and the revision that it stands at.
pub(super) struct Watching {
    stream: Streaming<WatchResponse>,
    revision: u64,
}

impl Registry {
    pub(super) fn new(env: &Env, replicas: watch::Receiver<Vec<InstanceInfo>>, epoch: u64) -> Self {
        Self { env: env.clone(), replicas, epoch, figures: Figures::default() }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(&self.env.rng, Duration::from_millis(50), Duration::from_secs(2))
    }

    /// A client of some replica; waits until there is one.
    async fn client(&self) -> RegistryClient<MeshChannel> {
        let mut replicas = self.replicas.clone();
        // The sender lives as long as the term; without it nothing is left to wait for.
        let _ = replicas.wait_for(|replicas| !replicas.is_empty()).await;
        let address = {
            let replicas = replicas.borrow();
            let count = u64::try_from(replicas.len()).unwrap_or(1);
            let chosen = usize::try_from(self.env.rng.below(count)).unwrap_or(0);
            replicas.get(chosen).map(|replica| replica.address.clone()).unwrap_or_default()
        };
        RegistryClient::new(connect(&self.env, &address))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// All framework records; asks until a replica answers. Nobody else changes them meanwhile.
    pub(super) async fn list_frameworks(&self) -> Vec<Framework> {
        let (begun, mut backoff) = (Instant::now(), self.backoff());
        let mut frameworks: Vec<Framework> = Vec::new();
        loop {
            let mut client = self.client().await;
            let after = frameworks.last().and_then(id_of).map(|id| id.to_string()).unwrap_or_default();
            match timeout(DEADLINE, client.list_frameworks(ListFrameworksRequest { after })).await {
                Ok(Ok(response)) => {
                    let page = response.into_inner();
                    frameworks.extend(page.frameworks);
                    if !page.more {
                        self.figures.fetch.took(begun.elapsed());
                        return frameworks;
                    }
                    backoff.reset();
                    continue;
                }
                Ok(Err(status)) => warn!(%status, "registry does not list frameworks, asking again"),
                Err(_) => warn!("registry does not answer, asking again"),
            }
            backoff.wait().await;
        }
    }

    /// What is set for roles; asks until a replica answers.
    pub(super) async fn list_roles(&self) -> Vec<Role> {
        let mut backoff = self.backoff();
        loop {
            let mut client = self.client().await;
            match timeout(DEADLINE, client.list_roles(ListRolesRequest {})).await {
                Ok(Ok(response)) => return response.into_inner().roles,
                Ok(Err(status)) => warn!(%status, "registry does not list roles, asking again"),
                Err(_) => warn!("registry does not answer, asking again"),
            }
            backoff.wait().await;
        }
    }

    /// Opens a Watch, and reads its snapshot.
    pub(super) async fn watch(&self) -> (Watching, Vec<Agent>) {
        self.watch_from(0).await
    }

    /// Asks until a replica is at least at `revision`: one that lags must not turn time back.
    async fn watch_from(&self, revision: u64) -> (Watching, Vec<Agent>) {
        let mut backoff = self.backoff();
        loop {
            match self.try_watch(revision).await {
                Ok(watching) => return watching,
                Err(status) => warn!(%status, "registry cannot be watched, trying again"),
            }
            backoff.wait().await;
        }
    }

    async fn try_watch(&self, revision: u64) -> Result<(Watching, Vec<Agent>), Status> {
        let mut client = self.client().await;
        let late = |_| Status::deadline_exceeded("the registry does not answer");
        let mut stream = timeout(DEADLINE, client.watch(WatchRequest {})).await.map_err(late)??.into_inner();
        let mut agents = Vec::new();
        loop {
            let part = timeout(DEADLINE, stream.message()).await.map_err(late)??;
            let part = part.ok_or_else(|| Status::unavailable("the stream ended"))?;
            if part.revision < revision {
                let behind = format!("replica is at revision {}, behind {revision}", part.revision);
                return Err(Status::unavailable(behind));
            }
            let Some(Body::Snapshot(snapshot)) = part.body else {
                return Err(Status::internal("the first responses are not a snapshot"));
            };
            agents.extend(snapshot.agents);
            if !snapshot.more {
                return Ok((Watching { stream, revision: part.revision }, agents));
            }
        }
    }

    /// Passes on what changes, over any number of replicas, until the owner has ended.
    pub(super) async fn follow(self, mut watching: Watching, owner: OwnerHandle) {
        loop {
            match watching.stream.message().await {
                Ok(Some(response)) => {
                    watching.revision = watching.revision.max(response.revision);
                    for input in inputs(response) {
                        if owner.send(Request::Input(input)).await.is_err() {
                            return;
                        }
                    }
                    continue;
                }
                Ok(None) => warn!("registry ended the watch, watching again"),
                Err(status) => warn!(%status, "watch of the registry broke, watching again"),
            }
            let (next, agents) = self.watch_from(watching.revision).await;
            watching = next;
            if owner.send(Request::Input(Input::RegistrySnapshot(agents))).await.is_err() {
                return;
            }
        }
    }
}

fn id_of(record: &Framework) -> Option<FrameworkId> {
    record.info.as_ref()?.id.as_ref().map(FrameworkId::from)
}

fn inputs(response: WatchResponse) -> Vec<Input> {
    match response.body {
        Some(Body::Snapshot(snapshot)) => vec![Input::RegistrySnapshot(snapshot.agents)],
        Some(Body::Delta(delta)) => {
            let changed = delta.changed.into_iter().map(|agent| Input::RegistryChanged(Box::new(agent)));
            let removed =
                delta.removed_agent_ids.into_iter().map(|id| Input::RegistryRemoved(AgentId::new(id)));
            changed.chain(removed).collect()
        }
        None => Vec::new(),
    }
}
