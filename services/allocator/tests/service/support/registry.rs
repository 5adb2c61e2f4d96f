//! A stand-in for the registry: shows what the test says, keeps framework records.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use meshos_mesh::{Env, Feed, FeedStream, InstanceInfo, register_instance, serve};
use meshos_proto::{
    meshos::registry::v1::{
        Agent, AgentState, Delta, Framework, ListFrameworksRequest, ListFrameworksResponse, ListRolesRequest,
        ListRolesResponse, PutFrameworkRequest, PutFrameworkResponse, PutRolesRequest, PutRolesResponse,
        Role, SessionRequest, SessionResponse, Snapshot, WatchRequest, WatchResponse,
        registry_server::{Registry, RegistryServer},
        watch_response::Body,
    },
    mesos::v1 as pb,
};
use meshos_store::SharedStore;
use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming, service::Routes};

use super::PATIENCE;

#[derive(Default)]
struct State {
    revision: u64,
    agents: BTreeMap<String, Agent>,
    frameworks: BTreeMap<String, Framework>,
    roles: BTreeMap<String, Role>,
}

#[derive(Clone)]
pub(crate) struct FakeRegistry {
    state: Arc<Mutex<State>>,
    feed: Feed<WatchResponse>,
    changed: Arc<watch::Sender<()>>,
}

impl FakeRegistry {
    pub(crate) async fn start(env: &Env, store: &SharedStore) -> Self {
        let registry =
            Self { state: Arc::default(), feed: Feed::new(64), changed: Arc::new(watch::channel(()).0) };
        let listener = env.transport.bind("registry").await.unwrap();
        let serving =
            serve(env, "registry", listener, Routes::new(RegistryServer::new(registry.clone()))).await;
        let info = InstanceInfo { instance: "registry".to_owned(), address: serving.address };
        register_instance(env, store, "registry", info, Duration::from_secs(2));
        registry
    }

    /// What is stored of a role.
    pub(crate) fn role(&self, name: &str) -> Option<Role> {
        self.state.lock().unwrap().roles.get(name).cloned()
    }

    /// The registry shows the agent in this state from now on.
    pub(crate) fn show(&self, agent: &str, state: AgentState) {
        let info = pb::AgentInfo {
            hostname: agent.to_owned(),
            id: Some(pb::AgentId { value: agent.to_owned() }),
            ..pb::AgentInfo::default()
        };
        let record = Agent { format: 1, info: Some(info), state: state.into(), ..Agent::default() };
        let mut inner = self.state.lock().unwrap();
        inner.revision += 1;
        inner.agents.insert(agent.to_owned(), record.clone());
        let delta = Delta { changed: vec![record], removed_agent_ids: Vec::new() };
        self.feed.publish(WatchResponse { revision: inner.revision, body: Some(Body::Delta(delta)) });
    }

    pub(crate) fn framework(&self, id: &str) -> Option<Framework> {
        self.state.lock().unwrap().frameworks.get(id).cloned()
    }

    /// Waits until `holds` does.
    pub(crate) async fn wait(&self, holds: impl Fn(&Self) -> bool) {
        let mut changed = self.changed.subscribe();
        let waiting = async {
            while !holds(self) {
                changed.changed().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap();
    }
}

#[tonic::async_trait]
impl Registry for FakeRegistry {
    type SessionStream = futures::stream::Empty<Result<SessionResponse, Status>>;
    type WatchStream = FeedStream<WatchResponse>;

    async fn session(
        &self,
        _: Request<Streaming<SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        Err(Status::unimplemented("no sessions here"))
    }

    async fn watch(&self, _: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let state = self.state.lock().unwrap();
        let snapshot = Snapshot { agents: state.agents.values().cloned().collect(), more: false };
        let first = WatchResponse { revision: state.revision, body: Some(Body::Snapshot(snapshot)) };
        Ok(Response::new(self.feed.subscribe(first)))
    }

    async fn put_framework(
        &self,
        request: Request<PutFrameworkRequest>,
    ) -> Result<Response<PutFrameworkResponse>, Status> {
        let framework = request.into_inner().framework.unwrap();
        let id = framework.info.as_ref().unwrap().id.clone().unwrap().value;
        self.state.lock().unwrap().frameworks.insert(id, framework);
        self.changed.send_replace(());
        Ok(Response::new(PutFrameworkResponse {}))
    }

    async fn list_frameworks(
        &self,
        _: Request<ListFrameworksRequest>,
    ) -> Result<Response<ListFrameworksResponse>, Status> {
        let frameworks = self.state.lock().unwrap().frameworks.values().cloned().collect();
        Ok(Response::new(ListFrameworksResponse { frameworks, more: false }))
    }

    async fn put_roles(
        &self,
        request: Request<PutRolesRequest>,
    ) -> Result<Response<PutRolesResponse>, Status> {
        let mut state = self.state.lock().unwrap();
        for role in request.into_inner().roles {
            if role.weight.is_none() && role.quota.is_none() {
                state.roles.remove(&role.name);
            } else {
                state.roles.insert(role.name.clone(), role);
            }
        }
        Ok(Response::new(PutRolesResponse {}))
    }

    async fn list_roles(&self, _: Request<ListRolesRequest>) -> Result<Response<ListRolesResponse>, Status> {
        let roles = self.state.lock().unwrap().roles.values().cloned().collect();
        Ok(Response::new(ListRolesResponse { roles }))
    }
}
