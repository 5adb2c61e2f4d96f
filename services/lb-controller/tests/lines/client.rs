//! Requests as clients make them.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use meshos_mesh::Env;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(120);

/// An answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Which task answered.
    pub(crate) fn task(&self) -> &str {
        self.body.split(':').next().unwrap_or_default()
    }

    /// What the task was asked for.
    pub(crate) fn path(&self) -> &str {
        self.body.lines().next().unwrap_or_default().split_once(':').map_or("", |(_, path)| path)
    }

    /// A header as the task got it.
    pub(crate) fn got(&self, name: &str) -> Option<&str> {
        self.body.lines().skip(1).find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    pub(crate) fn cookie(&self) -> Option<&str> {
        self.header("set-cookie").map(|cookie| cookie.split(';').next().unwrap())
    }
}

/// A request on a connection that is open; the connection stays open when HAProxy says so.
pub(crate) async fn exchange(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    host: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> io::Result<Answer> {
    let mut request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await?;
    read_answer(stream).await
}

pub(crate) async fn read_answer(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Answer> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{} bytes", bytes.len())));
        }
        bytes.extend_from_slice(&buffer[..count]);
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.lines();
    let status = lines.next().unwrap_or_default().split(' ').nth(1).and_then(|code| code.parse().ok());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let mut answer = Answer { status: status.unwrap_or(0), headers, body: String::new() };
    let length = answer.header("content-length").and_then(|length| length.parse::<usize>().ok());
    while length.is_none_or(|length| bytes.len() < end + length) && answer.status != 101 {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            if length.is_some() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            break;
        }
        bytes.extend_from_slice(&buffer[..count]);
    }
    answer.body = String::from_utf8_lossy(&bytes[end..]).into_owned();
    Ok(answer)
}

/// One request on a connection of its own.
pub(crate) async fn get(port: u16, host: &str, path: &str, headers: &[(&str, &str)]) -> io::Result<Answer> {
    let asked = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        let mut all = headers.to_vec();
        all.push(("Connection", "close"));
        exchange(&mut stream, host, path, &all).await
    };
    timeout(PATIENCE, asked).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Clients that ask without a pause until they are stopped.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    failures: tokio::sync::mpsc::UnboundedReceiver<String>,
    ended: tokio::sync::mpsc::Receiver<()>,
}

impl Load {
    /// `keep`: with connections that stay open. What is not answered 200 counts as failed.
    pub(crate) fn start(env: &Env, clients: usize, keep: bool, port: u16, host: &str) -> Self {
        let (failed, failures) = tokio::sync::mpsc::unbounded_channel();
        let (alive, ended) = tokio::sync::mpsc::channel(1);
        let load = Self { stop: Arc::default(), asked: Arc::default(), failures, ended };
        for _ in 0..clients {
            let (stop, asked, failed) = (Arc::clone(&load.stop), Arc::clone(&load.asked), failed.clone());
            let (alive, host) = (alive.clone(), host.to_owned());
            env.tasks.spawn("load", async move {
                let _alive = alive;
                let mut open = None;
                while !stop.load(Ordering::Relaxed) {
                    match ask(&mut open, keep, port, &host).await {
                        Ok(answer) if answer.status == 200 => {}
                        Ok(answer) => drop(failed.send(format!("{}", answer.status))),
                        Err(error) => {
                            open = None;
                            drop(failed.send(error.to_string()));
                        }
                    }
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        load
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// Stops them; what failed.
    pub(crate) async fn stop(mut self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.ended.recv().await;
        let mut failures = Vec::new();
        while let Ok(failure) = self.failures.try_recv() {
            failures.push(failure);
        }
        // Enough to see what happened.
        failures.truncate(10);
        failures
    }
}

async fn ask(open: &mut Option<TcpStream>, keep: bool, port: u16, host: &str) -> io::Result<Answer> {
    if !keep {
        return get(port, host, "/", &[]).await;
    }
    if open.is_none() {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        *open = Some(stream);
    }
    let stream = open.as_mut().unwrap();
    let answer = timeout(PATIENCE, exchange(stream, host, "/", &[])).await;
    let answer = answer.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    if answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
        *open = None;
    }
    Ok(answer)
}
