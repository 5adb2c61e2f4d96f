//! Probes of a process: a connection from this node, for HTTP a request as well.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use http::Uri;
use meshos_mesh::unverified_tls;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::containerizer::{ProbeOutcome, netns};

const REDIRECTS: usize = 20;
/// The head of the answer must come within so many bytes.
const HEAD: usize = 16 * 1024;

/// Runs a probe for at most its time.
pub(in crate::containerizer) async fn within(
    limit: Option<Duration>,
    probe: impl Future<Output = Result<ProbeOutcome, String>>,
) -> ProbeOutcome {
    let done = match limit {
        Some(limit) => timeout(limit, probe).await.unwrap_or_else(|_| Err(late(limit))),
        None => probe.await,
    };
    done.unwrap_or_else(ProbeOutcome::Failed)
}

/// Why a probe that took too long failed.
pub(super) fn late(limit: Duration) -> String {
    format!("no answer within {} s", limit.as_secs_f64())
}

fn localhost(v6: bool) -> &'static str {
    if v6 { "[::1]" } else { "127.0.0.1" }
}

/// Where a probe is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::containerizer) enum Near {
    Here,
    /// The network of a process.
    Process(u32),
    /// Here, but what listens is at this address.
    Address(IpAddr),
}

impl From<Option<u32>> for Near {
    fn from(pid: Option<u32>) -> Self {
        pid.map_or(Self::Here, Self::Process)
    }
}

/// A connection as it would be made near there.
async fn connect(authority: &str, from: Near) -> io::Result<TcpStream> {
    let (host, port) = authority.rsplit_once(':').unwrap_or((authority, "0"));
    let address: Option<(IpAddr, u16)> = host.trim_matches(['[', ']']).parse().ok().zip(port.parse().ok());
    match (from, address) {
        (Near::Process(pid), Some(address)) => netns::connect(pid, SocketAddr::from(address)).await,
        (Near::Address(ip), Some((local, port))) if local.is_loopback() => {
            TcpStream::connect((ip, port)).await
        }
        (Near::Process(_) | Near::Address(_), None) => {
            Err(io::Error::other("a redirect to a name is not followed out of the container's network"))
        }
        _ => TcpStream::connect(authority).await,
    }
}

/// Whether something listens, near `from`.
pub(in crate::containerizer) async fn tcp(
    v6: bool,
    port: u16,
    from: impl Into<Near>,
) -> Result<ProbeOutcome, String> {
    let from = from.into();
    Ok(ProbeOutcome::Connected(connect(&format!("{}:{port}", localhost(v6)), from).await.is_ok()))
}

/// The status of the answer, after redirects, near `from`.
pub(in crate::containerizer) async fn http(
    tls: bool,
    (v6, port): (bool, u16),
    path: &str,
    from: impl Into<Near>,
) -> Result<ProbeOutcome, String> {
    let from = from.into();
    let scheme = if tls { "https" } else { "http" };
    let slash = if path.starts_with('/') { "" } else { "/" };
    let first = format!("{scheme}://{}:{port}{slash}{path}", localhost(v6));
    let mut uri: Uri = first.parse().map_err(|_| format!("'{path}' is no path of a request"))?;
    for _ in 0..=REDIRECTS {
        let (status, location) = ask(&uri, from).await?;
        match location.filter(|_| matches!(status, 301..=303 | 307 | 308)) {
            Some(location) => uri = redirected(&uri, &location)?,
            None => return Ok(ProbeOutcome::Status(status)),
        }
    }
    Err(format!("more than {REDIRECTS} redirects"))
}

fn redirected(from: &Uri, location: &str) -> Result<Uri, String> {
    let bad = || "the answer redirects to what is no address".to_owned();
    let location = location.split('#').next().unwrap_or_default();
    let absolute = match location {
        _ if location.contains("://") => location.to_owned(),
        _ => {
            let base =
                format!("{}://{}", from.scheme_str().unwrap_or("http"), from.authority().ok_or_else(bad)?);
            match location.starts_with('/') {
                true => format!("{base}{location}"),
                false => format!("{base}{}/{location}", from.path().rsplit_once('/').unwrap_or_default().0),
            }
        }
    };
    let uri: Uri = absolute.parse().map_err(|_| bad())?;
    if matches!(uri.scheme_str(), Some("http" | "https")) { Ok(uri) } else { Err(bad()) }
}

