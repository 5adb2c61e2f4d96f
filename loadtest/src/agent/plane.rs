//! A registry that admits everybody, and an allocator in the load test's hands.

use std::collections::BTreeSet;

use anyhow::{Context as _, bail};
use meshos_mesh::{Env, MAX_MESSAGE_BYTES, serve};
use meshos_proto::{
    meshos::{
        allocator::v1::{
            Acknowledge, AgentMessage, AllocatorMessage, Kill, Launch, LinkAccepted, Reregister,
            agent_link_server::{AgentLink, AgentLinkServer},
            agent_message,
            allocator_message::Body,
        },
        registry::v1::{
            self as registry, SessionRequest, SessionResponse,
            registry_server::{Registry, RegistryServer},
            session_response,
        },
    },
    mesos::v1 as pb,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, service::Routes};

use super::patiently;

const AGENT: &str = "m-S0";
const EPOCH: u64 = 7;

fn framework_id() -> pb::FrameworkId {
    pb::FrameworkId { value: "f-0000".to_owned() }
}

pub(super) fn task(id: &str, command: pb::CommandInfo) -> pb::TaskInfo {
    let scalar = |name: &str, value: f64| pb::Resource {
        name: name.to_owned(),
        r#type: pb::value::Type::Scalar as i32,
        scalar: Some(pb::value::Scalar { value }),
        ..pb::Resource::default()
    };
    pb::TaskInfo {
        name: id.to_owned(),
        task_id: pb::TaskId { value: id.to_owned() },
        agent_id: pb::AgentId { value: AGENT.to_owned() },
        resources: vec![scalar("cpus", 0.01), scalar("mem", 32.0)],
        command: Some(command),
        ..pb::TaskInfo::default()
    }
}

/// One end of the agent's link.
pub(super) struct Link {
    /// What the agent has.
    pub(super) reported: Reregister,
    messages: Streaming<AgentMessage>,
    commands: mpsc::Sender<Result<AllocatorMessage, Status>>,
}

impl Link {
    async fn command(&self, body: Body) -> anyhow::Result<()> {
        let message = AllocatorMessage { epoch: EPOCH, body: Some(body) };
        self.commands.send(Ok(message)).await.context("the link has ended")
    }

    pub(super) async fn accept(&self) -> anyhow::Result<()> {
        self.command(Body::Accepted(LinkAccepted {})).await
    }

    /// Of an agent that was killed.
    pub(super) fn is_over(&self) -> bool {
        self.commands.is_closed()
    }

    pub(super) async fn launch(&self, tasks: Vec<pb::TaskInfo>) -> anyhow::Result<()> {
        let framework = pb::FrameworkInfo {
            id: Some(framework_id()),
            name: "load".to_owned(),
            user: "root".to_owned(),
            checkpoint: Some(true),
            ..pb::FrameworkInfo::default()
        };
        self.command(Body::Launch(Launch { framework: Some(framework), tasks, ..Launch::default() })).await
    }

    pub(super) async fn kill(&self, task_id: pb::TaskId) -> anyhow::Result<()> {
        let kill = Kill { framework_id: Some(framework_id()), task_id: Some(task_id), kill_policy: None };
        self.command(Body::Kill(kill)).await
    }

    /// Acknowledges updates until so many tasks have had one like this.
    pub(super) async fn until(
        &mut self,
        count: usize,
        wanted: impl Fn(&pb::TaskStatus) -> bool,
    ) -> anyhow::Result<()> {
        let mut seen = BTreeSet::new();
        while seen.len() < count {
            let message =
                patiently("an update", self.messages.message()).await??.context("the link ended")?;
            let Some(agent_message::Body::Update(update)) = message.body else { continue };
            let status = update.status.context("an update without a status")?;
            let uuid = status.uuid.clone().context("an update without an id")?;
            let task_id = status.task_id.clone();
            if wanted(&status) {
                seen.insert(task_id.value.clone());
            } else if meshos_types::task_state::is_terminal(status.state()) {
                bail!("{}: {:?} {}", task_id.value, status.state(), status.message());
            }
            let acknowledge =
                Acknowledge { framework_id: Some(framework_id()), task_id: Some(task_id), uuid };
            self.command(Body::Acknowledge(acknowledge)).await?;
        }
        Ok(())
    }
}

/// Serves both; the registry's address, and the links that agents open.
pub(super) async fn serve_both(env: &Env) -> anyhow::Result<(String, mpsc::Receiver<Link>)> {
    let (sender, links) = mpsc::channel(8);
    let service =
        AgentLinkServer::new(Allocator { links: sender }).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let listener = env.transport.bind("127.0.0.1:0").await?;
    let allocator = serve(env, "allocator", listener, Routes::new(service)).await;
    let leader =
        registry::Leader { instance: "load".to_owned(), address: allocator.address.clone(), epoch: EPOCH };
    let listener = env.transport.bind("127.0.0.1:0").await?;
    let service = RegistryServer::new(Admitting { leader, env: env.clone() });
    let registry = serve(env, "registry", listener, Routes::new(service)).await;
    Ok((registry.address.clone(), links))
}

#[derive(Clone)]
struct Allocator {
    links: mpsc::Sender<Link>,
}

#[tonic::async_trait]
impl AgentLink for Allocator {
    type LinkStream = ReceiverStream<Result<AllocatorMessage, Status>>;

    async fn link(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        let mut messages = request.into_inner();
        let Some(AgentMessage { body: Some(agent_message::Body::Reregister(reported)) }) =
            messages.message().await?
        else {
            return Err(Status::invalid_argument("the first message must be a re-registration"));
        };
        let (commands, receiver) = mpsc::channel(1024);
        let link = Link { reported, messages, commands };
        self.links.send(link).await.map_err(|_| Status::unavailable("the scenario is over"))?;
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

#[derive(Clone)]
struct Admitting {
    leader: registry::Leader,
    env: Env,
}

#[tonic::async_trait]
impl Registry for Admitting {
    type SessionStream = ReceiverStream<Result<SessionResponse, Status>>;
    type WatchStream = ReceiverStream<Result<registry::WatchResponse, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut requests = request.into_inner();
        let (sender, receiver) = mpsc::channel(8);
        let registered = registry::Registered {
            agent_id: Some(pb::AgentId { value: AGENT.to_owned() }),
            ping_timeout_ms: 600_000,
            allocator: Some(self.leader.clone()),
        };
        self.env.tasks.spawn("session", async move {
            let body = Some(session_response::Body::Registered(registered));
            let _ = sender.send(Ok(SessionResponse { body })).await;
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
