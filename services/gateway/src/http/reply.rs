//! Replies, built apart from the connection so that they can be compared in tests.

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::CONTENT_TYPE};
use serde_json::Value;

use super::stream::ChunkReceiver;

/// A whole reply, or the head of a stream.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
}

/// What follows the head.
pub(crate) enum Body {
    Full(Bytes),
    /// Ends when the sender is dropped.
    Stream(ChunkReceiver),
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = match &self.body {
            Body::Full(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Body::Stream(_) => "(stream)".to_owned(),
        };
        f.debug_struct("Reply").field("status", &self.status).field("body", &body).finish_non_exhaustive()
    }
}

impl Reply {
    /// Only a status.
    pub(crate) fn empty(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), body: Body::Full(Bytes::new()) }
    }

    /// A body of this type.
    pub(crate) fn bytes(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let mut reply = Self::empty(status);
        reply.body = Body::Full(body.into());
        reply.set(CONTENT_TYPE, content_type)
    }

    /// Plain text.
    pub(crate) fn text(status: StatusCode, text: impl Into<String>) -> Self {
        Self::bytes(status, "text/plain; charset=utf-8", text.into())
    }

    /// JSON that is written already, with status 200.
    pub(crate) fn json_text(text: impl Into<Bytes>) -> Self {
        Self::bytes(StatusCode::OK, "application/json", text)
    }

    /// JSON with status 200.
    pub(crate) fn json(value: &Value) -> Self {
        Self::json_with(StatusCode::OK, value)
    }

    /// JSON with any status.
    pub(crate) fn json_with(status: StatusCode, value: &Value) -> Self {
        Self::bytes(status, "application/json", value.to_string())
    }

    /// Status 200 and a body that is yet to come.
    pub(crate) fn stream(content_type: &'static str, receiver: ChunkReceiver) -> Self {
        let mut reply = Self::empty(StatusCode::OK);
        reply.body = Body::Stream(receiver);
        reply.set(CONTENT_TYPE, content_type)
    }

    /// Sets a header; a value that no header may have is left out.
    pub(crate) fn set(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    /// Hands it to the server.
    pub(crate) fn into_response(self) -> warp::reply::Response {
        let mut response = match self.body {
            Body::Full(bytes) => warp::reply::Response::new(bytes.into()),
            Body::Stream(receiver) => warp::Reply::into_response(warp::reply::stream(receiver.into_stream())),
        };
        *response.status_mut() = self.status;
        response.headers_mut().extend(self.headers);
        response
    }
}

#[cfg(test)]
impl Reply {
    /// The body as text, for tests.
    pub(crate) fn body_text(&self) -> String {
        match &self.body {
            Body::Full(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Body::Stream(_) => panic!("a stream has no text"),
        }
    }
}
