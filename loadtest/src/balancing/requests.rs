//! Clients that ask without a pause.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use crate::statistics::Samples;

/// No answer takes longer.
const PATIENCE: Duration = Duration::from_secs(30);
/// HAProxy closes connections that are idle for a second.
const IDLE: Duration = Duration::from_millis(500);
/// Between two new connections of one client: ports must last.
const PAUSE: Duration = Duration::from_millis(1);

/// One connection to HAProxy.
#[derive(Debug)]
pub(crate) struct Connection(BufReader<TcpStream>);

/// A 200.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Number of who answered.
    pub(crate) task: String,
    /// The connection stays open.
    pub(crate) stays: bool,
}

impl Connection {
    pub(crate) async fn open(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    /// One request; whatever is no 200 is an error.
    pub(crate) async fn ask(&mut self, host: &str, path: &str, keep: bool) -> io::Result<Answer> {
        let answer = timeout(PATIENCE, self.exchange(host, path, keep)).await;
        answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    async fn exchange(&mut self, host: &str, path: &str, keep: bool) -> io::Result<Answer> {
        let close = if keep { "" } else { "Connection: close\r\n" };
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{close}\r\n");
        self.0.get_mut().write_all(request.as_bytes()).await?;
        let mut answer = Answer { task: String::new(), stays: keep };
        let (mut status, mut length) = (String::new(), 0);
        if self.0.read_line(&mut status).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let line = line.trim_end().to_ascii_lowercase();
            match line.split_once(": ") {
                Some(("content-length", value)) => length = value.parse().unwrap_or_default(),
                Some(("connection", "close")) => answer.stays = false,
                Some(("x-task", value)) => value.clone_into(&mut answer.task),
                None if line.is_empty() => break,
                _ => {}
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await?;
        if status.contains(" 200 ") { Ok(answer) } else { Err(io::Error::other(status)) }
    }
}

/// A request that was not answered with 200.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    what: String,
    began: Instant,
    ended: Instant,
}

/// When an instance was killed: it served before the first moment, and not after the second.
pub(crate) type Kill = (Instant, Instant);

impl Failure {
    /// Whether it was under way when an instance was killed.
    fn spans(&self, (before, after): &Kill) -> bool {
        self.began <= *after && self.ended >= *before
    }
}

/// What came of all requests.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) asked: u64,
    /// Lost with an instance that was killed.
    pub(crate) in_flight: u64,
    pub(crate) failed: u64,
    /// The first ones that failed.
    pub(crate) reasons: Vec<String>,
}

/// How a client connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    KeepAlive,
    NewConnections,
    /// Asks for what takes a second.
    Slow,
}

impl Kind {
    fn path(self) -> &'static str {
        if self == Self::Slow { "/slow" } else { "/" }
    }
}

/// How long requests took that take no time by themselves.
#[derive(Debug, Default)]
pub(crate) struct Lap {
    pub(crate) keep_alive: Samples,
    pub(crate) new_connections: Samples,
}

/// Failures that are kept.
const KEPT: usize = 10_000;

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    asked: AtomicU64,
    failures: Mutex<Vec<Failure>>,
    /// Failures that were too many to be kept.
    more: AtomicU64,
    lap: Mutex<Lap>,
}

impl Shared {
    fn note(&self, kind: Kind, began: Instant, failure: Option<io::Error>) {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let ended = Instant::now();
        if let Some(error) = failure {
            let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
            if failures.len() < KEPT {
                failures.push(Failure { what: format!("{kind:?}: {error}"), began, ended });
            } else {
                self.more.fetch_add(1, Ordering::Relaxed);
            }
        }
        let mut lap = self.lap.lock().unwrap_or_else(PoisonError::into_inner);
        match kind {
            Kind::KeepAlive => lap.keep_alive.add(ended - began),
            Kind::NewConnections => lap.new_connections.add(ended - began),
            Kind::Slow => {}
        }
    }
}

/// Clients at work.
#[derive(Debug)]
pub(crate) struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// So many clients of each kind.
    #[allow(clippy::disallowed_methods, reason = "clients that end with the load")]
    pub(crate) fn start(port: u16, host: &str, clients: &[(Kind, usize)]) -> Self {
        let shared = Arc::new(Shared::default());
        let kinds = clients.iter().flat_map(|(kind, count)| std::iter::repeat_n(*kind, *count));
        let client = |kind| tokio::spawn(client(Arc::clone(&shared), port, host.to_owned(), kind));
        let clients = kinds.map(client).collect();
        Self { shared, clients }
    }

    pub(crate) fn asked(&self) -> u64 {
        self.shared.asked.load(Ordering::Relaxed)
    }

    /// How long requests took since the last lap.
    pub(crate) fn lap(&self) -> Lap {
        std::mem::take(&mut self.shared.lap.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What came of it, with what was lost with killed instances apart.
    pub(crate) async fn stop(self, kills: &[Kill]) -> Outcome {
        self.shared.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            // A client does not panic; what it counted stands.
            let _ = client.await;
        }
        let failures =
            std::mem::take(&mut *self.shared.failures.lock().unwrap_or_else(PoisonError::into_inner));
        let asked = self.shared.asked.load(Ordering::Relaxed);
        outcome(asked, self.shared.more.load(Ordering::Relaxed), &failures, kills)
    }
}

fn outcome(asked: u64, more: u64, failures: &[Failure], kills: &[Kill]) -> Outcome {
    let mut outcome = Outcome { asked, failed: more, ..Outcome::default() };
    for failure in failures {
        if kills.iter().any(|kill| failure.spans(kill)) {
            outcome.in_flight += 1;
        } else {
            outcome.failed += 1;
            outcome.reasons.push(failure.what.clone());
        }
    }
    outcome.reasons.truncate(5);
    outcome
}

async fn client(shared: Arc<Shared>, port: u16, host: String, kind: Kind) {
    let keep = kind != Kind::NewConnections;
    let mut open: Option<(Connection, Instant)> = None;
    while !shared.stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        let result = async {
            let mut connection = match open.take() {
                Some((connection, used)) if used.elapsed() < IDLE => connection,
                // What has been idle is about to be closed by the other side.
                _ => Connection::open(port).await?,
            };
            let answer = connection.ask(&host, kind.path(), keep).await?;
            Ok::<_, io::Error>(answer.stays.then_some(connection))
        };
        let failure = match result.await {
            Ok(connection) => {
                open = connection.map(|connection| (connection, Instant::now()));
                None
            }
            Err(error) => Some(error),
        };
        shared.note(kind, began, failure);
        if !keep {
            sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_what_was_under_way_is_lost_with_an_instance() {
        let zero = Instant::now();
        let at = |ms| zero + Duration::from_millis(ms);
        let failure = |began, ended| Failure { what: "x".into(), began: at(began), ended: at(ended) };
        let kills = [(at(100), at(105))];
        for (began, ended, lost) in [(90, 110, true), (103, 104, true), (80, 99, false), (106, 120, false)] {
            let found = outcome(1, 0, &[failure(began, ended)], &kills);
            assert_eq!(
                (found.in_flight, found.failed),
                (u64::from(lost), u64::from(!lost)),
                "{began} {ended}"
            );
        }
        assert_eq!(outcome(9, 3, &[], &kills).failed, 3);
    }
}
