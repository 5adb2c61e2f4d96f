//! Decode, ask the owner, encode: no decisions.

mod calls;
mod queues;

use std::time::Duration;

use futures::channel::mpsc;
use meshos_mesh::{Env, FeedStream};
use meshos_proto::{
    meshos::allocator::v1::{
        AllocatorMessage, ApplyRequest, ApplyResponse, CallsRequest, ExplainRequest, ExplainResponse,
        MetricsRequest, MetricsResponse, SubscribeRequest, SubscribeResponse, TeardownRequest,
        TeardownResponse, UpdateQuotaRequest, UpdateQuotaResponse, UpdateWeightsRequest,
        UpdateWeightsResponse, WatchRequest, WatchResponse, operator_server::Operator,
        scheduler_server::Scheduler,
    },
    mesos::v1::scheduler::call,
    packed::{AgentMessage, Told, agent_link_server::AgentLink},
};
use meshos_types::FrameworkId;
use tokio::{sync::oneshot, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Request as Rpc, Response, Status, Streaming};
use tracing::debug;

use crate::{
    core::{CallError, Input, LinkId},
    service::{Gate, Guarded, OwnerHandle, Point, Request, not_leading},
};

/// Responses that a framework may be behind before it is cut off.
const EVENTS: usize = 1024;
/// Commands that an agent may be behind before it is cut off.
const COMMANDS: usize = 4096;
/// How long an agent may take to send its report.
const REPORT: Duration = Duration::from_secs(10);
/// How long a new leader may take until it is ready.
const SOON: Duration = Duration::from_secs(1);
/// How long the removal of a framework may take to become durable.
const DURABLE: Duration = Duration::from_secs(10);

/// All services of the allocator.
#[derive(Clone, Debug)]
pub(crate) struct Grpc {
    env: Env,
    gate: Gate,
}

impl Grpc {
    pub(crate) fn new(env: &Env, gate: Gate) -> Self {
        Self { env: env.clone(), gate }
    }

    fn owner(&self) -> Result<OwnerHandle, Status> {
        self.gate.borrow().clone().ok_or_else(not_leading)
    }

    /// The same for those who come before a new leader is ready: sent away, all of them would come again.
    async fn owner_soon(&self) -> Result<OwnerHandle, Status> {
        let mut gate = self.gate.clone();
        let open = timeout(SOON, gate.wait_for(Option::is_some)).await;
        open.ok().and_then(Result::ok).and_then(|owner| owner.clone()).ok_or_else(not_leading)
    }
}

fn refused(error: CallError) -> Status {
    match error {
        CallError::Invalid(text) => Status::invalid_argument(text),
        CallError::Forbidden(text) => Status::permission_denied(text),
        CallError::Conflict(text) => Status::aborted(text),
    }
}

fn missing(field: &str) -> Status {
    Status::invalid_argument(format!("field '{field}' is missing"))
}

/// A call, and the removal that it asks for made durable before it is answered.
async fn settle(owner: &OwnerHandle, input: Input, removes: Option<FrameworkId>) -> Result<Point, Status> {
    let (told, durable) = oneshot::channel();
    let told = removes.is_some().then_some(told);
    let waits = removes.is_some();
    let point =
        owner.ask(|reply| Request::Call { input, removes, durable: told, reply }).await?.map_err(refused)?;
    if waits && !matches!(timeout(DURABLE, durable).await, Ok(Ok(()))) {
        return Err(unconfirmed());
    }
    Ok(point)
}

fn unconfirmed() -> Status {
    Status::unavailable("the framework is removed, but the registry does not confirm that yet")
}

/// Settings of all roles of a request are written in one transaction, which has a limit.
fn few(roles: usize) -> Result<(), Status> {
    const MOST: usize = 100;
    if roles <= MOST {
        return Ok(());
    }
    let text = format!("{roles} roles in one request, at most {MOST} are possible: send several requests");
    Err(Status::invalid_argument(text))
}

/// A change of what is set for roles, made durable before it is answered.
async fn set_roles(owner: &OwnerHandle, input: Input) -> Result<Point, Status> {
    let (told, durable) = oneshot::channel();
    let point =
        owner.ask(|reply| Request::SetRoles { input, durable: told, reply }).await?.map_err(refused)?;
    if !matches!(timeout(DURABLE, durable).await, Ok(Ok(()))) {
        return Err(Status::unavailable("the change is in force, but the registry does not confirm it yet"));
    }
    Ok(point)
}

#[tonic::async_trait]
impl Scheduler for Grpc {
    type SubscribeStream = Guarded<SubscribeResponse>;
    type CallsStream = calls::Results;

    async fn subscribe(
        &self,
        request: Rpc<SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let owner = self.owner_soon().await?;
        let call = request.into_inner().call.ok_or_else(|| missing("call"))?;
        if call.r#type() != call::Type::Subscribe {
            return Err(Status::invalid_argument(
                "Subscribe takes a call of type SUBSCRIBE; use Calls for others",
            ));
        }
        let stream = self.env.rng.uuid().to_string();
        let (events, receiver) = mpsc::channel(EVENTS);
        let (id, call) = (stream.clone(), Box::new(call));
        // Made first: if the caller goes away meanwhile, dropping it tells the owner.
        let responses = Guarded::events(&owner, stream.clone(), receiver);
        owner.ask(|reply| Request::Subscribe { stream: id, call, events, reply }).await?.map_err(refused)?;
        let mut response = Response::new(responses);
        let value = stream.parse().map_err(|_| Status::internal("a UUID is a header value"))?;
        response.metadata_mut().insert("mesos-stream-id", value);
        Ok(response)
    }

    async fn calls(
        &self,
        request: Rpc<Streaming<CallsRequest>>,
    ) -> Result<Response<Self::CallsStream>, Status> {
        Ok(Response::new(calls::answers(self.owner()?, request.into_inner())))
    }
}

