//! A plain HTTP client.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpStream, task::AbortHandle, time::timeout};

/// Nothing in these tests takes this long unless it is broken.
pub(crate) const SOON: Duration = Duration::from_secs(60);

pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Response {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// An answer whose body goes on; dropping it closes the connection.
pub(crate) struct Stream {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    body: Incoming,
    connection: AbortHandle,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Stream {
    /// The next piece; none at the end.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        let frame = timeout(SOON, self.body.frame()).await.expect("a piece or the end in time")?;
        Some(frame.unwrap().into_data().unwrap())
    }
}

/// `METHOD /path`, headers as `name: value`, and a body.
pub(crate) async fn open(address: &str, line: &str, headers: &[(&str, &str)], body: &str) -> Stream {
    let tcp = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(tcp)).await.unwrap();
    #[allow(clippy::disallowed_methods, reason = "ends with the stream")]
    let connection = tokio::spawn(connection).abort_handle();
    let (method, target) = line.split_once(' ').unwrap();
    let mut request = Request::builder().method(method).uri(target).header("host", address);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap();
    let response = timeout(SOON, sender.send_request(request)).await.expect("an answer in time").unwrap();
    let (head, body) = response.into_parts();
    Stream { status: head.status.as_u16(), headers: head.headers, body, connection }
}

/// The whole answer.
pub(crate) async fn send(address: &str, line: &str, headers: &[(&str, &str)], body: &str) -> Response {
    let mut stream = open(address, line, headers, body).await;
    let mut whole = Vec::new();
    while let Some(piece) = stream.next().await {
        whole.extend_from_slice(&piece);
    }
    Response { status: stream.status, headers: stream.headers.clone(), body: whole.into() }
}

/// A JSON body.
pub(crate) async fn post(address: &str, line: &str, body: &str) -> Response {
    send(address, line, &[("content-type", "application/json")], body).await
}

pub(crate) async fn get(address: &str, path: &str) -> Response {
    send(address, &format!("GET {path}"), &[], "").await
}
