//! One image at its registry: version 2 of the registries' API, as Docker's and OCI's specifications have it.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Response, StatusCode, Uri, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use meshos_mesh::{Backoff, Rng};
use serde::Deserialize;
use tokio::{sync::OnceCell, time::timeout};

use super::{
    ErrorKind,
    challenge::{Challenge, token_address},
    credentials::Credentials,
    digest::{Digest, short},
    failure::Failure,
    manifest,
    name::{Name, Scheme},
};
use crate::fetcher::http::{Downloader, flatten, redirected};

const REDIRECTS: usize = 10;
/// Longest answer that is an error or a token.
const LONGEST_ANSWER: u64 = 256 * 1024;
/// A registry that does not answer as it should is asked so often.
const ATTEMPTS: u32 = 4;
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(8);
const DIGEST: &str = "docker-content-digest";

/// Asks for the parts of one image.
#[derive(Debug)]
pub(super) struct Session {
    downloader: Downloader,
    rng: Rng,
    stall: Duration,
    scheme: Scheme,
    authority: String,
    pub(super) name: Name,
    credentials: Option<Credentials>,
    /// `https://host:port`, once it is known.
    base: OnceCell<String>,
    /// The header that the registry wanted the last time.
    authorization: Mutex<Option<HeaderValue>>,
}

/// How a session begins.
#[derive(Debug)]
pub(super) struct Access {
    pub(super) stall: Duration,
    pub(super) rng: Rng,
    pub(super) credentials: Option<Credentials>,
}

/// An answer of the registry with the whole content.
pub(super) struct Content {
    pub(super) bytes: Vec<u8>,
    pub(super) digest: Digest,
}

impl Session {
    /// `host:port` of the registry.
    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    pub(super) fn new((scheme, authority): (Scheme, String), name: Name, access: Access) -> Self {
        Self {
            downloader: Downloader::new(access.stall),
            rng: access.rng,
            stall: access.stall,
            scheme,
            authority,
            name,
            credentials: access.credentials,
            base: OnceCell::new(),
            authorization: Mutex::new(None),
        }
    }

    /// A manifest by tag or digest, whose digest is right.
    pub(super) async fn manifest(&self, reference: &str) -> Result<Content, Failure> {
        let path = format!("manifests/{reference}");
        let (bytes, said) = self.small(&path, manifest::LONGEST).await?;
        let digest = Digest::of(&bytes);
        let promised = [Digest::parse(reference).ok(), said];
        match promised.into_iter().flatten().find(|promised| *promised != digest) {
            Some(promised) => Err(wrong_digest("its manifest", &promised, &digest)),
            None => Ok(Content { bytes, digest }),
        }
    }

    /// A small blob as a whole, whose digest is right.
    pub(super) async fn blob(&self, digest: &Digest) -> Result<Vec<u8>, Failure> {
        let (bytes, _) = self.small(&format!("blobs/{digest}"), manifest::LONGEST).await?;
        match Digest::of(&bytes) {
            found if found == *digest => Ok(bytes),
            found => Err(wrong_digest("its configuration", digest, &found)),
        }
    }

    async fn small(&self, path: &str, most: u64) -> Result<(Vec<u8>, Option<Digest>), Failure> {
        let mut backoff = self.backoff();
        for attempt in 1.. {
            let got = async {
                let response = self.get(path, None).await?;
                let said = response.headers().get(DIGEST).and_then(|digest| digest.to_str().ok());
                // Others than sha256 are compared by nobody.
                let said = said.and_then(|digest| Digest::parse(digest).ok());
                Ok((read_all(response, most, self.stall).await?, said))
            };
            match got.await {
                Err(Failure { kind: ErrorKind::Unavailable, .. }) if attempt < ATTEMPTS => {
                    backoff.wait().await
                }
                outcome => return outcome,
            }
        }
        Err(unavailable("it was asked too often"))
    }

    pub(super) fn backoff(&self) -> Backoff {
        Backoff::new(&self.rng, FIRST_WAIT, LONGEST_WAIT)
    }

