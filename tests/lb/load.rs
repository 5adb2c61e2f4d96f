//! Clients that ask without a pause.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use tokio::time::Instant;

/// HAProxy closes connections that are idle for a second.
const IDLE: Duration = Duration::from_millis(500);

/// One request on a connection of its own; the body of a 200.
pub(crate) fn get(port: u16, host: &str, path: &str) -> io::Result<String> {
    let mut connection = connect(port)?;
    ask(&mut connection, host, path, false).map(|(body, _)| body)
}

fn connect(port: u16) -> io::Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.set_nodelay(true)?;
    Ok(BufReader::new(stream))
}

/// The body, and whether the connection stays open.
fn ask(
    connection: &mut BufReader<TcpStream>,
    host: &str,
    path: &str,
    keep: bool,
) -> io::Result<(String, bool)> {
    let close = if keep { "" } else { "Connection: close\r\n" };
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{close}\r\n");
    connection.get_mut().write_all(request.as_bytes())?;
    let mut status = String::new();
    if connection.read_line(&mut status)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    // An answer of HTTP/1.0 says that the connection stays, one of 1.1 that it does not.
    let (mut length, mut stays) = (0, keep && !status.starts_with("HTTP/1.0"));
    loop {
        let mut line = String::new();
        connection.read_line(&mut line).map_err(io::Error::other)?;
        let line = line.trim_end().to_ascii_lowercase();
        match line.split_once(": ") {
            Some(("content-length", value)) => length = value.parse().unwrap_or(0),
            Some(("connection", "close")) => stays = false,
            Some(("connection", "keep-alive")) => stays = keep,
            _ => {}
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body).map_err(io::Error::other)?;
    if !status.contains(" 200 ") {
        return Err(io::Error::other(status));
    }
    Ok((String::from_utf8_lossy(&body).into_owned(), stays))
}

/// Whether the connection was closed before anything was answered.
fn is_closed(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | BrokenPipe)
}

pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    /// `keep`: on connections that stay open.
    pub(crate) fn start(clients: usize, keep: bool, port: u16, host: &'static str) -> Self {
        let (stop, asked): (Arc<AtomicBool>, Arc<AtomicU64>) = Default::default();
        let client = |_| {
            let (stop, asked) = (Arc::clone(&stop), Arc::clone(&asked));
            std::thread::spawn(move || {
                let (mut failures, mut open): (_, Option<(BufReader<TcpStream>, Instant)>) =
                    (Vec::new(), None);
                let began = Instant::now();
                while !stop.load(Ordering::Relaxed) {
                    // As clients do: what has been idle is about to be closed by the other side.
                    let kept = open.take().filter(|(_, used)| used.elapsed() < IDLE).map(|(kept, _)| kept);
                    let (first, sent) = (kept.is_none(), Instant::now());
                    let asking = |mut connection| {
                        let (_, stays) = ask(&mut connection, host, "/", keep)?;
                        Ok(stays.then_some(connection))
                    };
                    let answer = match kept.map(asking) {
                        // A slow client meets one that has been closed meanwhile: RFC 9112, section 9.3.1.
                        Some(Err(error)) if is_closed(&error) => connect(port).and_then(asking),
                        Some(answer) => answer,
                        None => connect(port).and_then(asking),
                    };
                    match answer {
                        Ok(connection) => open = connection.map(|connection| (connection, Instant::now())),
                        Err(error) => failures.push(format!(
                            "{error} (keep {keep}, first {first}, sent {:?} after the start, failed {:?} later)",
                            sent - began,
                            sent.elapsed()
                        )),
                    }
                    asked.fetch_add(1, Ordering::Relaxed);
                    // The tasks need the machine as well.
                    std::thread::sleep(Duration::from_millis(1));
                }
                failures
            })
        };
        let clients = (0..clients).map(client).collect();
        Self { stop, asked, clients }
    }

    /// How many requests there were, and what failed.
    pub(crate) fn stop(self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let failures = self.clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        (self.asked.load(Ordering::Relaxed), failures)
    }
}
