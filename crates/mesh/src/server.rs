//! gRPC servers: health, trace context, keep-alive, graceful end.

use futures::StreamExt;
use tonic::{service::Routes, transport::Server};
use tonic_health::server::HealthReporter;
use tracing::{debug, error};

use crate::{Env, Listener, channel::KEEP_ALIVE, trace::ExtractLayer};

/// Streams on one connection. Services share one for all they have to say: a gateway has a stream open for every
/// framework and more for their calls, so hyper's default of 200 would stop them for ever.
const MAX_STREAMS: u32 = 1 << 16;

/// A running server.
#[derive(Clone, Debug)]
pub struct Serving {
    /// What others connect to.
    pub address: String,
    health: HealthReporter,
}

impl Serving {
    /// Reports the process as ready (gRPC health, service name empty).
    pub async fn ready(&self) {
        self.health.set_service_status("", tonic_health::ServingStatus::Serving).await;
    }

    /// Reports the process as not ready.
    pub async fn not_ready(&self) {
        self.health.set_service_status("", tonic_health::ServingStatus::NotServing).await;
    }
}

/// Serves `routes` on `listener` until the environment's tasks stop. Not ready at first:
/// call [`Serving::ready`] once the dependencies answer.
pub async fn serve(env: &Env, name: &'static str, listener: Listener, routes: Routes) -> Serving {
    let (health, health_server) = tonic_health::server::health_reporter();
    let serving = Serving { address: listener.address.clone(), health };
    serving.not_ready().await;
    let routes = routes.add_service(health_server);
    let stop = env.tasks.stopping();
    // A connection that failed while it was opened ends alone, not the listener.
    let incoming = listener.incoming.filter_map(|accepted| async move {
        accepted.inspect_err(|error| debug!(%error, "connection failed")).ok().map(Ok::<_, std::io::Error>)
    });
    let address = serving.address.clone();
    env.tasks.spawn(name, async move {
        let served = Server::builder()
            .http2_keepalive_interval(Some(KEEP_ALIVE))
            .http2_keepalive_timeout(Some(KEEP_ALIVE))
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(4 << 20)
            .max_concurrent_streams(MAX_STREAMS)
            .layer(ExtractLayer)
            .add_routes(routes)
            .serve_with_incoming_shutdown(incoming, stop.cancelled_owned())
            .await;
        if let Err(error) = served {
            error!(%address, %error, "gRPC server ended");
        }
    });
    serving
}
