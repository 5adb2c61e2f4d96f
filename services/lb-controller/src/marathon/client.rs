//! Marathon's API over HTTP: JSON, and the stream of events.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

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
const CONNECT: Duration = Duration::from_secs(3);
/// As marathon-lb calls itself.
const AGENT: &str = "marathon-lb";
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
    /// Some address is not encrypted: the operator lets the credentials be seen.
    plain: bool,
    authorization: Option<HeaderValue>,
    /// The address that answered last.
    answered: AtomicUsize,
}

impl Failure {
    /// Nobody is there, or nobody who can say it.
    fn another_may_answer(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { status, .. } => [502, 503, 504].contains(&status.as_u16()),
        }
    }
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
        let plain = bases.iter().any(|base| scheme(base).as_deref() == Some("http"));
        let tls = tls(encrypted, access.authorities.as_ref())?;
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_connect_timeout(Some(CONNECT));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let authorization = match &access.credentials {
            None => None,
            Some(credentials) => {
                let text = format!("Basic {}", BASE64.encode(credentials));
                let mut value = HeaderValue::try_from(text).map_err(|error| error.to_string())?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        Ok(Self {
            http: Http::builder(TokioExecutor::new()).build(connector),
            bases,
            plain,
            authorization,
            answered: AtomicUsize::new(0),
        })
    }

    /// The answer; anything but a success is an error.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let text = body.map(Value::to_string).unwrap_or_default();
        let (_, response) = self.ask(method, path, "application/json", &text).await?;
        self.read(path, response).await
    }

    /// The same at one address, whatever others there are.
    pub(crate) async fn send_to(
        &self,
        method: &str,
        url: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let text = body.map(Value::to_string).unwrap_or_default();
        let asked = Asked { method, base: "", path: url, accept: "application/json", text: &text };
        let (_, response) = self.ask_one(&asked).await?;
        self.read(url, response).await
    }

    async fn read(&self, path: &str, response: Response<Incoming>) -> Result<Value, Failure> {
        let failed = |reason: String| Failure::Unreachable { url: path.to_owned(), reason };
        let body = Limited::new(response.into_body(), LARGEST).collect();
        let body = timeout(DEADLINE, body).await.map_err(|_| failed("no answer in time".to_owned()))?;
        let body = body.map_err(|error| failed(error.to_string()))?.to_bytes();
        Ok(serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    /// A stream of events, and the address (`http://host:port`) that it comes from.
    pub(crate) async fn events(&self, path: &str) -> Result<(String, Incoming), Failure> {
        let (base, response) = self.ask("GET", path, "text/event-stream", "").await?;
        Ok((base, response.into_body()))
    }

    async fn ask(
        &self,
        method: &str,
        path: &str,
        accept: &str,
        text: &str,
    ) -> Result<(String, Response<Incoming>), Failure> {
        let first = self.answered.load(Ordering::Relaxed);
        let mut failure =
            Failure::Unreachable { url: path.to_owned(), reason: "no address is given".to_owned() };
        for step in 0..self.bases.len() {
            let index = (first + step) % self.bases.len();
            let asked = Asked { method, base: &self.bases[index], path, accept, text };
            match self.ask_one(&asked).await {
                Ok(answer) => {
                    // This one is asked first from now on.
                    self.answered.store(index, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(other) if other.another_may_answer() => failure = other,
                Err(other) => return Err(other),
            }
        }
        Err(failure)
    }

    /// Whom a GET is sent on to is asked as well, once: the leader of old Marathons.
    async fn ask_one(&self, asked: &Asked<'_>) -> Result<(String, Response<Incoming>), Failure> {
        let mut base = asked.base.to_owned();
        let url = format!("{base}{}", asked.path);
        let mut response = self.request(asked, &url, self.is_trusted(&url)).await?;
        if asked.method == "GET"
            && let Some(elsewhere) = elsewhere(asked.base, &response)
        {
            let trusted = self.is_trusted(&elsewhere) && self.is_known(&elsewhere);
            response = self.request(asked, &elsewhere, trusted).await?;
            base = origin(&elsewhere).unwrap_or(base);
        }
        let status = response.status();
        if status.is_success() {
            return Ok((base, response));
        }
        let body = timeout(DEADLINE, Limited::new(response.into_body(), LARGEST).collect()).await;
        let body = body.ok().and_then(Result::ok).map(|body| body.to_bytes()).unwrap_or_default();
        let (call, body) =
            (format!("{} {}", asked.method, asked.path), String::from_utf8_lossy(&body).into_owned());
        Err(Failure::Refused { call, status, body })
    }

    /// Credentials that are for encrypted addresses alone do not go over others.
    fn is_trusted(&self, url: &str) -> bool {
        self.plain || url.starts_with("https://")
    }

    /// The host is one that the operator named.
    fn is_known(&self, url: &str) -> bool {
        let host = |url: &str| url.parse::<Uri>().ok()?.host().map(str::to_ascii_lowercase);
        host(url).is_some_and(|wanted| self.bases.iter().any(|base| host(base).as_ref() == Some(&wanted)))
    }

    /// `trusted`: with the credentials.
    async fn request(
        &self,
        asked: &Asked<'_>,
        url: &str,
        trusted: bool,
    ) -> Result<Response<Incoming>, Failure> {
        let unreachable = |reason: String| Failure::Unreachable { url: url.to_owned(), reason };
        let mut request = Request::builder().method(asked.method).uri(url);
        request =
            request.header(header::CONTENT_TYPE, "application/json").header(header::ACCEPT, asked.accept);
        request = request.header(header::USER_AGENT, AGENT);
        if let Some(authorization) = self.authorization.as_ref().filter(|_| trusted) {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(asked.text.as_bytes())));
        let request = request.map_err(|error| unreachable(error.to_string()))?;
        match timeout(DEADLINE, self.http.request(request)).await {
            Ok(answer) => answer.map_err(|error| unreachable(error.to_string())),
            Err(_) => Err(unreachable("no answer in time".to_owned())),
        }
    }
}

/// A call to one address.
struct Asked<'a> {
    method: &'a str,
    base: &'a str,
    path: &'a str,
    accept: &'a str,
    text: &'a str,
}

/// Where the answer sends its reader on to.
fn elsewhere(base: &str, response: &Response<Incoming>) -> Option<String> {
    let location = response.headers().get(header::LOCATION).filter(|_| response.status().is_redirection())?;
    let location = location.to_str().ok()?;
    if location.starts_with('/') {
        return Some(format!("{base}{location}"));
    }
    ["http://", "https://"].iter().any(|scheme| location.starts_with(scheme)).then(|| location.to_owned())
}

/// `http://host:port` of a URL.
fn origin(url: &str) -> Option<String> {
    let uri = url.parse::<Uri>().ok()?;
    Some(format!("{}://{}", uri.scheme_str()?, uri.authority()?))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_go_only_where_the_operator_sends_them() {
        let client = |urls: &[&str]| {
            let authority = rcgen::generate_simple_self_signed(vec!["a".to_owned()]).unwrap();
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), authority.cert.pem()).unwrap();
            let urls = urls.iter().map(|url| (*url).to_owned()).collect();
            Client::new(&Access { urls, authorities: Some(file.path().into()), ..Access::default() }).unwrap()
        };
        let encrypted = client(&["https://a:8443", "https://b:8443/"]);
        assert!(encrypted.is_trusted("https://c/") && !encrypted.is_trusted("http://a:8443/v2/leaving/7"));
        assert!(encrypted.is_known("https://B:9/x") && !encrypted.is_known("https://b.evil/x"));
        assert!(!encrypted.is_known("https://a@evil/") && !encrypted.is_known("/x"));
        assert!(client(&["https://a", "http://b"]).is_trusted("http://c/v2/leaving/7"));
    }

    #[test]
    fn a_stream_comes_from_an_address() {
        assert_eq!(origin("http://l:8080/v2/events?a=b").as_deref(), Some("http://l:8080"));
        assert_eq!(origin("/v2/events"), None);
    }
}
