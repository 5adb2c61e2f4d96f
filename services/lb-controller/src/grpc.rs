//! Decode, call, encode.

use meshos_mesh::FeedStream;
use meshos_proto::meshos::lb::v1::{
    GetStatusRequest, Status as LbStatus, WatchRequest, WatchResponse, lb_controller_server::LbController,
};
use tokio::sync::{mpsc, oneshot};
use tonic::{Request, Response, Status};

/// What others ask of the loop.
#[derive(Debug)]
pub(crate) enum Command {
    Watch(oneshot::Sender<FeedStream<WatchResponse>>),
    /// Of one app, or of all.
    Status(String, oneshot::Sender<LbStatus>),
    /// Read the app-scheduler's state again from the begin.
    Resync(oneshot::Sender<()>),
    /// Reload HAProxy even though nothing changed.
    Reload(oneshot::Sender<()>),
}

#[derive(Clone, Debug)]
pub(crate) struct Grpc {
    pub(crate) commands: mpsc::Sender<Command>,
}

impl Grpc {
    /// Gives the loop a command and waits for its answer.
    pub(crate) async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, Status> {
        let stopping = || Status::unavailable("the lb-controller is stopping");
        let (sender, receiver) = oneshot::channel();
        self.commands.send(command(sender)).await.map_err(|_| stopping())?;
        receiver.await.map_err(|_| stopping())
    }
}

#[tonic::async_trait]
impl LbController for Grpc {
    type WatchStream = FeedStream<WatchResponse>;

    async fn watch(&self, _: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        self.ask(Command::Watch).await.map(Response::new)
    }

    async fn get_status(&self, request: Request<GetStatusRequest>) -> Result<Response<LbStatus>, Status> {
        let app_id = request.into_inner().app_id;
        self.ask(|answer| Command::Status(app_id, answer)).await.map(Response::new)
    }
}
