//! Marathon's API over HTTP: JSON, and the stream of events.

use std::{path::PathBuf, sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD as BASE64};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client as Http, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use serde_json::Value;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(60);
/// Largest answer.
const LARGEST: usize = 256 * 1024 * 1024;

/// Where the API is, and how to get in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Access {
    /// `http://host:port`; the next one is asked where one does not answer.
    pub(crate) urls: Vec<String>,
    /// `user:password`
    pub(crate) credentials: Option<String>,
    /// Certificates of authorities beside those of the machine.
    pub(crate) authorities: Option<PathBuf>,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{url}: {reason}")]
    Unreachable { url: String, reason: String },
    #[error("{call}: {status}: {body}")]
    Refused { call: String, status: StatusCode, body: String },
}

pub(crate) struct Client {
    http: Http<HttpsConnector<HttpConnector>, Full<Bytes>>,
    bases: Vec<String>,
    authorization: Option<HeaderValue>,
}

impl Client {
    /// # Errors
    /// What cannot be used.
    pub(crate) fn new(access: &Access) -> Result<Self, String> {
        let bases: Vec<String> =
            access.urls.iter().map(|url| url.trim().trim_end_matches('/').to_owned()).collect();
        let scheme = |base: &String| base.parse::<Uri>().ok()?.scheme_str().map(str::to_owned);
        for base in &bases {
            if !["http", "https"].map(Some).contains(&scheme(base).as_deref()) {
                return Err(format!("'{base}' is no http:// or https:// address"));
            }
        }
        let encrypted = bases.iter().any(|base| scheme(base).as_deref() == Some("https"));
        let tls = tls(encrypted, access.authorities.as_ref())?;
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        let authorization = match &access.credentials {
            None => None,
            Some(credentials) => {
                let text = format!("Basic {}", BASE64.encode(credentials));
                let mut value = HeaderValue::try_from(text).map_err(|error| error.to_string())?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        Ok(Self { http: Http::builder(TokioExecutor::new()).build(connector), bases, authorization })
    }

    /// The answer; anything but a success is an error.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let text = body.map(Value::to_string).unwrap_or_default();
        let response = self.ask(method, path, "application/json", &text).await?;
        let failed = |reason: String| Failure::Unreachable { url: path.to_owned(), reason };
        let body = Limited::new(response.into_body(), LARGEST).collect();
        let body = timeout(DEADLINE, body).await.map_err(|_| failed("no answer in time".to_owned()))?;
        let body = body.map_err(|error| failed(error.to_string()))?.to_bytes();
        Ok(serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    /// A stream of events.
    pub(crate) async fn events(&self, path: &str) -> Result<Incoming, Failure> {
        Ok(self.ask("GET", path, "text/event-stream", "").await?.into_body())
    }

    async fn ask(
        &self,
        method: &str,
        path: &str,
        accept: &str,
        text: &str,
    ) -> Result<Response<Incoming>, Failure> {
        let mut failure =
            Failure::Unreachable { url: path.to_owned(), reason: "no address is given".to_owned() };
        for base in &self.bases {
            let unreachable = |reason: String| Failure::Unreachable { url: format!("{base}{path}"), reason };
            let mut request = Request::builder().method(method).uri(format!("{base}{path}"));
            request = request.header(header::CONTENT_TYPE, "application/json").header(header::ACCEPT, accept);
            if let Some(authorization) = &self.authorization {
                request = request.header(header::AUTHORIZATION, authorization);
            }
            let request = request.body(Full::new(Bytes::copy_from_slice(text.as_bytes())));
            let request = request.map_err(|error| unreachable(error.to_string()))?;
            match timeout(DEADLINE, self.http.request(request)).await {
                Ok(Ok(response)) if response.status().is_success() => return Ok(response),
                Ok(Ok(response)) => {
                    let status = response.status();
                    let body = timeout(DEADLINE, Limited::new(response.into_body(), LARGEST).collect()).await;
                    let body = body.ok().and_then(Result::ok).map(|body| body.to_bytes()).unwrap_or_default();
                    let (call, body) =
                        (format!("{method} {path}"), String::from_utf8_lossy(&body).into_owned());
                    return Err(Failure::Refused { call, status, body });
                }
                Ok(Err(error)) => failure = unreachable(error.to_string()),
                Err(_) => failure = unreachable("no answer in time".to_owned()),
            }
        }
        Err(failure)
    }
}

fn tls(needed: bool, authorities: Option<&PathBuf>) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    if let Some(file) = authorities {
        let certificates =
            CertificateDer::pem_file_iter(file).map_err(|e| format!("{}: {e}", file.display()))?;
        roots.add_parsable_certificates(certificates.flatten());
    }
    if needed && roots.is_empty() {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    if needed && roots.is_empty() {
        return Err("no certificates of authorities are known: name some with --marathon-ca-cert".to_owned());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
