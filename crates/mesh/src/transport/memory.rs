//! In-memory pipes between services of one process.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use futures::StreamExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{Io, Listener, SharedTransport, Transport, TransportError};

/// Bytes that one side may be ahead of the other.
const PIPE_BYTES: usize = 64 * 1024;
/// Connections that wait to be accepted.
const BACKLOG: usize = 128;

/// A network of its own inside this process; any name is an address.
#[must_use]
pub fn memory() -> SharedTransport {
    Arc::new(Memory::default())
}

#[derive(Debug, Default)]
struct Memory {
    listeners: Mutex<BTreeMap<String, mpsc::Sender<Io>>>,
}

#[async_trait]
impl Transport for Memory {
    async fn bind(&self, address: &str) -> Result<Listener, TransportError> {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        if listeners.get(address).is_some_and(|existing| !existing.is_closed()) {
            let source = io::Error::from(io::ErrorKind::AddrInUse);
            return Err(TransportError::Bind { address: address.to_owned(), source });
        }
        listeners.insert(address.to_owned(), sender);
        let incoming = ReceiverStream::new(receiver).map(Ok);
        Ok(Listener { address: address.to_owned(), incoming: Box::pin(incoming) })
    }

    async fn connect(&self, address: &str) -> Result<Io, TransportError> {
        let refused = || TransportError::Connect {
            address: address.to_owned(),
            source: io::Error::from(io::ErrorKind::ConnectionRefused),
        };
        let listener = {
            let listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
            listeners.get(address).cloned().ok_or_else(refused)?
        };
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        listener.send(Io::new(theirs)).await.map_err(|_| refused())?;
        Ok(Io::new(ours))
    }
}
