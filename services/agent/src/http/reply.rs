//! Answers in Mesos's shapes.

use std::convert::Infallible;

use bytes::Bytes;
use futures::StreamExt;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use warp::{
    Reply as _,
    http::{StatusCode, header},
};

use super::query::Query;

const TEXT: &str = "text/plain; charset=utf-8";

/// An answer before it goes out.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) content_type: Option<&'static str>,
    pub(crate) disposition: Option<String>,
    pub(crate) headers: Vec<(header::HeaderName, String)>,
    pub(crate) body: Body,
}

#[derive(Debug)]
pub(crate) enum Body {
    Bytes(Bytes),
    /// A file and how much of it.
    File(Box<tokio::fs::File>, u64),
    /// Ends with its sender.
    Stream(mpsc::Receiver<Bytes>),
}

impl Reply {
    fn new(status: StatusCode, content_type: Option<&'static str>, body: impl Into<Bytes>) -> Self {
        Self { status, content_type, disposition: None, headers: vec![], body: Body::Bytes(body.into()) }
    }

    /// JSON, or a call of the function that the parameter `jsonp` names.
    pub(crate) fn json(value: &Value, query: &Query) -> Self {
        let text = value.to_string();
        match query.get("jsonp") {
            Some(function) => {
                Self::new(StatusCode::OK, Some("text/javascript"), format!("{function}({text})"))
            }
            None => Self::new(StatusCode::OK, Some("application/json"), text),
        }
    }

    pub(crate) fn empty() -> Self {
        Self::status(StatusCode::OK)
    }

    /// Only a status.
    pub(crate) fn status(status: StatusCode) -> Self {
        Self::new(status, None, Bytes::new())
    }

    /// Plain text.
    pub(crate) fn text(status: StatusCode, text: impl Into<String>) -> Self {
        Self::new(status, Some(TEXT), text.into())
    }

    /// A body of this type.
    pub(crate) fn bytes(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self::new(StatusCode::OK, Some(content_type), body)
    }

    /// Status 200 and a body that is yet to come.
    pub(crate) fn stream(content_type: &'static str, body: mpsc::Receiver<Bytes>) -> Self {
        Self { body: Body::Stream(body), ..Self::new(StatusCode::OK, Some(content_type), Bytes::new()) }
    }

    /// Sets a header; a value that no header may have is left out.
    pub(crate) fn with(mut self, name: header::HeaderName, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(crate) fn bad_request(text: impl Into<String>) -> Self {
        Self::text(StatusCode::BAD_REQUEST, text)
    }

    pub(crate) fn unavailable(text: &'static str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Some(TEXT), text)
    }

    /// As for a path that no endpoint has.
    pub(crate) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, Some(TEXT), "404 Not Found.")
    }

    /// As for a file that is not there.
    pub(crate) fn not_found_empty() -> Self {
        Self::new(StatusCode::NOT_FOUND, Some(TEXT), Bytes::new())
    }

    pub(crate) fn into_response(self) -> warp::reply::Response {
        let (mut response, length) = match self.body {
            Body::Bytes(bytes) => {
                let length = bytes.len() as u64;
                (warp::reply::Response::new(bytes.into()), Some(length))
            }
            Body::Stream(pieces) => {
                let pieces = ReceiverStream::new(pieces).map(Ok::<_, Infallible>);
                (warp::reply::stream(pieces).into_response(), None)
            }
            Body::File(file, length) => {
                let limited = tokio::io::AsyncReadExt::take(file, length);
                let stream = tokio_util::io::ReaderStream::new(limited);
                (warp::reply::stream(stream).into_response(), Some(length))
            }
        };
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        if let Some(length) = length {
            headers.insert(header::CONTENT_LENGTH, length.into());
        }
        let text = [
            (header::CONTENT_TYPE, self.content_type.map(str::to_owned)),
            (header::CONTENT_DISPOSITION, self.disposition),
        ];
        let more = self.headers.into_iter().map(|(name, value)| (name, Some(value)));
        for (name, value) in text.into_iter().chain(more) {
            if let Some(value) = value.and_then(|value| value.parse().ok()) {
                headers.insert(name, value);
            }
        }
        response
    }
}
