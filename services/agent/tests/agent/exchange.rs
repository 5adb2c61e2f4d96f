//! HTTP, byte by byte.

use meshos_proto::recordio::Decoder;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::fakes::PATIENCE;

/// An HTTP exchange in this test's hands.
pub(crate) struct Exchange {
    stream: TcpStream,
    pub(crate) status: u16,
    pub(crate) head: String,
    rest: Vec<u8>,
    pub(crate) decoder: Decoder,
}

impl Exchange {
    pub(crate) async fn open(address: std::net::SocketAddr, path: &str, headers: &str, body: &[u8]) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let length = body.len();
        let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n{headers}\r\n");
        stream.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
        let mut rest = Vec::new();
        let end = loop {
            if let Some(end) = rest.windows(4).position(|w| w == b"\r\n\r\n") {
                break end;
            }
            assert!(timeout(PATIENCE, stream.read_buf(&mut rest)).await.unwrap().unwrap() > 0, "closed");
        };
        let head = String::from_utf8(rest.drain(..end + 4).collect()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { stream, status, head, rest, decoder: Decoder::new(1 << 20) }
    }

    /// The next chunk of a chunked body; none at its end.
    pub(crate) async fn chunk(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(end) = self.rest.windows(2).position(|w| w == b"\r\n") {
                let size =
                    usize::from_str_radix(std::str::from_utf8(&self.rest[..end]).unwrap(), 16).unwrap();
                if self.rest.len() >= end + 4 + size {
                    let chunk = self.rest[end + 2..end + 2 + size].to_vec();
                    self.rest.drain(..end + 4 + size);
                    return (size > 0).then_some(chunk);
                }
            }
            if timeout(PATIENCE, self.stream.read_buf(&mut self.rest)).await.unwrap().unwrap() == 0 {
                return None;
            }
        }
    }

    pub(crate) async fn event(&mut self) -> Value {
        loop {
            if let Some(record) = self.decoder.next().unwrap() {
                return serde_json::from_slice(&record).unwrap();
            }
            let chunk = self.chunk().await.expect("the stream ended");
            self.decoder.push(&chunk);
        }
    }

    pub(crate) async fn text(mut self) -> (u16, String) {
        let length = self
            .head
            .to_lowercase()
            .split("content-length: ")
            .nth(1)
            .map(|rest| rest.split("\r\n").next().unwrap().parse::<usize>().unwrap());
        while self.rest.len() < length.unwrap() {
            assert!(self.stream.read_buf(&mut self.rest).await.unwrap() > 0);
        }
        (self.status, String::from_utf8(self.rest).unwrap())
    }
}

pub(crate) const JSON: &str = "Content-Type: application/json\r\nAccept: application/json\r\n";