#[tonic::async_trait]
impl AgentLink for Grpc {
    type LinkStream = Guarded<AllocatorMessage>;

    async fn link(
        &self,
        request: Rpc<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        let owner = self.owner_soon().await?;
        let mut messages = request.into_inner();
        let first = timeout(REPORT, messages.message()).await;
        let first =
            first.map_err(|_| Status::deadline_exceeded("no report came: send 'reregister' first"))??;
        let Some(Told::Reregister(report)) = first.and_then(|message| message.body) else {
            return Err(Status::invalid_argument("the first message must be 'reregister'"));
        };
        let link = owner.next_link();
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let responses = Guarded::link(&owner, link, receiver);
        let ended = responses.ended();
        let report = Box::new(report);
        owner.open(|taken| Request::Link { link, report, commands, taken }).await?;
        let reader = read_link(owner.clone(), link, messages, ended);
        owner.tasks.spawn("link-reader", reader);
        Ok(Response::new(responses))
    }
}

/// Passes an agent's updates to the owner until either side of the link ends.
async fn read_link(
    owner: OwnerHandle,
    link: LinkId,
    mut messages: Streaming<AgentMessage>,
    ended: CancellationToken,
) {
    let over = ended.cancelled();
    tokio::pin!(over);
    loop {
        let message = tokio::select! {
            biased;
            () = &mut over => return,
            message = messages.message() => message,
        };
        let update = match message {
            Ok(Some(message)) => message.body,
            Ok(None) => break,
            Err(status) => {
                debug!(link, %status, "link broke");
                break;
            }
        };
        let input = match update {
            Some(Told::Update(update)) => Input::StatusUpdate { link, update: Box::new(update) },
            Some(Told::OperationUpdate(update)) => Input::OperationUpdate { link, update: Box::new(update) },
            Some(Told::FrameworkMessage(message)) => {
                Input::MessageToFramework { link, message: Box::new(message) }
            }
            Some(Told::ExecutorEnded(ended)) => Input::ExecutorEnded { link, ended },
            // A second report is not expected.
            Some(Told::Reregister(_)) | None => continue,
        };
        if owner.send(Request::Input(input)).await.is_err() {
            return;
        }
    }
    // An owner that has ended knows no links.
    let _ = owner.send(Request::Unlink { link }).await;
}

#[tonic::async_trait]
impl Operator for Grpc {
    type WatchStream = FeedStream<WatchResponse>;

    async fn watch(&self, _: Rpc<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let stream = self.owner()?.ask(|reply| Request::Watch { reply }).await?;
        Ok(Response::new(stream))
    }

    async fn teardown(&self, request: Rpc<TeardownRequest>) -> Result<Response<TeardownResponse>, Status> {
        let owner = self.owner()?;
        let framework = request.into_inner().framework_id.ok_or_else(|| missing("framework_id"))?;
        let framework = FrameworkId::from(framework);
        let Point { epoch, revision } =
            settle(&owner, Input::Teardown { framework: framework.clone() }, Some(framework)).await?;
        Ok(Response::new(TeardownResponse { epoch, revision }))
    }

    async fn update_weights(
        &self,
        request: Rpc<UpdateWeightsRequest>,
    ) -> Result<Response<UpdateWeightsResponse>, Status> {
        let weights = request.into_inner().weights;
        few(weights.len())?;
        let Point { epoch, revision } = set_roles(&self.owner()?, Input::UpdateWeights(weights)).await?;
        Ok(Response::new(UpdateWeightsResponse { epoch, revision }))
    }

    async fn update_quota(
        &self,
        request: Rpc<UpdateQuotaRequest>,
    ) -> Result<Response<UpdateQuotaResponse>, Status> {
        let update = Box::new(request.into_inner());
        few(update.configs.len() + update.remove.len())?;
        let Point { epoch, revision } = set_roles(&self.owner()?, Input::UpdateQuota(update)).await?;
        Ok(Response::new(UpdateQuotaResponse { epoch, revision }))
    }

    async fn apply(&self, request: Rpc<ApplyRequest>) -> Result<Response<ApplyResponse>, Status> {
        let input = Input::Apply(Box::new(request.into_inner()));
        let Point { epoch, revision } = settle(&self.owner()?, input, None).await?;
        Ok(Response::new(ApplyResponse { epoch, revision }))
    }

    async fn explain(&self, request: Rpc<ExplainRequest>) -> Result<Response<ExplainResponse>, Status> {
        let subject = request.into_inner().subject.ok_or_else(|| missing("subject"))?;
        let explanations = self.owner()?.ask(|reply| Request::Explain { subject, reply }).await?;
        let explanations = explanations.ok_or_else(|| Status::not_found("no such framework or role"))?;
        Ok(Response::new(ExplainResponse { explanations }))
    }

    async fn metrics(&self, _: Rpc<MetricsRequest>) -> Result<Response<MetricsResponse>, Status> {
        let values = self.owner()?.ask(|reply| Request::Metrics { reply }).await?;
        Ok(Response::new(MetricsResponse { values }))
    }
}