/// One request: the status, and where the answer leads to.
async fn ask(uri: &Uri, from: Near) -> Result<(u16, Option<String>), String> {
    let authority = uri.authority().ok_or("the address has no host")?;
    let tls = uri.scheme_str() == Some("https");
    let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let io =
        connect(&format!("{}:{port}", authority.host()), from).await.map_err(|error| error.to_string())?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: meshos-health\r\nAccept: */*\r\n\
         Connection: close\r\n\r\n"
    );
    if !tls {
        return exchange(io, &request).await;
    }
    let host = authority.host().trim_matches(['[', ']']).to_owned();
    let name = ServerName::try_from(host).map_err(|error| error.to_string())?;
    let connector = TlsConnector::from(unverified_tls().map_err(|error| error.to_string())?);
    exchange(connector.connect(name, io).await.map_err(|error| error.to_string())?, &request).await
}

async fn exchange<T: AsyncRead + AsyncWrite + Unpin>(
    mut io: T,
    request: &str,
) -> Result<(u16, Option<String>), String> {
    io.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut head = Vec::new();
    loop {
        let count = io.read_buf(&mut head).await.map_err(|error| error.to_string())?;
        if count == 0 || head.len() > HEAD || head.windows(4).any(|window| window == b"\r\n\r\n") {
            return read_head(&String::from_utf8_lossy(&head));
        }
    }
}

fn read_head(head: &str) -> Result<(u16, Option<String>), String> {
    let mut lines = head.lines();
    let line = lines.next().filter(|line| line.starts_with("HTTP/")).unwrap_or_default();
    let status = line.split_whitespace().nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or("the answer is not HTTP")?;
    let mut headers = lines.take_while(|line| !line.is_empty()).filter_map(|line| line.split_once(':'));
    let location = headers.find(|(name, _)| name.eq_ignore_ascii_case("location"));
    Ok((status, location.map(|(_, value)| value.trim().to_owned())))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[allow(clippy::disallowed_methods, reason = "a test's own server")]
    async fn server() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = vec![0; 4096];
                let count = stream.read(&mut request).await.unwrap_or_default();
                let text = String::from_utf8_lossy(&request[..count]).into_owned();
                let answer = match text.split(' ').nth(1).unwrap_or_default() {
                    "/ok?a=b" => "HTTP/1.1 204 No Content\r\n\r\n",
                    "/moved" => "HTTP/1.1 302 Found\r\nlocation: ok?a=b\r\n\r\n",
                    "/loop" => "HTTP/1.1 301 Moved\r\nLocation: /loop\r\n\r\n",
                    "/ssh" => "SSH-2.0-x 200\r\n",
                    "/never" => std::future::pending().await,
                    _ => "HTTP/1.0 404 Not Found\r\n\r\n",
                };
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        port
    }

    #[tokio::test]
    async fn answers_are_read_and_redirects_followed() {
        let port = server().await;
        let ask = async |path: &str| http(false, (false, port), path, Near::Here).await;
        assert_eq!(ask("ok?a=b").await, Ok(ProbeOutcome::Status(204)));
        assert_eq!(ask("/moved").await, Ok(ProbeOutcome::Status(204)));
        assert_eq!(ask("/other").await, Ok(ProbeOutcome::Status(404)));
        assert_eq!(ask("/ssh").await, Err("the answer is not HTTP".to_owned()));
        assert!(ask("/loop").await.unwrap_err().contains("redirects"));
        assert!(ask("/ HTTP/1.1\r\n\r\nDELETE /x").await.is_err());
        assert_eq!(tcp(false, port, Near::Here).await, Ok(ProbeOutcome::Connected(true)));
        assert_eq!(tcp(false, 1, Near::Here).await, Ok(ProbeOutcome::Connected(false)));
        let limit = Duration::from_millis(50);
        let late = within(Some(limit), http(false, (false, port), "/never", Near::Here)).await;
        assert_eq!(late, ProbeOutcome::Failed("no answer within 0.05 s".to_owned()));
    }

    /// Speaks TLS with a certificate that nobody has signed: `/` is there, `/moved` leads to a port without TLS.
    #[allow(clippy::disallowed_methods, reason = "a test's own server")]
    async fn tls_server(plain: u16) -> u16 {
        let made = rcgen::generate_simple_self_signed(vec!["somebody.example".to_owned()]).unwrap();
        let key = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut request = vec![0; 4096];
                let count = stream.read(&mut request).await.unwrap_or_default();
                let text = String::from_utf8_lossy(&request[..count]).into_owned();
                let answer = match text.split(' ').nth(1).unwrap_or_default() {
                    "/" => "HTTP/1.1 202 Accepted\r\n\r\n".to_owned(),
                    _ => format!("HTTP/1.1 307 T\r\nLocation: http://127.0.0.1:{plain}/ok?a=b\r\n\r\n"),
                };
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        port
    }

    #[tokio::test]
    async fn https_is_spoken_with_whatever_certificate_there_is() {
        let plain = server().await;
        let port = tls_server(plain).await;
        assert_eq!(http(true, (false, port), "", None).await, Ok(ProbeOutcome::Status(202)));
        assert_eq!(http(true, (false, port), "/moved", None).await, Ok(ProbeOutcome::Status(204)));
        // Neither side takes the other's protocol for its own.
        assert!(http(true, (false, plain), "/ok?a=b", None).await.is_err());
        assert!(http(false, (false, port), "/", None).await.is_err());
    }
}
