//! A whole agent against a registry and an allocator of this test, with simulated containers.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{sync::Arc, time::Duration};

use meshos_agent::{Config, Handle, containerizer::sim::SimContainerizer, start};
use meshos_mesh::{Env, Serving, serve};
use meshos_proto::{
    meshos::{
        agent::v1::{WatchRequest, agent_client::AgentClient, watch_response},
        allocator::v1::{
            Acknowledge, AgentMessage, AllocatorMessage, ApplyOperation, Kill, Launch, LinkAccepted,
            OperationUpdate, Reregister, StatusUpdate,
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

const PATIENCE: Duration = Duration::from_secs(20);
const AGENT: &str = "m-S0";

/// A registry with one answer for all.
#[derive(Clone)]
struct FakeRegistry {
    allocator: registry::Leader,
    refuse: Option<String>,
    registrations: mpsc::Sender<registry::Register>,
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
struct LinkEnd {
    reregister: Reregister,
    messages: Streaming<AgentMessage>,
    commands: mpsc::Sender<Result<AllocatorMessage, Status>>,
}

#[derive(Clone)]
struct FakeAllocator {
    links: mpsc::Sender<LinkEnd>,
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
struct Cluster {
    env: Env,
    dir: tempfile::TempDir,
    links: mpsc::Receiver<LinkEnd>,
    registrations: mpsc::Receiver<registry::Register>,
    containers: SimContainerizer,
}

async fn listen(env: &Env, name: &'static str, routes: tonic::service::Routes) -> Serving {
    serve(env, name, env.transport.bind(name).await.unwrap(), routes).await
}

impl Cluster {
    async fn new(refuse: Option<&str>) -> Self {
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

    async fn agent(&self) -> Handle {
        let config = Config {
            port: 0,
            resources: Some("cpus:4;mem:1024;disk:1000;ports:[31000-31005]".to_owned()),
            attributes: Some("rack:r1".to_owned()),
            domain: Some(r#"{"fault_domain":{"region":{"name":"r"},"zone":{"name":"z"}}}"#.to_owned()),
            grpc_listen: Some("agent".to_owned()),
            // The first address answers nothing: the next is tried.
            ..Config::new(vec!["nobody".to_owned(), "registry".to_owned()], self.dir.path())
        };
        start(&self.env, config, Arc::new(self.containers.clone())).await.unwrap()
    }

    async fn link(&mut self) -> LinkEnd {
        let link = timeout(PATIENCE, self.links.recv()).await.unwrap().unwrap();
        link.command(Body::Accepted(LinkAccepted {})).await;
        link
    }

    async fn end(self) {
        assert!(self.env.tasks.shutdown(PATIENCE).await);
    }
}

fn framework_id() -> pb::FrameworkId {
    pb::FrameworkId { value: "f-0000".to_owned() }
}

fn task(id: &str, command: &str) -> pb::TaskInfo {
    pb::TaskInfo {
        name: id.to_owned(),
        task_id: pb::TaskId { value: id.to_owned() },
        agent_id: pb::AgentId { value: AGENT.to_owned() },
        command: Some(pb::CommandInfo { value: Some(command.to_owned()), ..pb::CommandInfo::default() }),
        ..pb::TaskInfo::default()
    }
}

impl LinkEnd {
    async fn command(&self, body: Body) {
        self.commands.send(Ok(AllocatorMessage { epoch: 7, body: Some(body) })).await.unwrap();
    }

    async fn launch(&self, tasks: Vec<pb::TaskInfo>) {
        let framework = pb::FrameworkInfo {
            id: Some(framework_id()),
            name: "test".to_owned(),
            user: "root".to_owned(),
            checkpoint: Some(true),
            ..pb::FrameworkInfo::default()
        };
        let launch = Launch { framework: Some(framework), tasks, ..Launch::default() };
        self.command(Body::Launch(launch)).await;
    }

    async fn update(&mut self) -> StatusUpdate {
        let message = timeout(PATIENCE, self.messages.message()).await.unwrap().unwrap().unwrap();
        match message.body {
            Some(agent_message::Body::Update(update)) => update,
            other => panic!("not an update: {other:?}"),
        }
    }

    async fn operation_update(&mut self) -> OperationUpdate {
        let message = timeout(PATIENCE, self.messages.message()).await.unwrap().unwrap().unwrap();
        match message.body {
            Some(agent_message::Body::OperationUpdate(update)) => update,
            other => panic!("not an update of an operation: {other:?}"),
        }
    }

    async fn acknowledge(&self, status: &pb::TaskStatus) {
        let (task_id, uuid) = (Some(status.task_id.clone()), status.uuid.clone().unwrap());
        self.command(Body::Acknowledge(Acknowledge { framework_id: Some(framework_id()), task_id, uuid }))
            .await;
    }

    /// Acknowledges updates until this state comes.
    async fn until(&mut self, state: TaskState) -> Vec<TaskState> {
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

async fn get(agent: &Handle, path: &str) -> (u16, String) {
    let mut stream = tokio::net::TcpStream::connect(agent.http_address().unwrap()).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

async fn get_json(agent: &Handle, path: &str) -> serde_json::Value {
    let (status, body) = get(agent, path).await;
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

#[tokio::test]
async fn a_task_runs_from_launch_to_end() {
    let mut cluster = Cluster::new(None).await;
    let agent = cluster.agent().await;
    let register = timeout(PATIENCE, cluster.registrations.recv()).await.unwrap().unwrap();
    assert_eq!(register.endpoint, agent.http_address().unwrap().to_string());
    assert!(register.agent.unwrap().id.is_none());
    let mut link = cluster.link().await;
    agent.linked().await;
    assert_eq!(agent.agent_id().unwrap().as_str(), AGENT);
    let info = link.reregister.agent.clone().unwrap();
    assert_eq!(info.domain.unwrap().fault_domain.unwrap().region.name, "r");
    assert_eq!((info.id.unwrap().value.as_str(), info.attributes[0].name.as_str()), (AGENT, "rack"));
    assert_eq!(link.reregister.capabilities.len(), 6);

    link.launch(vec![task("t", "sleep 0.2; exit 3")]).await;
    let states = link.until(TaskState::TaskFailed).await;
    assert_eq!(states, [TaskState::TaskStarting, TaskState::TaskRunning, TaskState::TaskFailed]);
    agent.shutdown(false).await;
    cluster.end().await;
}

#[tokio::test]
async fn a_restart_keeps_the_id_and_the_tasks() {
    let mut cluster = Cluster::new(None).await;
    let agent = cluster.agent().await;
    let mut link = cluster.link().await;
    link.launch(vec![task("stays", "sleep forever"), task("goes", "sleep forever")]).await;
    link.until(TaskState::TaskRunning).await;
    link.until(TaskState::TaskRunning).await;
    let running = cluster.containers.running();
    agent.shutdown(true).await;
    assert_eq!(cluster.containers.running(), running, "tasks run on");
    let goes = running.iter().find(|(_, spec)| spec.sandbox.to_string_lossy().contains("goes")).unwrap().0;
    cluster.containers.end(goes, meshos_agent::containerizer::ExitStatus::Code(4));

    let agent = cluster.agent().await;
    assert_eq!(agent.agent_id().unwrap().as_str(), AGENT, "known before it registers");
    let mut link = cluster.link().await;
    let tasks: Vec<_> =
        link.reregister.tasks.iter().map(|task| (task.task_id.value.as_str(), task.state())).collect();
    assert_eq!(tasks, [("goes", TaskState::TaskFailed), ("stays", TaskState::TaskRunning)]);
    // At least once: acknowledgements that the last agent did not see are asked for again.
    let mut status = link.update().await.status.unwrap();
    while status.state() != TaskState::TaskFailed {
        link.acknowledge(&status).await;
        status = link.update().await.status.unwrap();
    }
    assert_eq!((status.task_id.value.as_str(), status.message()), ("goes", "Command exited with status 4"));
    assert_eq!(cluster.containers.launches(), 2, "nothing was started again");
    agent.shutdown(false).await;
    assert!(cluster.containers.running().is_empty());
    cluster.end().await;
}

#[tokio::test]
async fn updates_survive_a_break_of_the_link() {
    let mut cluster = Cluster::new(None).await;
    let agent = cluster.agent().await;
    let mut link = cluster.link().await;
    link.launch(vec![task("t", "sleep forever")]).await;
    assert_eq!(link.update().await.status.unwrap().state(), TaskState::TaskStarting);
    drop(link);
    let mut link = cluster.link().await;
    assert_eq!(link.reregister.tasks.len(), 1);
    let states = link.until(TaskState::TaskRunning).await;
    assert_eq!(
        states,
        [TaskState::TaskStarting, TaskState::TaskRunning],
        "the unacknowledged one comes again"
    );
    let kill = Kill {
        framework_id: Some(framework_id()),
        task_id: Some(pb::TaskId { value: "t".to_owned() }),
        kill_policy: None,
    };
    link.command(Body::Kill(kill)).await;
    assert_eq!(link.until(TaskState::TaskKilled).await, [TaskState::TaskKilled]);
    agent.shutdown(false).await;
    cluster.end().await;
}

#[tokio::test]
async fn readers_see_tasks_over_http_and_grpc() {
    let mut cluster = Cluster::new(None).await;
    let agent = cluster.agent().await;
    let mut link = cluster.link().await;
    let mut client = AgentClient::new(meshos_mesh::connect(&cluster.env, agent.grpc_address().unwrap()));
    let mut watch = client.watch(WatchRequest {}).await.unwrap().into_inner();
    let first = watch.message().await.unwrap().unwrap();
    assert!(
        matches!(first.body, Some(watch_response::Body::Snapshot(snapshot)) if snapshot.tasks.is_empty())
    );
    link.launch(vec![task("t", "sleep forever")]).await;
    link.until(TaskState::TaskRunning).await;
    let delta = timeout(PATIENCE, watch.message()).await.unwrap().unwrap().unwrap();
    assert!(
        matches!(delta.body, Some(watch_response::Body::Delta(delta)) if delta.changed[0].task_id.value == "t")
    );

    for prefix in ["", "/slave(1)", "/slave%281%29"] {
        let state = get_json(&agent, &format!("{prefix}/state")).await;
        assert_eq!((&state["id"], &state["resources"]["cpus"]), (&AGENT.into(), &4.0.into()));
        let executor = &state["frameworks"][0]["executors"][0];
        assert_eq!((&executor["id"], &executor["tasks"][0]["state"]), (&"t".into(), &"TASK_RUNNING".into()));
        let directory = executor["directory"].as_str().unwrap();
        assert!(directory.contains("/slaves/m-S0/frameworks/f-0000/executors/t/runs/"), "{directory}");
    }
    let metrics = get_json(&agent, "/metrics/snapshot").await;
    assert_eq!((&metrics["slave/tasks_running"], &metrics["slave/registered"]), (&1.0.into(), &1.0.into()));
    assert_eq!(get_json(&agent, "/containers").await[0]["executor_id"], "t");
    assert_eq!(get_json(&agent, "/containers?framework_id=other").await, serde_json::json!([]));
    assert_eq!(get(&agent, "/containers?executor_id=t").await.0, 400);
    assert_eq!(get_json(&agent, "/monitor/statistics").await[0]["framework_id"], "f-0000");
    assert_eq!(get_json(&agent, "/version").await["version"], "1.12.0");
    assert_eq!(get_json(&agent, "/flags").await["flags"]["port"], "0");
    let debug = get_json(&agent, "/files/debug").await;
    assert!(debug.get("/frameworks/f-0000/executors/t/runs/latest").is_some(), "{debug}");
    assert_eq!(get(&agent, "/health").await, (200, String::new()));
    assert!(get(&agent, "/version?jsonp=f").await.1.starts_with("f({"));
    assert_eq!(get(&agent, "/nosuch").await, (404, "404 Not Found.".to_owned()));
    agent.shutdown(false).await;
    cluster.end().await;
}

#[tokio::test]
async fn a_refused_agent_ends_its_tasks_and_says_why() {
    let cluster = Cluster::new(Some("Agent has been marked gone")).await;
    let agent = cluster.agent().await;
    assert_eq!(timeout(PATIENCE, agent.refused()).await.unwrap(), "Agent has been marked gone");
    agent.shutdown(false).await;
    cluster.end().await;
}

#[tokio::test]
async fn a_volume_is_made_outlives_the_agent_and_is_removed() {
    let mut cluster = Cluster::new(None).await;
    let agent = cluster.agent().await;
    let mut link = cluster.link().await;
    let disk = |volume: Option<pb::resource::DiskInfo>, reserved: bool| pb::Resource {
        name: "disk".to_owned(),
        r#type: pb::value::Type::Scalar.into(),
        scalar: Some(pb::value::Scalar { value: 100.0 }),
        reservations: reserved
            .then(|| pb::resource::ReservationInfo {
                r#type: Some(pb::resource::reservation_info::Type::Dynamic.into()),
                role: Some("eng/web".to_owned()),
                ..Default::default()
            })
            .into_iter()
            .collect(),
        disk: volume,
        ..pb::Resource::default()
    };
    let volume = pb::resource::DiskInfo {
        persistence: Some(pb::resource::disk_info::Persistence { id: "v1".to_owned(), principal: None }),
        volume: Some(pb::Volume { container_path: "data".to_owned(), ..pb::Volume::default() }),
        ..Default::default()
    };
    let apply = |uuid: u8, consumed: pb::Resource, produced: pb::Resource| {
        let (uuid, consumed, produced) = (vec![uuid; 16].into(), vec![consumed], vec![produced]);
        Body::ApplyOperation(Box::new(ApplyOperation { uuid, consumed, produced, ..Default::default() }))
    };
    link.command(apply(1, disk(None, false), disk(None, true))).await;
    link.command(apply(2, disk(None, true), disk(Some(volume.clone()), true))).await;
    for uuid in [1, 2] {
        let update = link.operation_update().await;
        assert_eq!(update.uuid.as_ref(), [uuid; 16]);
        assert_eq!(update.status.unwrap().state(), pb::OperationState::OperationFinished);
    }
    let directory = cluster.dir.path().join("volumes/roles/eng web/v1");
    std::fs::write(directory.join("file"), "kept").unwrap();
    agent.shutdown(false).await;

    let agent = cluster.agent().await;
    let mut link = cluster.link().await;
    let held = |resource: &&pb::Resource| {
        resource.disk.as_ref().is_some_and(|disk| disk.persistence.as_ref().is_some_and(|p| p.id == "v1"))
    };
    assert_eq!(link.reregister.total.iter().filter(held).count(), 1);
    assert_eq!(std::fs::read_to_string(directory.join("file")).unwrap(), "kept");
    link.command(apply(3, disk(Some(volume), true), disk(None, true))).await;
    assert_eq!(link.operation_update().await.uuid.as_ref(), [3; 16]);
    assert!(!directory.exists());
    agent.shutdown(false).await;
    cluster.end().await;
}
