//! A plain HTTP/1.1 client for tests: one request, one connection, nothing hidden.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    time::Duration,
};

use serde_json::Value;

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    /// Names in lower case, in order.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of this name (lower case).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is not.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: status {} body {}", self.status, self.text()))
    }
}

/// A server's address.
#[derive(Clone, Debug)]
pub struct Http {
    pub address: String,
}

impl Http {
    /// For `host:port`.
    pub fn new(address: impl Into<String>) -> Self {
        Self { address: address.into() }
    }

    /// GET.
    ///
    /// # Errors
    /// When the server cannot be reached or does not speak HTTP.
    pub fn get(&self, path: &str) -> io::Result<Response> {
        self.send("GET", path, &[], b"")
    }

    /// A request with a JSON body.
    ///
    /// # Errors
    /// As [`Http::get`].
    pub fn json(&self, method: &str, path: &str, body: &Value) -> io::Result<Response> {
        self.send(method, path, &[("Content-Type", "application/json")], body.to_string().as_bytes())
    }

    /// Any request.
    ///
    /// # Errors
    /// As [`Http::get`].
    pub fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Response> {
        let length = body.len().to_string();
        let headers = [headers, &[("Content-Length", &length)]].concat();
        self.pieces(method, path, &headers, &[body])
    }

    /// Any request whose headers say how its body is framed; the body is sent in these pieces, one by one.
    ///
    /// # Errors
    /// As [`Http::get`].
    pub fn pieces(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[&[u8]],
    ) -> io::Result<Response> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.set_nodelay(true)?;
        let mut request =
            format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.address);
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        let mut message = request.into_bytes();
        for (place, piece) in body.iter().enumerate() {
            if place > 0 {
                // So that it arrives by itself.
                std::thread::sleep(Duration::from_millis(20));
            }
            message.extend_from_slice(piece);
            stream.write_all(&message)?;
            message.clear();
        }
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        parse(&answer, method)
    }
}

fn parse(answer: &[u8], method: &str) -> io::Result<Response> {
    let bad = |why: &str| io::Error::other(format!("{why}: {}", String::from_utf8_lossy(answer)));
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").ok_or_else(|| bad("no end of headers"))?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| bad("no status"))?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let chunked = headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    let body = &answer[end + 4..];
    let body = if chunked && method != "HEAD" {
        unchunk(body).ok_or_else(|| bad("bad chunk"))?
    } else {
        body.to_vec()
    };
    Ok(Response { status, headers, body })
}

fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|w| w == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).ok()?, 16).ok()?;
        rest = &rest[line + 2..];
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size + 2..)?;
    }
}
