//! The gRPC face: decode, hand to the leader's loop, encode.

use std::sync::atomic::{AtomicU64, Ordering};

use meshos_mesh::{FeedStream, trace};
use meshos_proto::meshos::apps::v1::{
    AbdicateRequest, AbdicateResponse, CancelDeploymentRequest, ChangeResponse, ConfirmLeftRequest,
    ConfirmLeftResponse, CreateAppRequest, DeleteAppRequest, DeleteGroupRequest, GetGroupVersionRequest,
    GetGroupVersionResponse, KillTasksRequest, KillTasksResponse, ListGroupVersionsRequest,
    ListGroupVersionsResponse, ListUnusedOffersRequest, ListUnusedOffersResponse, ListVersionsRequest,
    ListVersionsResponse, ResetDelayRequest, RestartAppRequest, SetEnforceRoleRequest, UpdateAppsRequest,
    UpdateGroupRequest, WatchRequest, WatchResponse, app_scheduler_server::AppScheduler,
};
use tokio::sync::{mpsc, oneshot};
use tonic::{Response, Status, Streaming};

use crate::{
    core::{Reply, Request},
    error::unavailable,
};

/// What the calls ask of the loop.
#[derive(Debug)]
pub(crate) enum Command {
    Watch(oneshot::Sender<Result<FeedStream<WatchResponse>, Status>>),
    Request {
        request: Request,
        traceparent: String,
        answer: Answer,
    },
    Abdicate(oneshot::Sender<Result<(), Status>>),
    /// A load balancer's controller listens from now on.
    ControllerJoined(u64, oneshot::Sender<Result<(), Status>>),
    /// It let go of these instances.
    ControllerConfirmed(u64, Vec<String>),
    ControllerLeft(u64),
}

pub(crate) type Answer = oneshot::Sender<Result<Reply, Status>>;

impl Command {
    /// Answers for a replica that does not lead.
    pub(crate) fn refuse(self, message: &str) {
        // A caller that has gone needs no answer.
        match self {
            Self::Watch(answer) => {
                let _ = answer.send(Err(unavailable(message)));
            }
            Self::Request { answer, .. } => {
                let _ = answer.send(Err(unavailable(message)));
            }
            Self::Abdicate(answer) | Self::ControllerJoined(_, answer) => {
                let _ = answer.send(Err(unavailable(message)));
            }
            Self::ControllerConfirmed(..) | Self::ControllerLeft(_) => {}
        }
    }
}

pub(crate) struct Grpc {
    pub(crate) commands: mpsc::Sender<Command>,
    /// Numbers the controllers that listened so far.
    pub(crate) controllers: AtomicU64,
}

/// A controller's stream; its end is told however it comes.
struct Controller {
    id: u64,
    commands: mpsc::Sender<Command>,
}

impl Drop for Controller {
    fn drop(&mut self) {
        // When there is no room the controller is missed at the first limit that it lets pass.
        let _ = self.commands.try_send(Command::ControllerLeft(self.id));
    }
}

impl Grpc {
    async fn ask(&self, request: Request) -> Result<Reply, Status> {
        let (answer, answered) = oneshot::channel();
        let command = Command::Request { request, traceparent: trace::current(), answer };
        self.commands.send(command).await.map_err(|_| stopping())?;
        answered.await.map_err(|_| lost())?
    }

    async fn change(&self, request: Request) -> Result<Response<ChangeResponse>, Status> {
        match self.ask(request).await? {
            Reply::Change(response) => Ok(Response::new(response)),
            _ => Err(mixed_up()),
        }
    }
}

fn stopping() -> Status {
    unavailable("the app-scheduler is stopping")
}

fn lost() -> Status {
    unavailable("the lead was lost before the change was stored; it may or may not have happened")
}

fn mixed_up() -> Status {
    Status::internal("the answer does not belong to the request")
}

#[tonic::async_trait]
impl AppScheduler for Grpc {
    type WatchStream = FeedStream<WatchResponse>;

    async fn watch(
        &self,
        _request: tonic::Request<WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(Command::Watch(answer)).await.map_err(|_| stopping())?;
        answered.await.map_err(|_| lost())?.map(Response::new)
    }

    async fn create_app(
        &self,
        request: tonic::Request<CreateAppRequest>,
    ) -> Result<Response<ChangeResponse>, Status> {
        self.change(Request::Create(Box::new(request.into_inner()))).await
    }

    async fn update_apps(
        &self,
        request: tonic::Request<UpdateAppsRequest>,
    ) -> Result<Response<ChangeResponse>, Status> {
        self.change(Request::Update(request.into_inner())).await
    }

