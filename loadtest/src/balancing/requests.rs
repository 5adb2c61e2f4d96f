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

/// No answer takes longer.
const PATIENCE: Duration = Duration::from_secs(30);
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

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    asked: AtomicU64,
    failures: Mutex<Vec<String>>,
    /// Of fast requests, since the last lap.
    times: Mutex<Vec<Duration>>,
}

/// Clients at work.
#[derive(Debug)]
pub(crate) struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// So many clients that keep their connection, that open one per request, that ask for what takes long.
    #[allow(clippy::disallowed_methods, reason = "clients that end with the load")]
    pub(crate) fn start(port: u16, host: &str, (keeping, opening, slow): (usize, usize, usize)) -> Self {
        let shared = Arc::new(Shared::default());
        let kinds = std::iter::repeat_n((true, "/"), keeping)
            .chain(std::iter::repeat_n((false, "/"), opening))
            .chain(std::iter::repeat_n((true, "/slow"), slow));
        let client =
            |(keep, path)| tokio::spawn(client(Arc::clone(&shared), port, host.to_owned(), path, keep));
        let clients = kinds.map(client).collect();
        Self { shared, clients }
    }

    pub(crate) fn asked(&self) -> u64 {
        self.shared.asked.load(Ordering::Relaxed)
    }

    /// How long fast requests took since the last lap.
    pub(crate) fn lap(&self) -> Vec<Duration> {
        std::mem::take(&mut self.shared.times.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many requests there were, and what failed.
    pub(crate) async fn stop(self) -> (u64, Vec<String>) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            // A client does not panic; what it counted stands.
            let _ = client.await;
        }
        let failures =
            std::mem::take(&mut *self.shared.failures.lock().unwrap_or_else(PoisonError::into_inner));
        (self.shared.asked.load(Ordering::Relaxed), failures)
    }
}

async fn client(shared: Arc<Shared>, port: u16, host: String, path: &'static str, keep: bool) {
    let mut open: Option<Connection> = None;
    while !shared.stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        let result = async {
            let mut connection = match open.take() {
                Some(connection) => connection,
                None => Connection::open(port).await?,
            };
            let answer = connection.ask(&host, path, keep).await?;
            Ok::<_, io::Error>(answer.stays.then_some(connection))
        };
        match result.await {
            Ok(connection) => open = connection,
            Err(error) => {
                shared
                    .failures
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(format!("{path}: {error}"));
            }
        }
        shared.asked.fetch_add(1, Ordering::Relaxed);
        if path == "/" {
            shared.times.lock().unwrap_or_else(PoisonError::into_inner).push(began.elapsed());
        }
        if !keep {
            sleep(PAUSE).await;
        }
    }
}
