//! Decode, call, encode.

use meshos_mesh::FeedStream;
use meshos_proto::meshos::lb::v1::{WatchRequest, WatchResponse, lb_controller_server::LbController};
use tokio::sync::{mpsc, oneshot};
use tonic::{Request, Response, Status};

pub(crate) type Subscribe = oneshot::Sender<FeedStream<WatchResponse>>;

#[derive(Clone, Debug)]
pub(crate) struct Grpc {
    pub(crate) subscribe: mpsc::Sender<Subscribe>,
}

#[tonic::async_trait]
impl LbController for Grpc {
    type WatchStream = FeedStream<WatchResponse>;

    async fn watch(&self, _: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let stopping = || Status::unavailable("the lb-controller is stopping");
        let (sender, receiver) = oneshot::channel();
        self.subscribe.send(sender).await.map_err(|_| stopping())?;
        Ok(Response::new(receiver.await.map_err(|_| stopping())?))
    }
}
