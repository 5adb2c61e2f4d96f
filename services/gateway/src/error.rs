//! Why the gateway cannot start.

use meshos_mesh::TransportError;

/// Start-up failures; once it runs, each failure is answered to its own client.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the Mesos API ({flag}) cannot be served: {source}", flag = "--mesos-listen")]
    Mesos { source: TransportError },
    #[error("the Marathon API ({flag}) cannot be served: {source}", flag = "--marathon-listen")]
    Marathon { source: TransportError },
    #[error("the gRPC server cannot be served: {source}")]
    Grpc { source: TransportError },
}
