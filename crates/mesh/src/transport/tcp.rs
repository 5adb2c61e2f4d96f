//! Plain TCP.

use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::wrappers::TcpListenerStream;

use super::{Io, Listener, SharedTransport, Transport, TransportError};

/// TCP without TLS, for loopback and trusted networks.
#[must_use]
pub fn tcp() -> SharedTransport {
    Arc::new(Tcp)
}

#[derive(Debug)]
struct Tcp;

pub(super) async fn bind(address: &str) -> Result<(String, TcpListener), TransportError> {
    let failed = |source| TransportError::Bind { address: address.to_owned(), source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let actual = listener.local_addr().map_err(failed)?.to_string();
    Ok((actual, listener))
}

pub(super) async fn connect(address: &str) -> Result<TcpStream, TransportError> {
    let failed = |source| TransportError::Connect { address: address.to_owned(), source };
    let stream = TcpStream::connect(address).await.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    Ok(stream)
}

#[async_trait]
impl Transport for Tcp {
    async fn bind(&self, address: &str) -> Result<Listener, TransportError> {
        let (address, listener) = bind(address).await?;
        let incoming = TcpListenerStream::new(listener).map(|accepted| {
            let stream = accepted?;
            stream.set_nodelay(true)?;
            let peer = stream.peer_addr().ok().map(|address| address.ip());
            Ok(Io::new(stream).from_peer(peer))
        });
        Ok(Listener { address, incoming: Box::pin(incoming) })
    }

    async fn connect(&self, address: &str) -> Result<Io, TransportError> {
        Ok(Io::new(connect(address).await?))
    }
}
