//! Downloads over HTTP and HTTPS.

use std::{io, sync::OnceLock, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{io::AsyncWriteExt, time::timeout};

const REDIRECTS: usize = 20;
const CONNECTING: Duration = Duration::from_secs(30);

type HttpClient<C> = Client<C, Empty<Bytes>>;

/// Asks web servers for files.
#[derive(Debug)]
pub(crate) struct Downloader {
    plain: HttpClient<HttpConnector>,
    /// Made when it is first needed: a machine may have no certificates of authorities.
    encrypted: OnceLock<Result<HttpClient<HttpsConnector<HttpConnector>>, String>>,
    /// A server that sends nothing for so long is given up.
    stall: Duration,
}

/// A file on its way.
#[derive(Debug)]
pub(super) struct Download {
    body: Incoming,
    /// In bytes, as the server said before; absent: it did not.
    pub(super) length: Option<u64>,
    stall: Duration,
}

impl Downloader {
    pub(crate) fn new(stall: Duration) -> Self {
        let plain = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector(true));
        Self { plain, encrypted: OnceLock::new(), stall }
    }

    /// Follows redirects to the file.
    pub(super) async fn get(&self, uri: &str) -> Result<Download, String> {
        let mut next: Uri = uri.parse().map_err(|error| format!("the URI cannot be used: {error}"))?;
        for _ in 0..=REDIRECTS {
            let response = self.ask(&next).await?;
            let status = response.status();
            if status == StatusCode::OK {
                let length = response.headers().get(header::CONTENT_LENGTH);
                let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
                return Ok(Download { body: response.into_body(), length, stall: self.stall });
            }
            let location = response.headers().get(header::LOCATION).filter(|_| status.is_redirection());
            let Some(location) = location.and_then(|location| location.to_str().ok()) else {
                return Err(format!("the server answered {status}"));
            };
            next = redirected(&next, location)?;
        }
        Err(format!("more than {REDIRECTS} redirects"))
    }

    async fn ask(&self, uri: &Uri) -> Result<Response<Incoming>, String> {
        let mut headers = HeaderMap::new();
        let user = uri.authority().and_then(|authority| authority.as_str().rsplit_once('@'));
        if let Some((user, _)) = user {
            let value = HeaderValue::try_from(format!("Basic {}", BASE64.encode(user)));
            headers.insert(header::AUTHORIZATION, value.map_err(|error| error.to_string())?);
        }
        self.send(uri, headers).await
    }

    /// Asks once, with these headers, and follows nowhere.
    pub(crate) async fn send(&self, uri: &Uri, headers: HeaderMap) -> Result<Response<Incoming>, String> {
        let host = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        let mut request = Request::get(uri).header(header::HOST, host).header(header::USER_AGENT, "meshos");
        if let Some(all) = request.headers_mut() {
            all.extend(headers);
        }
        let request =
            request.body(Empty::new()).map_err(|error| format!("the URI cannot be used: {error}"))?;
        let answer = match uri.scheme_str() {
            Some("https") => timeout(self.stall, self.encrypted()?.request(request)).await,
            _ => timeout(self.stall, self.plain.request(request)).await,
        };
        let answer = answer.map_err(|_| format!("no answer within {} s", self.stall.as_secs()))?;
        answer.map_err(|error| flatten(&error))
    }

    fn encrypted(&self) -> Result<&HttpClient<HttpsConnector<HttpConnector>>, String> {
        let make = || {
            let provider = rustls::crypto::ring::default_provider();
            let builder =
                HttpsConnectorBuilder::new().with_provider_and_native_roots(provider).map_err(|error| {
                    format!("this node has no certificates of authorities for https: {error}")
                })?;
            let connector = builder.https_only().enable_http1().wrap_connector(connector(false));
            Ok(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector))
        };
        self.encrypted.get_or_init(make).as_ref().map_err(Clone::clone)
    }
}

impl Download {
    /// Writes the file; how many bytes came.
    pub(super) async fn write_to(mut self, file: std::fs::File) -> Result<u64, String> {
        let mut file = tokio::fs::File::from_std(file);
        let mut written = 0;
        loop {
            let frame = timeout(self.stall, self.body.frame()).await;
            let frame =
                frame.map_err(|_| format!("the server sent nothing for {} s", self.stall.as_secs()))?;
            let Some(frame) = frame else { break };
            let frame = frame.map_err(|error| format!("the download broke off: {}", flatten(&error)))?;
            if let Ok(data) = frame.into_data() {
                written += data.len() as u64;
                file.write_all(&data).await.map_err(cannot_write)?;
            }
        }
        file.flush().await.map_err(cannot_write)?;
        Ok(written)
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn cannot_write(error: io::Error) -> String {
    format!("cannot write the file: {error}")
}

fn connector(enforce_http: bool) -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.enforce_http(enforce_http);
    connector.set_connect_timeout(Some(CONNECTING));
    connector
}

/// Where a redirect leads to: to the web only, never to files of this node.
pub(crate) fn redirected(from: &Uri, location: &str) -> Result<Uri, String> {
    let bad = || format!("the server redirects to '{}', which cannot be used", super::uri::shown(location));
    let location = location.split('#').next().unwrap_or_default();
    if location.contains("://") {
        let to: Uri = location.parse().map_err(|_| bad())?;
        return if matches!(to.scheme_str(), Some("http" | "https")) { Ok(to) } else { Err(bad()) };
    }
    let (scheme, authority) = (from.scheme_str().unwrap_or("http"), from.authority().ok_or_else(bad)?);
    let to = match location.strip_prefix("//") {
        Some(rest) => format!("{scheme}://{rest}"),
        None if location.starts_with('/') => format!("{scheme}://{authority}{location}"),
        None => {
            let (directory, _) = from.path().rsplit_once('/').unwrap_or_default();
            format!("{scheme}://{authority}{directory}/{location}")
        }
    };
    to.parse().map_err(|_| bad())
}

/// An error with its causes.
pub(crate) fn flatten(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_stay_on_the_web() {
        let from: Uri = "http://h:1/a/b?c".parse().unwrap();
        for (location, wanted) in [
            ("https://o/x", "https://o/x"),
            ("//o/x", "http://o/x"),
            ("/x?y#z", "http://h:1/x?y"),
            ("x", "http://h:1/a/x"),
        ] {
            assert_eq!(redirected(&from, location).unwrap(), wanted, "{location}");
        }
        assert!(redirected(&from, "file:///etc/shadow").unwrap_err().contains("file:///etc/shadow"));
    }
}
