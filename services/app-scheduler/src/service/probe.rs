//! One health check: a connection, and for HTTP a request whose status counts.

use std::{sync::Arc, time::Duration};

use meshos_mesh::SharedTransport;
use meshos_proto::meshos::apps::v1::HealthProtocol;
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::{core::Probe, health::Outcome, validate::probe_path};

/// The status line must come within so many bytes.
const STATUS_LINE: usize = 1024;

/// Makes the check, within its own timeout.
pub(super) async fn run(transport: SharedTransport, probe: &Probe) -> Outcome {
    let patience = Duration::from_secs(probe.check.timeout_s.max(1));
    match timeout(patience, attempt(transport, probe)).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(cause)) => Outcome::Failed(cause),
        Err(_) => Outcome::Failed(format!("no answer within {} s", probe.check.timeout_s)),
    }
}

async fn attempt(transport: SharedTransport, probe: &Probe) -> Result<Outcome, String> {
    let host = if probe.host.contains(':') { format!("[{}]", probe.host) } else { probe.host.clone() };
    let address = format!("{host}:{}", probe.port);
    let io = transport.connect(&address).await.map_err(|error| error.to_string())?;
    match probe.check.protocol() {
        HealthProtocol::Tcp => Ok(Outcome::Alive),
        HealthProtocol::Https => {
            let name = ServerName::try_from(probe.host.clone()).map_err(|error| error.to_string())?;
            let connector = TlsConnector::from(tls().map_err(|error| error.to_string())?);
            let io = connector.connect(name, io).await.map_err(|error| error.to_string())?;
            ask(io, probe, &address).await
        }
        HealthProtocol::Http | HealthProtocol::Unspecified => ask(io, probe, &address).await,
    }
}

async fn ask<T: AsyncRead + AsyncWrite + Unpin>(
    mut io: T,
    probe: &Probe,
    address: &str,
) -> Result<Outcome, String> {
    let path = probe.check.path.as_deref().unwrap_or("/");
    if !probe_path(path) {
        return Err("the path of the health check has characters that no request may have".to_owned());
    }
    let slash = if path.starts_with('/') { "" } else { "/" };
    let request = format!(
        "GET {slash}{path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: meshos-health\r\nAccept: */*\r\n\
         Connection: close\r\n\r\n"
    );
    io.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut head = Vec::new();
    while !head.contains(&b'\n') && head.len() < STATUS_LINE {
        if io.read_buf(&mut head).await.map_err(|error| error.to_string())? == 0 {
            break;
        }
    }
    let line = String::from_utf8_lossy(&head);
    let status = line.split_whitespace().nth(1).and_then(|code| code.parse::<u16>().ok());
    let status = status.filter(|_| line.starts_with("HTTP/")).ok_or("the answer is not HTTP")?;
    Ok(judge(status, probe.check.ignore_http_1xx))
}

fn judge(status: u16, ignore_1xx: bool) -> Outcome {
    match status {
        200..=399 => Outcome::Alive,
        100..=199 if ignore_1xx => Outcome::Ignored,
        _ => Outcome::Failed(format!("{status}")),
    }
}

/// Certificates are not checked: the question is whether the task answers.
fn tls() -> Result<Arc<ClientConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use meshos_proto::meshos::apps::v1::HealthCheck;

    use super::*;

    #[test]
    fn statuses() {
        assert_eq!((judge(200, false), judge(399, false)), (Outcome::Alive, Outcome::Alive));
        assert_eq!(judge(404, true), Outcome::Failed("404".into()));
        assert_eq!((judge(101, true), judge(101, false)), (Outcome::Ignored, Outcome::Failed("101".into())));
    }

    #[tokio::test]
    async fn an_answer_is_read_and_garbage_is_a_failure() {
        for (answer, wanted) in [
            ("HTTP/1.1 204 No Content\r\n\r\n", Ok(Outcome::Alive)),
            ("HTTP/1.0 500 Oops\r\n\r\n", Ok(Outcome::Failed("500".into()))),
            ("SSH-2.0-x 200\r\n", Err("the answer is not HTTP".to_owned())),
            ("", Err("the answer is not HTTP".to_owned())),
        ] {
            let (ours, mut theirs) = tokio::io::duplex(4096);
            let probe = Probe {
                instance_id: "i".into(),
                incarnation: 1,
                index: 0,
                check: Default::default(),
                host: "h".into(),
                port: 1,
                due_ms: 0,
            };
            theirs.write_all(answer.as_bytes()).await.unwrap();
            theirs.shutdown().await.unwrap();
            assert_eq!(ask(ours, &probe, "h:1").await, wanted);
            let check =
                HealthCheck { path: Some("/ HTTP/1.1\r\n\r\nDELETE /x".into()), ..Default::default() };
            let (ours, mut theirs) = tokio::io::duplex(4096);
            assert!(ask(ours, &Probe { check, ..probe }, "h:1").await.is_err());
            let mut sent = Vec::new();
            theirs.read_to_end(&mut sent).await.unwrap();
            assert!(sent.is_empty(), "nothing of such a path is sent");
        }
    }
}
