//! Clients that ask without a pause.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use crate::statistics::Samples;

/// No answer takes longer.
const PATIENCE: Duration = Duration::from_secs(30);
/// HAProxy closes connections that are idle for a second.
const IDLE: Duration = Duration::from_millis(500);
/// Between two new connections of one client: ports must last.
const PAUSE: Duration = Duration::from_millis(1);

/// What is sent, as it goes over the wire: made once, sent often.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    text: String,
    keep: bool,
}

impl Request {
    pub(crate) fn new(host: &str, path: &str, keep: bool) -> Self {
        let close = if keep { "" } else { "Connection: close\r\n" };
        Self { text: format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{close}\r\n"), keep }
    }
}

/// One connection to HAProxy.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    /// What has been read of an answer.
    answer: Vec<u8>,
}

/// A 200.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Number of who answered.
    pub(crate) task: u64,
    /// The connection stays open.
    pub(crate) stays: bool,
}

impl Connection {
    pub(crate) async fn open(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, answer: Vec::with_capacity(2048) })
    }

    /// One request; whatever is no 200 is an error.
    pub(crate) async fn ask(&mut self, request: &Request) -> io::Result<Answer> {
        let answer = timeout(PATIENCE, self.exchange(request)).await;
        answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    async fn exchange(&mut self, request: &Request) -> io::Result<Answer> {
        self.stream.write_all(request.text.as_bytes()).await?;
        self.answer.clear();
        let mut whole = None;
        loop {
            if self.stream.read_buf(&mut self.answer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if whole.is_none() {
                whole = head(&self.answer)?;
            }
            if let Some(head) = &whole
                && self.answer.len() >= head.length
            {
                return Ok(Answer { task: head.task, stays: request.keep && !head.closes });
            }
        }
    }
}

/// The begin of a 200.
#[derive(Debug, PartialEq)]
struct Head {
    task: u64,
    closes: bool,
    /// With the body.
    length: usize,
}

/// None before all of it is there; another status is an error.
fn head(answer: &[u8]) -> io::Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; 16];
    let mut response = httparse::Response::new(&mut headers);
    let Ok(httparse::Status::Complete(begin)) = response.parse(answer) else { return Ok(None) };
    if response.code != Some(200) {
        return Err(io::Error::other(format!("status {:?}", response.code)));
    }
    let value = |name: &str| {
        let header = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(header.value).ok()
    };
    let number = |name: &str| value(name).and_then(|value| value.parse().ok()).unwrap_or(0_u64);
    Ok(Some(Head {
        task: number("x-task"),
        closes: value("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")),
        length: begin + usize::try_from(number("content-length")).unwrap_or_default(),
    }))
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

/// Clients at work, in a thread of their own.
#[derive(Debug)]
pub(crate) struct Load {
    shared: Arc<Shared>,
    thread: JoinHandle<io::Result<()>>,
}

impl Load {
    /// So many clients of each kind.
    pub(crate) fn start(port: u16, host: &str, clients: &[(Kind, usize)]) -> Self {
        let shared = Arc::new(Shared::default());
        let kinds = clients.iter().flat_map(|(kind, count)| std::iter::repeat_n(*kind, *count));
        let kinds: Vec<Kind> = kinds.collect();
        let (of_clients, host) = (Arc::clone(&shared), host.to_owned());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let mut clients = tokio::task::JoinSet::new();
            for kind in kinds {
                clients.spawn_on(client(Arc::clone(&of_clients), port, host.clone(), kind), runtime.handle());
            }
            // A client does not panic; what it counted stands.
            runtime.block_on(async { while clients.join_next().await.is_some() {} });
            Ok(())
        });
        Self { shared, thread }
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
        // It cannot be waited for here without holding up others; clients end by themselves.
        let _ = tokio::task::spawn_blocking(|| self.thread.join()).await;
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
    let request = Request::new(&host, kind.path(), keep);
    let mut open: Option<(Connection, Instant)> = None;
    while !shared.stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        let result = async {
            let mut connection = match open.take() {
                Some((connection, used)) if used.elapsed() < IDLE => connection,
                // What has been idle is about to be closed by the other side.
                _ => Connection::open(port).await?,
            };
            let answer = connection.ask(&request).await?;
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

    #[test]
    fn answers_are_understood() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-Task: 7\r\nconnection: close\r\n\r\nabc";
        for end in 0..text.len() - 3 {
            assert_eq!(head(&text[..end]).unwrap(), None, "{end}");
        }
        let whole = Head { task: 7, closes: true, length: text.len() };
        assert_eq!(head(&text[..text.len() - 3]).unwrap(), Some(whole));
        assert!(head(b"HTTP/1.1 503 Service Unavailable\r\n\r\n").is_err());
    }

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
