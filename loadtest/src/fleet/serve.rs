//! The web servers that simulated tasks would be: one listener per port for all agents of the process, which have
//! loopback addresses of their own. What is asked of a task that does not run is cut off.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    rc::Rc,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::sleep,
};

/// What `/slow` takes.
pub(crate) const SLOW: Duration = Duration::from_secs(1);
/// Longest request.
const LONGEST: usize = 8 * 1024;
/// Bytes of an answer's body.
const BODY: usize = 1024;

/// Tasks that answer at the moment, by address and port, each with a number of its own: a successor may get both.
#[derive(Debug, Default)]
pub(crate) struct Serving(RefCell<Tasks>);

#[derive(Debug, Default)]
struct Tasks {
    begun: u64,
    by_place: BTreeMap<(Ipv4Addr, u16), u64>,
}

impl Serving {
    pub(crate) fn begin(&self, address: Ipv4Addr, ports: impl IntoIterator<Item = u16>) {
        let mut tasks = self.0.borrow_mut();
        tasks.begun += 1;
        let number = tasks.begun;
        tasks.by_place.extend(ports.into_iter().map(|port| ((address, port), number)));
    }

    pub(crate) fn end(&self, address: Ipv4Addr, ports: impl IntoIterator<Item = u16>) {
        let mut serving = self.0.borrow_mut();
        for port in ports {
            serving.by_place.remove(&(address, port));
        }
    }

    /// Who answers there.
    fn task(&self, at: SocketAddr) -> Option<u64> {
        let IpAddr::V4(address) = at.ip() else { return None };
        self.0.borrow().by_place.get(&(address, at.port())).copied()
    }
}

/// The address of the n-th agent of a process.
pub(crate) fn address(process: usize, agent: usize) -> Ipv4Addr {
    let part = |number: usize| u8::try_from(number % 250 + 1).unwrap_or(1);
    Ipv4Addr::new(127, part(process + 1), part(agent / 250), part(agent))
}

/// Listens on a port of all addresses.
#[allow(clippy::disallowed_methods, reason = "tasks of one thread, which ends with the process")]
pub(crate) async fn listen(port: u16, serving: Rc<Serving>) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await?;
    tokio::task::spawn_local(async move {
        loop {
            if let Ok((stream, _)) = listener.accept().await {
                tokio::task::spawn_local(connection(stream, Rc::clone(&serving)));
            }
        }
    });
    Ok(())
}

/// Answers until either side has enough; an error ends the connection.
async fn connection(mut stream: TcpStream, serving: Rc<Serving>) -> io::Result<()> {
    let at = stream.local_addr()?;
    stream.set_nodelay(true)?;
    let body = "x".repeat(BODY);
    let mut request = Vec::new();
    loop {
        while !request.ends_with(b"\r\n\r\n") {
            if request.len() > LONGEST || stream.read_buf(&mut request).await? == 0 {
                return Ok(());
            }
        }
        if request.starts_with(b"GET /slow") {
            sleep(SLOW).await;
        }
        let Some(task) = serving.task(at) else { return Ok(()) };
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {BODY}\r\nX-Task: {task}\r\n\r\n{body}"
        );
        request.clear();
        stream.write_all(answer.as_bytes()).await?;
    }
}
