//! TLS over TCP with certificates on both sides: a peer without one that our authority signed gets nowhere.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::StreamExt;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_stream::wrappers::TcpListenerStream;

use super::{Io, Listener, SharedTransport, Transport, TransportError, tcp};

/// A peer that has not finished its handshake by then is dropped.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes under way at once.
const HANDSHAKES: usize = 256;

/// PEM files of one service.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// Certificates of the authority that signed every service's certificate.
    pub ca: PathBuf,
    /// This service's certificate chain.
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// TLS with mutual authentication.
///
/// # Errors
/// [`TransportError::Tls`] names the file that cannot be used and why.
pub fn tls(files: &TlsFiles) -> Result<SharedTransport, TransportError> {
    let bad = |path: &PathBuf, reason: &dyn ToString| TransportError::Tls {
        path: path.display().to_string(),
        reason: reason.to_string(),
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&files.ca).map_err(|e| bad(&files.ca, &e))? {
        let certificate = certificate.map_err(|e| bad(&files.ca, &e))?;
        roots.add(certificate).map_err(|e| bad(&files.ca, &e))?;
    }
    let chain = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| bad(&files.certificate, &e))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| bad(&files.key, &e))?;
    let roots = Arc::new(roots);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
        .build()
        .map_err(|e| bad(&files.ca, &e))?;
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| bad(&files.certificate, &e))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain.clone(), key.clone_key())
        .map_err(|e| bad(&files.certificate, &e))?;
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| bad(&files.certificate, &e))?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|e| bad(&files.certificate, &e))?;
    Ok(Arc::new(Tls { acceptor: Arc::new(server).into(), connector: Arc::new(client).into() }))
}

struct Tls {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

#[async_trait]
impl Transport for Tls {
    async fn bind(&self, address: &str) -> Result<Listener, TransportError> {
        let (address, listener) = tcp::bind(address).await?;
        let acceptor = self.acceptor.clone();
        let incoming = TcpListenerStream::new(listener)
            .map(move |accepted| {
                let acceptor = acceptor.clone();
                async move {
                    let stream = accepted?;
                    stream.set_nodelay(true)?;
                    let handshake = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream));
                    let stream = handshake.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
                    Ok(Io::new(stream))
                }
            })
            .buffer_unordered(HANDSHAKES);
        Ok(Listener { address, incoming: Box::pin(incoming) })
    }

    async fn connect(&self, address: &str) -> Result<Io, TransportError> {
        let failed = |source| TransportError::Connect { address: address.to_owned(), source };
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host).map_err(|e| failed(io::Error::other(e)))?;
        let stream = tcp::connect(address).await?;
        let handshake = tokio::time::timeout(HANDSHAKE, self.connector.connect(name, stream));
        let stream = handshake
            .await
            .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)))
            .map_err(failed)?;
        Ok(Io::new(stream))
    }
}
