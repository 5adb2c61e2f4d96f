//! Answers in Mesos's shapes.

use bytes::Bytes;
use serde_json::Value;
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
    pub(crate) body: Body,
}

#[derive(Debug)]
pub(crate) enum Body {
    Bytes(Bytes),
    /// A file and how much of it.
    File(Box<tokio::fs::File>, u64),
}

impl Reply {
    fn new(status: StatusCode, content_type: Option<&'static str>, body: impl Into<Bytes>) -> Self {
        Self { status, content_type, disposition: None, body: Body::Bytes(body.into()) }
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
        Self::new(StatusCode::OK, None, Bytes::new())
    }

    pub(crate) fn bad_request(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Some(TEXT), text.into())
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
                (warp::reply::Response::new(bytes.into()), length)
            }
            Body::File(file, length) => {
                let limited = tokio::io::AsyncReadExt::take(file, length);
                let stream = tokio_util::io::ReaderStream::new(limited);
                (warp::reply::stream(stream).into_response(), length)
            }
        };
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_LENGTH, length.into());
        let text = [
            (header::CONTENT_TYPE, self.content_type.map(str::to_owned)),
            (header::CONTENT_DISPOSITION, self.disposition),
        ];
        for (name, value) in text {
            if let Some(value) = value.and_then(|value| value.parse().ok()) {
                headers.insert(name, value);
            }
        }
        response
    }
}