    async fn delete_app(
        &self,
        request: tonic::Request<DeleteAppRequest>,
    ) -> Result<Response<ChangeResponse>, Status> {
        self.change(Request::Delete(request.into_inner())).await
    }

    async fn restart_app(
        &self,
        request: tonic::Request<RestartAppRequest>,
    ) -> Result<Response<ChangeResponse>, Status> {
        self.change(Request::Restart(request.into_inner())).await
    }

    async fn kill_tasks(
        &self,
        request: tonic::Request<KillTasksRequest>,
    ) -> Result<Response<KillTasksResponse>, Status> {
        match self.ask(Request::Kill(request.into_inner())).await? {
            Reply::Kill(response) => Ok(Response::new(response)),
            _ => Err(mixed_up()),
        }
    }

    async fn cancel_deployment(
        &self,
        request: tonic::Request<CancelDeploymentRequest>,
    ) -> Result<Response<ChangeResponse>, Status> {
        self.change(Request::Cancel(request.into_inner())).await
    }

    async fn reset_delay(
        &self,
        request: tonic::Request<ResetDelayRequest>,
    ) -> Result<Response<ChangeResponse>, Status> {
        self.change(Request::ResetDelay(request.into_inner())).await
    }

    async fn list_versions(
        &self,
        request: tonic::Request<ListVersionsRequest>,
    ) -> Result<Response<ListVersionsResponse>, Status> {
        match self.ask(Request::Versions(request.into_inner())).await? {
            Reply::Versions(response) => Ok(Response::new(response)),
            _ => Err(mixed_up()),
        }
    }

    async fn update_group(
        &self,
        request: tonic::Request<UpdateGroupRequest>,
    ) -> Result<Response<ChangeResponse>, Status> {
        self.change(Request::UpdateGroup(Box::new(request.into_inner()))).await
    }

    async fn delete_group(
        &self,
        request: tonic::Request<DeleteGroupRequest>,
    ) -> Result<Response<ChangeResponse>, Status> {
        self.change(Request::DeleteGroup(request.into_inner())).await
    }

    async fn set_enforce_role(
        &self,
        request: tonic::Request<SetEnforceRoleRequest>,
    ) -> Result<Response<ChangeResponse>, Status> {
        self.change(Request::SetEnforceRole(request.into_inner())).await
    }

    async fn list_group_versions(
        &self,
        request: tonic::Request<ListGroupVersionsRequest>,
    ) -> Result<Response<ListGroupVersionsResponse>, Status> {
        match self.ask(Request::GroupVersions(request.into_inner())).await? {
            Reply::GroupVersions(response) => Ok(Response::new(response)),
            _ => Err(mixed_up()),
        }
    }

    async fn get_group_version(
        &self,
        request: tonic::Request<GetGroupVersionRequest>,
    ) -> Result<Response<GetGroupVersionResponse>, Status> {
        match self.ask(Request::GroupVersion(request.into_inner())).await? {
            Reply::GroupVersion(response) => Ok(Response::new(response)),
            _ => Err(mixed_up()),
        }
    }

    async fn confirm_left(
        &self,
        request: tonic::Request<Streaming<ConfirmLeftRequest>>,
    ) -> Result<Response<ConfirmLeftResponse>, Status> {
        let (answer, answered) = oneshot::channel();
        let id = self.controllers.fetch_add(1, Ordering::Relaxed);
        self.commands.send(Command::ControllerJoined(id, answer)).await.map_err(|_| stopping())?;
        let controller = Controller { id, commands: self.commands.clone() };
        answered.await.map_err(|_| lost())??;
        let mut confirmations = request.into_inner();
        while let Some(confirmation) = confirmations.message().await? {
            let command = Command::ControllerConfirmed(id, confirmation.instances);
            controller.commands.send(command).await.map_err(|_| stopping())?;
        }
        Ok(Response::new(ConfirmLeftResponse {}))
    }

    async fn list_unused_offers(
        &self,
        _request: tonic::Request<ListUnusedOffersRequest>,
    ) -> Result<Response<ListUnusedOffersResponse>, Status> {
        match self.ask(Request::UnusedOffers).await? {
            Reply::UnusedOffers(response) => Ok(Response::new(response)),
            _ => Err(mixed_up()),
        }
    }

    async fn abdicate(
        &self,
        _request: tonic::Request<AbdicateRequest>,
    ) -> Result<Response<AbdicateResponse>, Status> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(Command::Abdicate(answer)).await.map_err(|_| stopping())?;
        answered.await.map_err(|_| lost())??;
        Ok(Response::new(AbdicateResponse {}))
    }
}
