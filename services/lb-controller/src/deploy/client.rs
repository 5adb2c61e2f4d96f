//! JSON over HTTP.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::{
    client::legacy::{Client as Http, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;
use tokio::time::timeout;

use super::Error;

const DEADLINE: Duration = Duration::from_secs(60);
/// Largest answer.
const LARGEST: usize = 256 * 1024 * 1024;

pub(super) struct Client {
    http: Http<HttpConnector, Full<Bytes>>,
    base: String,
}

impl Client {
    /// For `http://host:port`.
    pub(super) fn new(url: &str) -> Result<Self, Error> {
        let base = url.trim_end_matches('/').to_owned();
        let good = base.parse::<Uri>().is_ok_and(|uri| uri.scheme_str() == Some("http"));
        if !good {
            return Err(Error::Arguments(format!("'{url}' is no http:// address")));
        }
        Ok(Self { http: Http::builder(TokioExecutor::new()).build_http(), base })
    }

    /// The answer; anything but a success is an error.
    pub(super) async fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, Error> {
        let text = body.map(Value::to_string).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(text)))
            .map_err(|error| Error::Marathon(error.to_string()))?;
        let failed = |what: String| Error::Marathon(format!("{method} {path}: {what}"));
        let asked = async {
            let response = self.http.request(request).await.map_err(|error| failed(error.to_string()))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), LARGEST).collect().await;
            let body = body.map_err(|error| failed(error.to_string()))?.to_bytes();
            if !status.is_success() {
                return Err(failed(format!("{status}: {}", String::from_utf8_lossy(&body))));
            }
            Ok(serde_json::from_slice(&body).unwrap_or(Value::Null))
        };
        timeout(DEADLINE, asked).await.map_err(|_| failed("no answer in time".to_owned()))?
    }
}
