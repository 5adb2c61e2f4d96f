//! One health check: a connection, and for HTTP a request whose status counts.

use std::time::Duration;

use meshos_mesh::{SharedTransport, unverified_tls};
use meshos_proto::meshos::apps::v1::{HealthProtocol, ReadinessResponse};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::{
    core::{Probe, ReadinessProbe},
    health::Outcome,
    validate::probe_path,
};

/// The status line must come within so many bytes.
const STATUS_LINE: usize = 1024;
/// Bytes of the answer to a readiness check that are read, and of its body that are shown.
const READY_ANSWER: usize = 64 * 1024;
const READY_BODY: usize = 16 * 1024;

/// Makes the check, within its own timeout.
pub(super) async fn run(transport: SharedTransport, probe: &Probe) -> Outcome {
    let patience = Duration::from_secs(probe.check.timeout_s.max(1));
    match timeout(patience, attempt(transport, probe)).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(cause)) => Outcome::Failed(cause),
        Err(_) => Outcome::Failed(format!("no answer within {} s", probe.check.timeout_s)),
    }
}

/// Asks whether a task is ready, within the check's own timeout; none: no answer.
pub(super) async fn readiness(
    transport: SharedTransport,
    probe: &ReadinessProbe,
) -> Option<ReadinessResponse> {
    let target = Target { host: &probe.host, port: probe.port, path: &probe.check.path };
    let patience = Duration::from_secs(probe.check.timeout_s.max(1));
    let asked = async {
        let io = target.connect(&transport, probe.check.protocol()).await?;
        // In the older version of HTTP a body has no framing and ends with the connection.
        target.ask(io, "HTTP/1.0", READY_ANSWER, |_| false).await
    };
    let answer = timeout(patience, asked).await.ok()?.ok()?;
    Some(response(&answer))
}

async fn attempt(transport: SharedTransport, probe: &Probe) -> Result<Outcome, String> {
    let path = probe.check.path.as_deref().unwrap_or("/");
    let target = Target { host: &probe.host, port: probe.port, path };
    let protocol = probe.check.protocol();
    match protocol {
        HealthProtocol::Command
        | HealthProtocol::MesosHttp
        | HealthProtocol::MesosHttps
        | HealthProtocol::MesosTcp => return Err("the agent makes this check".to_owned()),
        _ => {}
    }
    let io = target.connect(&transport, protocol).await?;
    if protocol == HealthProtocol::Tcp {
        return Ok(Outcome::Alive);
    }
    let has_line = |answer: &[u8]| answer.contains(&b'\n');
    let answer = target.ask(io, "HTTP/1.1", STATUS_LINE, has_line).await?;
    Ok(judge(status(&answer).ok_or("the answer is not HTTP")?, probe.check.ignore_http_1xx))
}

/// Where a request goes.
struct Target<'a> {
    host: &'a str,
    port: u16,
    path: &'a str,
}

/// A connection, encrypted or not.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Target<'_> {
    fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    async fn connect(
        &self,
        transport: &SharedTransport,
        protocol: HealthProtocol,
    ) -> Result<Box<dyn Stream>, String> {
        let io = transport.connect(&self.address()).await.map_err(|error| error.to_string())?;
        if protocol != HealthProtocol::Https {
            return Ok(Box::new(io));
        }
        let name = ServerName::try_from(self.host.to_owned()).map_err(|error| error.to_string())?;
        let connector = TlsConnector::from(unverified_tls().map_err(|error| error.to_string())?);
        Ok(Box::new(connector.connect(name, io).await.map_err(|error| error.to_string())?))
    }

    /// Sends a GET and reads until the answer is `enough`, ends, or has `most` bytes.
    async fn ask<T: Stream>(
        &self,
        mut io: T,
        version: &str,
        most: usize,
        enough: impl Fn(&[u8]) -> bool,
    ) -> Result<Vec<u8>, String> {
        if !probe_path(self.path) {
            return Err("the path of the check has characters that no request may have".to_owned());
        }
        let slash = if self.path.starts_with('/') { "" } else { "/" };
        let request = format!(
            "GET {slash}{} {version}\r\nHost: {}\r\nUser-Agent: meshos-health\r\nAccept: */*\r\n\
             Connection: close\r\n\r\n",
            self.path,
            self.address(),
        );
        io.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
        let mut answer = Vec::new();
        while !enough(&answer) && answer.len() < most {
            if io.read_buf(&mut answer).await.map_err(|error| error.to_string())? == 0 {
                break;
            }
        }
        Ok(answer)
    }
}

