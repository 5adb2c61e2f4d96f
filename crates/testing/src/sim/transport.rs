//! The simulated network as a transport of the mesh.

use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt, stream};
use meshos_mesh::{Listener, SharedTransport, Transport, TransportError, transport::Io};
use turmoil::net::{TcpListener, TcpStream};

/// Streams of the simulated host that the caller runs on. Others reach it as `<host name>:<port>`.
pub(crate) fn simulated() -> SharedTransport {
    Arc::new(Simulated)
}

#[derive(Debug)]
struct Simulated;

#[async_trait]
impl Transport for Simulated {
    async fn bind(&self, address: &str) -> Result<Listener, TransportError> {
        let failed = |source| TransportError::Bind { address: address.to_owned(), source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let incoming = stream::unfold(listener, |listener| async move {
            let accepted = listener.accept().await.map(|(stream, _)| Io::new(stream));
            Some((accepted, listener))
        });
        Ok(Listener { address: address.to_owned(), incoming: incoming.boxed() })
    }

    async fn connect(&self, address: &str) -> Result<Io, TransportError> {
        let failed = |source| TransportError::Connect { address: address.to_owned(), source };
        Ok(Io::new(TcpStream::connect(address).await.map_err(failed)?))
    }
}