    /// Begins to download a part of the image, from a byte on; the answer says by its status whether it does.
    pub(super) async fn get(&self, path: &str, from: Option<u64>) -> Result<Response<Incoming>, Failure> {
        let base = self.base.get_or_try_init(|| self.find_base()).await?;
        let uri = format!("{base}/v2/{}/{path}", self.name.repository);
        let uri: Uri = uri.parse().map_err(|error| unavailable(&format!("{error}")))?;
        let mut tried = false;
        loop {
            let authorization = self.authorization();
            let response = self.follow(&uri, (authorization.as_ref(), from)).await?;
            let status = response.status();
            match status {
                StatusCode::OK | StatusCode::PARTIAL_CONTENT => return Ok(response),
                StatusCode::UNAUTHORIZED if !tried => {
                    tried = true;
                    // Another part of the image got a new one meanwhile.
                    if self.authorization() == authorization {
                        let challenge = Challenge::of(response.headers());
                        let value = self.authenticate(challenge, &uri).await?;
                        *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
                    }
                }
                _ => return Err(self.refusal(response).await),
            }
        }
    }

    fn authorization(&self) -> Option<HeaderValue> {
        self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A registry of this machine may speak plainly.
    async fn find_base(&self) -> Result<String, Failure> {
        let base = |scheme: &str| format!("{scheme}://{}", self.authority);
        match self.scheme {
            Scheme::Https => Ok(base("https")),
            Scheme::Http => Ok(base("http")),
            Scheme::Either => {
                let uri: Uri = format!("{}/v2/", base("https"))
                    .parse()
                    .map_err(|error: http::uri::InvalidUri| unavailable(&error.to_string()))?;
                let encrypted = self.downloader.send(&uri, HeaderMap::new()).await;
                Ok(base(if encrypted.is_ok() { "https" } else { "http" }))
            }
        }
    }

    /// Follows redirects. Only the registry itself gets to know who we are.
    async fn follow(
        &self,
        uri: &Uri,
        (authorization, from): (Option<&HeaderValue>, Option<u64>),
    ) -> Result<Response<Incoming>, Failure> {
        let mut next = uri.clone();
        for _ in 0..=REDIRECTS {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(manifest::ACCEPTED));
            if let Some(from) = from
                && let Ok(range) = HeaderValue::try_from(format!("bytes={from}-"))
            {
                headers.insert(header::RANGE, range);
            }
            let ours = (next.scheme(), next.authority()) == (uri.scheme(), uri.authority());
            if let Some(authorization) = authorization.filter(|_| ours) {
                headers.insert(header::AUTHORIZATION, authorization.clone());
            }
            let response = self.downloader.send(&next, headers).await.map_err(|error| unavailable(&error))?;
            let location = response.headers().get(header::LOCATION);
            match location.filter(|_| response.status().is_redirection()).map(|to| to.to_str()) {
                None => return Ok(response),
                Some(location) => {
                    let location = location.map_err(|_| unavailable("it redirects to no address"))?;
                    next = redirected(&next, location).map_err(|error| unavailable(&error))?;
                }
            }
        }
        Err(unavailable(&format!("more than {REDIRECTS} redirects")))
    }

    /// What the registry wants to see.
    async fn authenticate(&self, challenge: Option<Challenge>, uri: &Uri) -> Result<HeaderValue, Failure> {
        let value = match (challenge, &self.credentials) {
            (_, Some(token @ Credentials::Token(_))) => token.header(),
            (Some(Challenge::Basic), Some(basic)) => basic.header(),
            (Some(Challenge::Basic), None) => {
                return Err(unauthorized(
                    "it wants to know who asks: give a pull config, or --docker_config",
                ));
            }
            (Some(Challenge::Bearer { realm, service, scope }), credentials) => {
                let default = format!("repository:{}:pull", self.name.repository);
                let scope = scope.as_deref().unwrap_or(&default);
                let address = token_address((&realm, service.as_deref(), scope), uri).map_err(|reason| {
                    unauthorized(&format!("its tokens are to come from '{}': {reason}", short(&realm)))
                })?;
                format!("Bearer {}", self.token(&address, credentials.as_ref()).await?)
            }
            (None, _) => return Err(unauthorized("it says 401, and not what it wants")),
        };
        let mut value = HeaderValue::try_from(value)
            .map_err(|_| unauthorized("what proves who asks has characters that no header may have"))?;
        value.set_sensitive(true);
        Ok(value)
    }

