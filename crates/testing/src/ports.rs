//! Ports for processes that must be told theirs before they start.

use std::{
    io::{self, Error, ErrorKind},
    net::TcpListener,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixListener},
    },
    sync::{Mutex, PoisonError},
};

/// Between apps' service ports and the ports of agents' tasks, and below those that the kernel gives to outgoing
/// connections.
const RANGE: std::ops::Range<u16> = 20_001..30_000;

/// What is taken by this process; given back when it ends. Others see it as an abstract socket of that name.
static TAKEN: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());

/// Ports of 127.0.0.1 on which nobody listens, and which no other test takes while this process lives.
///
/// # Errors
/// When fewer are left.
pub fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut ports = Vec::with_capacity(count);
    let len = u32::from(RANGE.end - RANGE.start);
    // Processes that start together begin at different places.
    let first = std::process::id() % len * 37;
    for step in 0..len {
        if ports.len() == count {
            break;
        }
        let port = RANGE.start + u16::try_from((first + step) % len).map_err(Error::other)?;
        let name = SocketAddr::from_abstract_name(format!("meshos-test-port-{port}"))?;
        let Ok(claim) = UnixListener::bind_addr(&name) else { continue };
        if TcpListener::bind(("127.0.0.1", port)).is_ok() && TcpListener::bind(("0.0.0.0", port)).is_ok() {
            ports.push(port);
            taken.push(claim);
        }
    }
    match ports.len() == count {
        true => Ok(ports),
        false => Err(Error::new(ErrorKind::AddrInUse, "no port is left for the test")),
    }
}

/// `N` of them.
///
/// # Panics
/// When fewer are left.
#[must_use]
pub fn ports<const N: usize>() -> [u16; N] {
    free_ports(N).and_then(|ports| ports.try_into().map_err(|_| Error::other("count"))).unwrap()
}
