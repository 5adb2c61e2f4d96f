//! gRPC channels to other services, over the environment's transport.

use std::time::Duration;

use hyper_util::rt::TokioIo;
use tonic::{
    service::interceptor::InterceptedService,
    transport::{Channel, Endpoint, Uri},
};
use tower::service_fn;

use crate::{Env, trace::Inject};

/// Largest gRPC message either way. Set it on clients and servers alike
/// (`max_decoding_message_size`, `max_encoding_message_size`).
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;

/// How long a connection attempt may take.
const CONNECT: Duration = Duration::from_secs(2);
/// A silent connection is probed after this time, and given up when the probe is not answered in as long.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(2);

/// A channel that carries the current trace along.
pub type MeshChannel = InterceptedService<Channel, Inject>;

/// A channel to the service at `address`. It connects when first used and again after a break.
#[must_use]
pub fn connect(env: &Env, address: &str) -> MeshChannel {
    let transport = env.transport.clone();
    let target = address.to_owned();
    let connector = service_fn(move |_: Uri| {
        let (transport, target) = (transport.clone(), target.clone());
        async move { transport.connect(&target).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://meshos.internal")
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .connect_with_connector_lazy(connector);
    InterceptedService::new(channel, Inject)
}