    async fn token(&self, address: &Uri, credentials: Option<&Credentials>) -> Result<String, Failure> {
        #[derive(Deserialize)]
        struct Answer {
            token: Option<String>,
            access_token: Option<String>,
        }
        let mut headers = HeaderMap::new();
        if let Some(value) = credentials.and_then(|own| HeaderValue::try_from(own.header()).ok()) {
            headers.insert(header::AUTHORIZATION, value);
        }
        let response = self.downloader.send(address, headers).await.map_err(|error| unavailable(&error))?;
        if response.status() != StatusCode::OK {
            return Err(self.refusal(response).await);
        }
        let bytes = read_all(response, LONGEST_ANSWER, self.stall).await?;
        let answer: Option<Answer> = serde_json::from_slice(&bytes).ok();
        let token = answer.and_then(|answer| answer.token.or(answer.access_token));
        token.filter(|token| !token.is_empty()).ok_or_else(|| unavailable("it gave no token"))
    }

    /// Why it did not give what was asked for, in its own words if it has some.
    async fn refusal(&self, response: Response<Incoming>) -> Failure {
        let status = response.status();
        let said = read_all(response, LONGEST_ANSWER, self.stall).await.ok();
        let said = said.and_then(|bytes| message(&bytes)).unwrap_or_default();
        let answer = format!("the registry {} answers {status}{said}", self.authority);
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let hint = match self.credentials {
                    Some(_) => "it is not for these credentials, or does not exist",
                    None => "it does not exist, or needs credentials: give a pull config, or --docker_config",
                };
                Failure::new(ErrorKind::Unauthorized, format!("{answer}: {hint}"))
            }
            StatusCode::NOT_FOUND => Failure::new(ErrorKind::NotFound, answer),
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                Failure::new(ErrorKind::Unavailable, answer)
            }
            _ => Failure::new(ErrorKind::Refused, answer),
        }
    }
}

/// Reads an answer that must not be longer than so many bytes.
async fn read_all(response: Response<Incoming>, most: u64, stall: Duration) -> Result<Vec<u8>, Failure> {
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    while let Some(data) = next(&mut body, stall).await? {
        if (bytes.len() + data.len()) as u64 > most {
            let reason = format!("the registry sends more than {most} bytes of what describes the image");
            return Err(Failure::new(ErrorKind::TooLarge, reason));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// The next bytes; none at the end.
pub(super) async fn next(body: &mut Incoming, stall: Duration) -> Result<Option<bytes::Bytes>, Failure> {
    loop {
        let frame = timeout(stall, body.frame()).await;
        let frame = frame
            .map_err(|_| unavailable(&format!("the registry sent nothing for {} s", stall.as_secs())))?;
        let Some(frame) = frame else { return Ok(None) };
        let frame = frame.map_err(|error| unavailable(&format!("it broke off: {}", flatten(&error))))?;
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
}

/// `{"errors": [{"message": …}]}`
fn message(bytes: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    let text = value.pointer("/errors/0/message").or_else(|| value.get("details"))?.as_str()?;
    Some(format!(" ({})", short(text)))
}

pub(super) fn wrong_digest(what: &str, promised: &Digest, found: &Digest) -> Failure {
    Failure::new(ErrorKind::Refused, format!("{what} has the digest {found}, and {promised} was promised"))
}

pub(super) fn unavailable(reason: &str) -> Failure {
    Failure::new(ErrorKind::Unavailable, format!("the registry cannot be used: {}", short(reason)))
}

fn unauthorized(reason: &str) -> Failure {
    Failure::new(ErrorKind::Unauthorized, format!("the registry does not let us in: {reason}"))
}
