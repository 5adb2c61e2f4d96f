//! A request as the APIs see it: read to its end, within limits.

use std::{net::IpAddr, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use futures::{Stream, StreamExt};
use http::{HeaderMap, Method};

use super::Query;

/// A body must be complete within this time.
const BODY_TIME: Duration = Duration::from_secs(30);

/// Why there is no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyError {
    /// Larger than this limit, in bytes.
    TooLarge(usize),
    /// Not complete in time.
    Timeout,
    /// The connection broke.
    Broken,
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    /// As sent, still percent-encoded.
    pub(crate) path: String,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Result<Bytes, BodyError>,
    /// Who opened the connection, where that is known.
    pub(crate) peer: Option<IpAddr>,
}

impl Request {
    /// A header's value, when it is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The method, with HEAD read as GET: the server leaves the body out by itself.
    pub(crate) fn verb(&self) -> &Method {
        if self.method == Method::HEAD { &Method::GET } else { &self.method }
    }
}

#[cfg(test)]
impl Request {
    /// A request for tests.
    pub(crate) fn test(method: &str, target: &str, body: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Self {
            method: method.parse().unwrap(),
            path: path.to_owned(),
            query: Query::parse(query),
            headers: HeaderMap::new(),
            body: Ok(Bytes::copy_from_slice(body.as_bytes())),
            peer: None,
        }
    }

    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.insert(name, value.parse().unwrap());
        self
    }
}

/// Reads a body of at most `limit` bytes.
pub(crate) async fn collect<B, E>(
    body: impl Stream<Item = Result<B, E>>,
    announced: Option<usize>,
    limit: usize,
) -> Result<Bytes, BodyError>
where
    B: Buf,
{
    if announced.is_some_and(|length| length > limit) {
        return Err(BodyError::TooLarge(limit));
    }
    tokio::time::timeout(BODY_TIME, read(body, limit)).await.map_err(|_| BodyError::Timeout)?
}

async fn read<B: Buf, E>(body: impl Stream<Item = Result<B, E>>, limit: usize) -> Result<Bytes, BodyError> {
    let mut whole = BytesMut::new();
    let mut body = std::pin::pin!(body);
    while let Some(piece) = body.next().await {
        let mut piece = piece.map_err(|_| BodyError::Broken)?;
        if whole.len() + piece.remaining() > limit {
            return Err(BodyError::TooLarge(limit));
        }
        while piece.has_remaining() {
            let chunk = piece.chunk();
            let taken = chunk.len();
            whole.extend_from_slice(chunk);
            piece.advance(taken);
        }
    }
    Ok(whole.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn collected(pieces: &[&'static str], limit: usize) -> Result<Bytes, BodyError> {
        let pieces: Vec<Result<Bytes, ()>> =
            pieces.iter().map(|piece| Ok(Bytes::from_static(piece.as_bytes()))).collect();
        collect(futures::stream::iter(pieces), None, limit).await
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_its_limit() {
        assert_eq!(collected(&["ab", "cd"], 4).await, Ok(Bytes::from_static(b"abcd")));
        assert_eq!(collected(&["ab", "cd"], 3).await, Err(BodyError::TooLarge(3)));
    }

    #[tokio::test]
    async fn an_announced_length_over_the_limit_is_not_read() {
        let never = futures::stream::pending::<Result<Bytes, ()>>();
        assert_eq!(collect(never, Some(5), 4).await, Err(BodyError::TooLarge(4)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_times_out() {
        let never = futures::stream::pending::<Result<Bytes, ()>>();
        assert_eq!(collect(never, None, 4).await, Err(BodyError::Timeout));
    }
}
