//! The web servers that simulated tasks would be. Agents have loopback addresses of their own. Where there are many
//! tasks, one listener per port serves all agents of the process, and what is asked of a task that does not run is cut off;
//! where there are few, each has a listener, and dies with it and its connections as a process would.

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
    task::{AbortHandle, JoinSet},
    time::sleep,
};

/// What `/slow` takes.
pub(crate) const SLOW: Duration = Duration::from_secs(1);
/// Between two tries to listen.
const RETRY: Duration = Duration::from_millis(1);
/// Longest request.
const LONGEST: usize = 8 * 1024;
/// Bytes of an answer's body.
const BODY: usize = 1024;

/// Tasks that answer at the moment, by address and port, each with a number of its own: a successor may get both.
#[derive(Debug)]
pub(crate) struct Serving {
    listen_each: bool,
    tasks: RefCell<Tasks>,
}

type Place = (Ipv4Addr, u16);

#[derive(Debug, Default)]
struct Tasks {
    begun: u64,
    by_place: BTreeMap<Place, u64>,
    /// Ends listeners with their connections.
    listeners: BTreeMap<Place, AbortHandle>,
}

impl Serving {
    pub(crate) fn new(listen_each: bool) -> Self {
        Self { listen_each, tasks: RefCell::default() }
    }

    pub(crate) fn begin(self: &Rc<Self>, address: Ipv4Addr, ports: impl IntoIterator<Item = u16>) {
        let mut tasks = self.tasks.borrow_mut();
        tasks.begun += 1;
        let number = tasks.begun;
        for port in ports {
            let place = (address, port);
            tasks.by_place.insert(place, number);
            if self.listen_each
                && let Some(old) = tasks.listeners.insert(place, self.listen_at(place))
            {
                old.abort();
            }
        }
    }

    #[allow(clippy::disallowed_methods, reason = "tasks of one thread, which ends with the process")]
    fn listen_at(self: &Rc<Self>, place: Place) -> AbortHandle {
        let serving = Rc::clone(self);
        let listener = async move {
            // The listener of who was there before goes when its task is dropped, which may be a moment from now.
            let listener = loop {
                match TcpListener::bind(place).await {
                    Ok(listener) => break listener,
                    Err(_) => sleep(RETRY).await,
                }
            };
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    biased;
                    Some(_) = connections.join_next() => {}
                    accepted = listener.accept() => {
                        if let Ok((stream, _)) = accepted {
                            connections.spawn_local(connection(stream, Rc::clone(&serving)));
                        }
                    }
                }
            }
        };
        tokio::task::spawn_local(listener).abort_handle()
    }

    pub(crate) fn end(&self, address: Ipv4Addr, ports: impl IntoIterator<Item = u16>) {
        let mut serving = self.tasks.borrow_mut();
        for port in ports {
            serving.by_place.remove(&(address, port));
            if let Some(listener) = serving.listeners.remove(&(address, port)) {
                listener.abort();
            }
        }
    }

    /// Who answers there.
    fn task(&self, at: SocketAddr) -> Option<u64> {
        let IpAddr::V4(address) = at.ip() else { return None };
        self.tasks.borrow().by_place.get(&(address, at.port())).copied()
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
