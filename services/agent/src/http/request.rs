//! A request as the handlers see it.

use std::{pin::Pin, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use futures::{Stream, StreamExt};
use tokio::time::timeout;
use warp::http::{HeaderMap, Method, StatusCode, header};

use super::{query::Query, reply::Reply};

/// Bodies of calls may be this large.
const LIMIT: usize = 16 * 1024 * 1024;
/// A body must be complete within this time.
const BODY_TIME: Duration = Duration::from_secs(30);

/// A body as it comes; none: the connection broke.
pub(crate) type BodyStream = Pin<Box<dyn Stream<Item = Option<Bytes>> + Send>>;

pub(crate) struct Request {
    pub(crate) method: Method,
    /// Decoded, without `/slave(1)`.
    pub(crate) path: String,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    pub(crate) body: BodyStream,
}

/// A body's pieces as bytes.
pub(super) fn body_stream<B: Buf, E>(body: impl Stream<Item = Result<B, E>> + Send + 'static) -> BodyStream {
    Box::pin(body.map(|piece| piece.ok().map(|mut piece| piece.copy_to_bytes(piece.remaining()))))
}

impl Request {
    /// A header's value, when it is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Refuses all methods but POST.
    pub(crate) fn post_only(&self) -> Result<(), Reply> {
        if self.method == Method::POST {
            return Ok(());
        }
        let text =
            format!("405 Method Not Allowed. Expecting one of {{ 'POST' }}, but received '{}'.", self.method);
        Err(Reply::text(StatusCode::METHOD_NOT_ALLOWED, text).with(header::ALLOW, "POST"))
    }

    /// The whole body.
    pub(crate) async fn body(&mut self) -> Result<Bytes, Reply> {
        let read = timeout(BODY_TIME, collect(&mut self.body)).await;
        read.unwrap_or_else(|_| {
            Err(Reply::text(StatusCode::REQUEST_TIMEOUT, "The request's body did not come in time"))
        })
    }
}

async fn collect(body: &mut BodyStream) -> Result<Bytes, Reply> {
    let mut whole = BytesMut::new();
    while let Some(piece) = body.next().await {
        let piece = piece.ok_or_else(|| Reply::bad_request("The request's body broke off"))?;
        if whole.len() + piece.len() > LIMIT {
            let text = format!("The request's body is over the limit of {LIMIT} bytes; send less");
            return Err(Reply::text(StatusCode::PAYLOAD_TOO_LARGE, text));
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}
