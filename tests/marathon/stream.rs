//! A reader of `/v2/events`.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    sync::{Arc, Mutex},
};

use meshos_testing::{Http, wait::until_blocking};
use serde_json::Value;

#[derive(Debug, Default)]
struct Heard {
    /// After the head, chunks taken apart.
    text: String,
    ended: bool,
}

/// Reads in the background until it is dropped or the server ends the stream.
pub(crate) struct Stream {
    pub(crate) status: u16,
    socket: TcpStream,
    read: Arc<Mutex<Heard>>,
}

/// One event with its id.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) id: Option<String>,
    pub(crate) kind: String,
    pub(crate) data: Value,
}

impl Stream {
    /// Opens it; `query` begins with `?` or is empty.
    pub(crate) fn open(server: &Http, query: &str, last_event_id: Option<&str>) -> Self {
        let mut socket = TcpStream::connect(&server.address).unwrap();
        let last = last_event_id.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        let request =
            format!("GET /v2/events{query} HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n{last}\r\n");
        socket.write_all(request.as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        assert!(head.to_lowercase().contains("content-type: text/event-stream"), "{head}");
        let read = Arc::<Mutex<Heard>>::default();
        let (shared, mut reader) = (Arc::clone(&read), socket.try_clone().unwrap());
        std::thread::spawn(move || {
            // An error is the end, as an end is.
            let _ = take_chunks(&mut reader, &shared);
            shared.lock().unwrap().ended = true;
        });
        Self { status, socket, read }
    }

    pub(crate) fn text(&self) -> String {
        self.read.lock().unwrap().text.clone()
    }

    /// All whole events so far.
    pub(crate) fn events(&self) -> Vec<Event> {
        let text = self.text();
        let whole = text.rsplit_once("\n\n").map_or("", |(whole, _)| whole);
        whole.split("\n\n").filter_map(event).collect()
    }

    /// Waits until `pick` finds something in the events.
    pub(crate) fn until<T>(&self, what: &str, pick: impl Fn(&[Event]) -> Option<T>) -> T {
        until_blocking(what, || {
            let events = self.events();
            pick(&events).ok_or_else(|| {
                let short = |event: &Event| format!("{} {}", event.kind, event.data);
                events.iter().map(short).collect::<Vec<_>>()
            })
        })
    }

    /// Waits for an event of this type that satisfies `is`.
    pub(crate) fn event(&self, kind: &str, is: impl Fn(&Value) -> bool) -> Event {
        self.until(kind, |events| events.iter().find(|event| event.kind == kind && is(&event.data)).cloned())
    }

    /// Places of events in the stream, by type and a test of the body.
    pub(crate) fn place(&self, kind: &str, is: impl Fn(&Value) -> bool) -> usize {
        self.until(kind, |events| events.iter().position(|event| event.kind == kind && is(&event.data)))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // It may be closed already.
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }
}

fn event(frame: &str) -> Option<Event> {
    let field = |name: &str| frame.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let data = serde_json::from_str(field("data")?).unwrap();
    Some(Event { id: field("id").map(str::to_owned), kind: field("event")?.to_owned(), data })
}

fn take_chunks(reader: &mut TcpStream, shared: &Mutex<Heard>) -> io::Result<()> {
    loop {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            reader.read_exact(&mut byte)?;
            line.push(byte[0]);
        }
        let size = std::str::from_utf8(&line).map_err(io::Error::other)?;
        let size = usize::from_str_radix(size.trim(), 16).map_err(io::Error::other)?;
        let mut chunk = vec![0; size + 2];
        reader.read_exact(&mut chunk)?;
        if size == 0 {
            return Ok(());
        }
        shared.lock().unwrap().text.push_str(&String::from_utf8_lossy(&chunk[..size]));
    }
}
