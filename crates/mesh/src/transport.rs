//! Byte streams between services: TCP, TLS, in-memory pipes, or a simulated network.

mod memory;
mod tcp;
mod tls;

use std::{
    fmt, io,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use async_trait::async_trait;
use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

pub use memory::memory;
pub use tcp::tcp;
pub use tls::{TlsFiles, tls};

/// Why no stream came about.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    #[error("cannot listen on {address}: {source}; choose another address or stop what holds it")]
    Bind { address: String, source: io::Error },
    #[error("cannot connect to {address}: {source}")]
    Connect { address: String, source: io::Error },
    #[error("TLS file {path}: {reason}")]
    Tls { path: String, reason: String },
}

/// What carries bytes both ways.
pub trait ByteStream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> ByteStream for T {}

/// An open byte stream.
pub struct Io {
    stream: Box<dyn ByteStream>,
    peer: Option<IpAddr>,
}

impl Io {
    /// Wraps any byte stream.
    pub fn new(stream: impl ByteStream) -> Self {
        Self { stream: Box::new(stream), peer: None }
    }

    /// The same, opened by this peer.
    #[must_use]
    pub fn from_peer(self, peer: Option<IpAddr>) -> Self {
        Self { peer, ..self }
    }

    /// Who opened it, where that is known.
    #[must_use]
    pub fn peer(&self) -> Option<IpAddr> {
        self.peer
    }
}

impl fmt::Debug for Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Io")
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_shutdown(cx)
    }
}

impl Connected for Io {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

/// Streams that peers opened; a failed one is skipped by the server, it does not end the listener.
pub type Incoming = Pin<Box<dyn Stream<Item = io::Result<Io>> + Send>>;

/// A bound address.
pub struct Listener {
    /// What others connect to: a port 0 has been resolved.
    pub address: String,
    pub incoming: Incoming,
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Opens and accepts byte streams.
#[async_trait]
pub trait Transport: Send + Sync + fmt::Debug + 'static {
    /// Listens on `address` (`host:port`, or a name for in-memory ones).
    ///
    /// # Errors
    /// [`TransportError::Bind`] when the address is taken or not ours.
    async fn bind(&self, address: &str) -> Result<Listener, TransportError>;

    /// Connects to what listens on `address`.
    ///
    /// # Errors
    /// [`TransportError::Connect`] when nobody listens there.
    async fn connect(&self, address: &str) -> Result<Io, TransportError>;
}

/// A transport that services share.
pub type SharedTransport = Arc<dyn Transport>;