/// The status of an answer's first line; none: it is not HTTP.
fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\n').next()?;
    let line = String::from_utf8_lossy(line);
    let status = line.split_whitespace().nth(1)?.parse().ok();
    status.filter(|_| line.starts_with("HTTP/"))
}

/// Status, content type and body of a whole answer; status 0: it is not HTTP.
fn response(answer: &[u8]) -> ReadinessResponse {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let (head, body) = end.map_or((answer, &[][..]), |end| (&answer[..end], &answer[end + 4..]));
    let head = String::from_utf8_lossy(head);
    let kind = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-type").then(|| value.trim().to_owned())
    });
    ReadinessResponse {
        status: status(answer).unwrap_or_default().into(),
        content_type: kind.unwrap_or_else(|| "text/plain".to_owned()),
        body: String::from_utf8_lossy(&body[..body.len().min(READY_BODY)]).into_owned(),
    }
}

fn judge(status: u16, ignore_1xx: bool) -> Outcome {
    match status {
        200..=399 => Outcome::Alive,
        100..=199 if ignore_1xx => Outcome::Ignored,
        _ => Outcome::Failed(format!("{status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses() {
        assert_eq!((judge(200, false), judge(399, false)), (Outcome::Alive, Outcome::Alive));
        assert_eq!(judge(404, true), Outcome::Failed("404".into()));
        assert_eq!((judge(101, true), judge(101, false)), (Outcome::Ignored, Outcome::Failed("101".into())));
    }

    async fn asked(answer: &str, path: &str) -> (Result<Vec<u8>, String>, String) {
        let (ours, mut theirs) = tokio::io::duplex(4096);
        theirs.write_all(answer.as_bytes()).await.unwrap();
        theirs.shutdown().await.unwrap();
        let target = Target { host: "h", port: 1, path };
        let result = target.ask(ours, "HTTP/1.1", STATUS_LINE, |_| false).await;
        let mut sent = String::new();
        theirs.read_to_string(&mut sent).await.unwrap();
        (result, sent)
    }

    #[tokio::test]
    async fn an_answer_is_read_and_garbage_has_no_status() {
        for (answer, wanted) in [
            ("HTTP/1.1 204 No Content\r\n\r\n", Some(204)),
            ("HTTP/1.0 500 Oops\r\n\r\n", Some(500)),
            ("SSH-2.0-x 200\r\n", None),
            ("", None),
        ] {
            let (found, sent) = asked(answer, "health").await;
            assert_eq!(status(&found.unwrap()), wanted);
            assert!(sent.starts_with("GET /health HTTP/1.1\r\nHost: h:1\r\n"), "{sent}");
        }
        let (refused, sent) = asked("", "/ HTTP/1.1\r\n\r\nDELETE /x").await;
        assert!(refused.is_err() && sent.is_empty(), "nothing of such a path is sent");
    }

    #[test]
    fn a_whole_answer_is_shown() {
        let found = response(b"HTTP/1.0 503 X\r\nContent-TYPE: application/json\r\n\r\n{\"ready\":false}");
        let wanted = (503, "application/json", "{\"ready\":false}");
        assert_eq!((found.status, found.content_type.as_str(), found.body.as_str()), wanted);
        assert_eq!(response(b"").status, 0);
        let long = format!("HTTP/1.0 200 OK\r\n\r\n{}", "x".repeat(READY_ANSWER));
        assert_eq!(response(long.as_bytes()).body.len(), READY_BODY);
    }
}
