//! A registry, and agents' sessions with it.

use std::{sync::Arc, time::Duration};

use meshos_mesh::{Env, connect};
use meshos_proto::{
    meshos::registry::v1::{
        Agent, AgentState, Register, Registered, SessionRequest, SessionResponse, WatchRequest,
        registry_client::RegistryClient, session_request, session_response, watch_response,
    },
    mesos::v1::{AgentId, AgentInfo},
};
use meshos_registry::{Config, RegistryArgs, start};
use meshos_store::{Embedded, SharedStore};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

pub(crate) const SOON: Duration = Duration::from_secs(60);

pub(crate) type Client = RegistryClient<meshos_mesh::MeshChannel>;

pub(crate) struct Cluster {
    pub(crate) env: Env,
    pub(crate) store: SharedStore,
    pub(crate) client: Client,
}

pub(crate) async fn cluster(ping_interval: Duration) -> Cluster {
    cluster_on(Arc::new(Embedded::in_memory()), Duration::from_secs(5), ping_interval).await
}

pub(crate) async fn cluster_on(store: SharedStore, lease_ttl: Duration, ping_interval: Duration) -> Cluster {
    cluster_with(store, lease_ttl, ping_interval, RegistryArgs::default()).await
}

/// Two pings without an answer are enough; the other settings are those of `args`.
pub(crate) async fn cluster_with(
    store: SharedStore,
    lease_ttl: Duration,
    ping_interval: Duration,
    args: RegistryArgs,
) -> Cluster {
    let env = Env::in_memory();
    let config = Config {
        instance: "r0".into(),
        listen: "registry".into(),
        advertise: None,
        lease_ttl,
        args: RegistryArgs { agent_ping_timeout: ping_interval, max_agent_ping_timeouts: 2, ..args },
    };
    let handle = start(&env, Arc::clone(&store), config).await.unwrap();
    let client = RegistryClient::new(connect(&env, &handle.address));
    Cluster { env, store, client }
}

pub(crate) struct Session {
    pub(crate) requests: mpsc::Sender<SessionRequest>,
    pub(crate) responses: Streaming<SessionResponse>,
}

impl Session {
    pub(crate) async fn open(client: &mut Client, id: Option<&str>) -> Self {
        let (requests, receiver) = mpsc::channel(4);
        let info = AgentInfo {
            hostname: "host".into(),
            id: id.map(|id| AgentId { value: id.into() }),
            ..AgentInfo::default()
        };
        let register = Register { agent: Some(info), endpoint: "host:5051".into(), ..Register::default() };
        let body = Some(session_request::Body::Register(register));
        requests.send(SessionRequest { body }).await.unwrap();
        let responses = client.session(ReceiverStream::new(receiver)).await.unwrap().into_inner();
        Self { requests, responses }
    }

    pub(crate) async fn next(&mut self) -> session_response::Body {
        timeout(SOON, self.responses.message()).await.unwrap().unwrap().unwrap().body.unwrap()
    }

    pub(crate) async fn registered(&mut self) -> Registered {
        match self.next().await {
            session_response::Body::Registered(registered) => registered,
            other => panic!("not registered: {other:?}"),
        }
    }
}

/// Waits until the registry's watch shows the agent in this state.
pub(crate) async fn sees(client: &mut Client, id: &str, state: AgentState) -> Agent {
    let mut changes = client.watch(WatchRequest {}).await.unwrap().into_inner();
    let wanted = |agents: Vec<Agent>| {
        let is = |agent: &Agent| {
            agent.state() == state && agent.info.as_ref().unwrap().id.as_ref().unwrap().value == id
        };
        agents.into_iter().find(is)
    };
    loop {
        let response = timeout(SOON, changes.message()).await.unwrap().unwrap().unwrap();
        let agents = match response.body.unwrap() {
            watch_response::Body::Snapshot(snapshot) => snapshot.agents,
            watch_response::Body::Delta(delta) => delta.changed,
        };
        if let Some(agent) = wanted(agents) {
            return agent;
        }
    }
}
