//! Event streams: an answer whose body goes on, as RecordIO.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use meshos_proto::recordio::Decoder;
use serde_json::Value;

use crate::{Http, wait::PATIENCE};

/// Largest record that a test reads, in bytes.
const LIMIT: usize = 64 << 20;

/// An open event stream; dropping it closes the connection.
#[derive(Debug)]
pub struct EventStream {
    pub status: u16,
    /// Names in lower case, in order.
    pub headers: Vec<(String, String)>,
    stream: TcpStream,
    /// Read and not yet taken apart into chunks.
    raw: Vec<u8>,
    records: Decoder,
    ended: bool,
}

impl EventStream {
    /// Sends a request and reads the head of the answer.
    ///
    /// # Errors
    /// When the server cannot be reached or does not speak HTTP.
    pub fn open(
        server: &Http,
        line: (&str, &str),
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Self> {
        let (method, path) = line;
        let mut stream = TcpStream::connect(&server.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", server.address);
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
        stream.write_all(&[request.as_bytes(), body].concat())?;
        let mut raw = Vec::new();
        let end = loop {
            if let Some(end) = raw.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            read_more(&mut stream, &mut raw)?;
        };
        let head = String::from_utf8_lossy(&raw[..end]).into_owned();
        raw.drain(..end + 4);
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no status: {head}")))?;
        let lines = head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
        let headers =
            lines.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
        Ok(Self { status, headers, stream, raw, records: Decoder::new(LIMIT), ended: false })
    }

    /// The first header of this name (lower case).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    /// The next record; none when the server ended the stream.
    ///
    /// # Errors
    /// `TimedOut` when none came within `patience`; others when the stream is broken.
    pub fn record(&mut self, patience: Duration) -> io::Result<Option<Vec<u8>>> {
        #[allow(clippy::disallowed_methods, reason = "a real process is waited for in real time")]
        let now = Instant::now;
        let deadline = now() + patience;
        loop {
            if let Some(record) = self.records.next().map_err(io::Error::other)? {
                return Ok(Some(record.to_vec()));
            }
            if self.ended {
                return Ok(None);
            }
            if self.take_chunk()? {
                continue;
            }
            let left = deadline.saturating_duration_since(now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(left))?;
            match read_more(&mut self.stream, &mut self.raw) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => self.ended = true,
                Err(error) => return Err(error),
            }
        }
    }

    /// The next event as JSON.
    ///
    /// # Errors
    /// As [`EventStream::record`].
    ///
    /// # Panics
    /// When the record is not JSON.
    pub fn event(&mut self, patience: Duration) -> io::Result<Option<Value>> {
        let record = self.record(patience)?;
        Ok(record.map(|bytes| serde_json::from_slice(&bytes).expect("an event is JSON")))
    }

    /// Moves one whole chunk to the records; false when more must be read first.
    fn take_chunk(&mut self) -> io::Result<bool> {
        let Some(line) = self.raw.windows(2).position(|window| window == b"\r\n") else { return Ok(false) };
        let size = std::str::from_utf8(&self.raw[..line]).ok();
        let size = size.and_then(|text| usize::from_str_radix(text, 16).ok());
        let size = size.ok_or_else(|| io::Error::other("no chunk"))?;
        if self.raw.len() < line + 2 + size + 2 {
            return Ok(false);
        }
        self.records.push(&self.raw[line + 2..line + 2 + size]);
        self.ended |= size == 0;
        self.raw.drain(..line + 2 + size + 2);
        Ok(true)
    }
}

/// Nothing may have come: a read with a time limit is interrupted when the test is stopped and goes on.
fn read_more(stream: &mut TcpStream, into: &mut Vec<u8>) -> io::Result<()> {
    let mut piece = [0; 16 * 1024];
    match stream.read(&mut piece) {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(read) => {
            into.extend_from_slice(&piece[..read]);
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        Err(error) => Err(error),
    }
}
