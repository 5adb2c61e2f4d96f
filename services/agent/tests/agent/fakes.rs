//! A registry and an allocator in the test's hands, and an agent between them.

use std::{sync::Arc, time::Duration};

use meshos_agent::{Config, Handle, containerizer::sim::SimContainerizer, start};
use meshos_mesh::{Env, Serving, serve};
use meshos_proto::{
    meshos::{
        allocator::v1::{
            Acknowledge, AgentMessage, AllocatorMessage, Launch, LinkAccepted, OperationUpdate, Reregister,
            StatusUpdate,
            agent_link_server::{AgentLink, AgentLinkServer},
            agent_message,
            allocator_message::Body,
        },
        registry::v1::{
            self as registry, SessionRequest, SessionResponse,
            registry_server::{Registry, RegistryServer},
            session_request, session_response,
        },
    },
    mesos::v1::{self as pb, TaskState},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const AGENT: &str = "m-S0";

/// A registry with one answer for all.
#[derive(Clone)]
pub(crate) struct FakeRegistry {
    pub(crate) allocator: registry::Leader,
    pub(crate) refuse: Option<String>,
    pub(crate) registrations: mpsc::Sender<registry::Register>,
}

#[tonic::async_trait]
impl Registry for FakeRegistry {
    type SessionStream = ReceiverStream<Result<SessionResponse, Status>>;
    type WatchStream = ReceiverStream<Result<registry::WatchResponse, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut requests = request.into_inner();
        let (sender, receiver) = mpsc::channel(8);
        let this = self.clone();
        #[allow(clippy::disallowed_methods, reason = "a test's own server")]
        tokio::spawn(async move {
            let Ok(Some(SessionRequest { body: Some(session_request::Body::Register(register)) })) =
                requests.message().await
            else {
                return;
            };
            let _ = this.registrations.send(register).await;
            let body = match &this.refuse {
                Some(reason) => session_response::Body::Refused(registry::Refused { reason: reason.clone() }),
                None => session_response::Body::Registered(registry::Registered {
                    agent_id: Some(pb::AgentId { value: AGENT.to_owned() }),
                    ping_timeout_ms: 60_000,
                    allocator: Some(this.allocator.clone()),
                }),
            };
            let _ = sender.send(Ok(SessionResponse { body: Some(body) })).await;
            // Open until the agent goes.
            while let Ok(Some(_)) = requests.message().await {}
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn watch(&self, _: Request<registry::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("no"))
    }

    async fn put_framework(
        &self,
        _: Request<registry::PutFrameworkRequest>,
    ) -> Result<Response<registry::PutFrameworkResponse>, Status> {
        Err(Status::unimplemented("no"))
    }

    async fn list_frameworks(
        &self,
        _: Request<registry::ListFrameworksRequest>,
    ) -> Result<Response<registry::ListFrameworksResponse>, Status> {
        Err(Status::unimplemented("no"))
    }

    async fn put_roles(
        &self,
        _: Request<registry::PutRolesRequest>,
    ) -> Result<Response<registry::PutRolesResponse>, Status> {
        Err(Status::unimplemented("no"))
    }

    async fn list_roles(
        &self,
        _: Request<registry::ListRolesRequest>,
    ) -> Result<Response<registry::ListRolesResponse>, Status> {
        Err(Status::unimplemented("no"))
    }
}

/// One end of an agent's link, in the test's hands.
pub(crate) struct LinkEnd {
    pub(crate) reregister: Reregister,
    pub(crate) messages: Streaming<AgentMessage>,
    pub(crate) commands: mpsc::Sender<Result<AllocatorMessage, Status>>,
}

#[derive(Clone)]
pub(crate) struct FakeAllocator {
    pub(crate) links: mpsc::Sender<LinkEnd>,
}

#[tonic::async_trait]
impl AgentLink for FakeAllocator {
    type LinkStream = ReceiverStream<Result<AllocatorMessage, Status>>;

    async fn link(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        let mut messages = request.into_inner();
        let Some(AgentMessage { body: Some(agent_message::Body::Reregister(reregister)) }) =
            messages.message().await?
        else {
            return Err(Status::invalid_argument("the first message must be a re-registration"));
        };
        let (commands, receiver) = mpsc::channel(8);
        let end = LinkEnd { reregister, messages, commands };
        self.links.send(end).await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// A cluster of this test around one agent.
pub(crate) struct Cluster {
    pub(crate) env: Env,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) links: mpsc::Receiver<LinkEnd>,
    pub(crate) registrations: mpsc::Receiver<registry::Register>,
    pub(crate) containers: SimContainerizer,
}

pub(crate) async fn listen(env: &Env, name: &'static str, routes: tonic::service::Routes) -> Serving {
    serve(env, name, env.transport.bind(name).await.unwrap(), routes).await
}

impl Cluster {
    pub(crate) async fn new(refuse: Option<&str>) -> Self {
        let env = Env::in_memory();
        let (link_sender, links) = mpsc::channel(8);
        let (registration_sender, registrations) = mpsc::channel(8);
        let allocator =
            registry::Leader { instance: "a1".to_owned(), address: "allocator".to_owned(), epoch: 7 };
        let fake =
            FakeRegistry { allocator, refuse: refuse.map(str::to_owned), registrations: registration_sender };
        listen(&env, "registry", tonic::service::Routes::new(RegistryServer::new(fake))).await;
        let routes = tonic::service::Routes::new(AgentLinkServer::new(FakeAllocator { links: link_sender }));
        listen(&env, "allocator", routes).await;
        let containers = SimContainerizer::new(&env.tasks);
        Self { env, dir: tempfile::tempdir().unwrap(), links, registrations, containers }
    }

    pub(crate) async fn agent(&self) -> Handle {
        self.agent_with(self.config()).await
    }

    pub(crate) async fn agent_with(&self, config: Config) -> Handle {
        start(&self.env, config, Arc::new(self.containers.clone())).await.unwrap()
    }

    pub(crate) fn config(&self) -> Config {
        Config {
            port: 0,
            resources: Some("cpus:4;mem:1024;disk:1000;ports:[31000-31005]".to_owned()),
            attributes: Some("rack:r1".to_owned()),
            domain: Some(r#"{"fault_domain":{"region":{"name":"r"},"zone":{"name":"z"}}}"#.to_owned()),
            grpc_listen: Some("agent".to_owned()),
            // The first address answers nothing: the next is tried.
            ..Config::new(vec!["nobody".to_owned(), "registry".to_owned()], self.dir.path())
        }
    }

    pub(crate) async fn link(&mut self) -> LinkEnd {
        let link = timeout(PATIENCE, self.links.recv()).await.unwrap().unwrap();
        link.command(Body::Accepted(LinkAccepted {})).await;
        link
    }

    pub(crate) async fn end(self) {
        assert!(self.env.tasks.shutdown(PATIENCE).await);
    }
}

pub(crate) fn framework_id() -> pb::FrameworkId {
    pb::FrameworkId { value: "f-0000".to_owned() }
}

pub(crate) fn task(id: &str, command: &str) -> pb::TaskInfo {
    pb::TaskInfo {
        name: id.to_owned(),
        task_id: pb::TaskId { value: id.to_owned() },
        agent_id: pb::AgentId { value: AGENT.to_owned() },
        command: Some(pb::CommandInfo { value: Some(command.to_owned()), ..pb::CommandInfo::default() }),
        ..pb::TaskInfo::default()
    }
}

pub(crate) fn framework() -> pb::FrameworkInfo {
    pb::FrameworkInfo {
        id: Some(framework_id()),
        name: "test".to_owned(),
        user: "root".to_owned(),
        checkpoint: Some(true),
        ..pb::FrameworkInfo::default()
    }
}

impl LinkEnd {
    pub(crate) async fn command(&self, body: Body) {
        self.commands.send(Ok(AllocatorMessage { epoch: 7, body: Some(body) })).await.unwrap();
    }

    pub(crate) async fn launch(&self, tasks: Vec<pb::TaskInfo>) {
        let launch = Launch { framework: Some(framework()), tasks, ..Launch::default() };
        self.command(Body::Launch(launch)).await;
    }

    pub(crate) async fn launch_group(&self, tasks: Vec<pb::TaskInfo>, executor: pb::ExecutorInfo) {
        let launch = Launch {
            framework: Some(framework()),
            tasks,
            group_executor: Some(executor),
            ..Launch::default()
        };
        self.command(Body::Launch(launch)).await;
    }

    pub(crate) async fn update(&mut self) -> StatusUpdate {
        let message = timeout(PATIENCE, self.messages.message()).await.unwrap().unwrap().unwrap();
        match message.body {
            Some(agent_message::Body::Update(update)) => update,
            other => panic!("not an update: {other:?}"),
        }
    }

    pub(crate) async fn operation_update(&mut self) -> OperationUpdate {
        let message = timeout(PATIENCE, self.messages.message()).await.unwrap().unwrap().unwrap();
        match message.body {
            Some(agent_message::Body::OperationUpdate(update)) => update,
            other => panic!("not an update of an operation: {other:?}"),
        }
    }

    pub(crate) async fn acknowledge(&self, status: &pb::TaskStatus) {
        let (task_id, uuid) = (Some(status.task_id.clone()), status.uuid.clone().unwrap());
        self.command(Body::Acknowledge(Acknowledge { framework_id: Some(framework_id()), task_id, uuid }))
            .await;
    }

    /// Acknowledges updates until this state comes.
    pub(crate) async fn until(&mut self, state: TaskState) -> Vec<TaskState> {
        let mut states = Vec::new();
        loop {
            let status = self.update().await.status.unwrap();
            self.acknowledge(&status).await;
            states.push(status.state());
            if status.state() == state {
                return states;
            }
        }
    }
}

pub(crate) async fn get(agent: &Handle, path: &str) -> (u16, String) {
    let mut stream = tokio::net::TcpStream::connect(agent.http_address().unwrap()).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

pub(crate) async fn get_json(agent: &Handle, path: &str) -> serde_json::Value {
    let (status, body) = get(agent, path).await;
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}
