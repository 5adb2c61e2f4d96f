//! The agent's gRPC service.

use meshos_mesh::FeedStream;
use meshos_proto::meshos::agent::v1::{WatchRequest, WatchResponse, agent_server::Agent};
use tokio::sync::{mpsc, oneshot};
use tonic::{Request, Response, Status};

use crate::runner::Event;

/// Passes requests on to the runner.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) events: mpsc::Sender<Event>,
}

#[tonic::async_trait]
impl Agent for Service {
    type WatchStream = FeedStream<WatchResponse>;

    async fn watch(&self, _request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let ending = || Status::unavailable("the agent ends");
        let (reply, stream) = oneshot::channel();
        self.events.send(Event::Watch(reply)).await.map_err(|_| ending())?;
        stream.await.map(Response::new).map_err(|_| ending())
    }
}
