//! Connections from within another process's network.

use std::{fs::File, io, net::SocketAddr, os::unix::fs::MetadataExt};

use nix::sched::{CloneFlags, setns};
use tokio::{
    net::{TcpSocket, TcpStream},
    sync::oneshot,
};

/// Connects as a process in the network of `pid` would.
///
/// # Errors
/// What the kernel says: there is no such process, nobody listens, this process may not.
pub(crate) async fn connect(pid: u32, address: SocketAddr) -> io::Result<TcpStream> {
    let network = File::open(format!("/proc/{pid}/ns/net"))?;
    let own = File::open("/proc/self/ns/net")?.metadata()?;
    let metadata = network.metadata()?;
    if (metadata.dev(), metadata.ino()) == (own.dev(), own.ino()) {
        return TcpStream::connect(address).await;
    }
    let (reply, made) = oneshot::channel();
    // A socket stays in the network that its thread was in; the thread is used for nothing else after.
    std::thread::Builder::new().name("network".to_owned()).spawn(move || {
        let _ = reply.send(socket_in(&network, address.is_ipv6()));
    })?;
    let gone = |_| io::Error::other("the thread that makes the socket is gone");
    made.await.map_err(gone)??.connect(address).await
}

fn socket_in(network: &File, v6: bool) -> io::Result<TcpSocket> {
    setns(network, CloneFlags::CLONE_NEWNET)?;
    let made = if v6 { TcpSocket::new_v6() } else { TcpSocket::new_v4() }?;
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_own_network_needs_no_other_thread() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        connect(std::process::id(), listener.local_addr().unwrap()).await.unwrap();
        assert!(connect(u32::MAX, listener.local_addr().unwrap()).await.is_err());
    }
}
