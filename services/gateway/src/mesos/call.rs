//! Bodies of v1 calls: content types and decoding. Check order and texts are those of Mesos.

use bytes::Bytes;
use http::{Method, StatusCode};
use meshos_proto::json;
use prost::{Message, Name};

use super::{bad_body, method_not_allowed};
use crate::http::{Reply, Request};

/// How messages travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Json,
    Protobuf,
}

impl Encoding {
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Protobuf => "application/x-protobuf",
        }
    }

    /// The encoded message.
    pub(super) fn encode<M: Message + Name>(self, message: &M) -> Vec<u8> {
        match self {
            Self::Json => json::to_json_string(message).into_bytes(),
            Self::Protobuf => message.encode_to_vec(),
        }
    }
}

/// Reads a v1 call: method, content type, body. Refusals are boxed: a reply is large.
pub(super) fn read<M: Message + Name + Default>(request: &Request) -> Result<M, Box<Reply>> {
    if request.method != Method::POST {
        return Err(Box::new(method_not_allowed(&["POST"], &request.method)));
    }
    let encoding = content_type(request)?;
    let body = request.body.as_ref().map_err(|error| Box::new(bad_body(*error)))?;
    decode(encoding, body).map_err(refuse)
}

fn content_type(request: &Request) -> Result<Encoding, Box<Reply>> {
    match request.headers.get(http::header::CONTENT_TYPE).map(http::HeaderValue::as_bytes) {
        None => Err(refuse("Expecting 'Content-Type' to be present".to_owned())),
        Some(b"application/json") => Ok(Encoding::Json),
        Some(b"application/x-protobuf") => Ok(Encoding::Protobuf),
        Some(_) => Err(Box::new(Reply::text(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "Expecting 'Content-Type' of application/json or application/x-protobuf",
        ))),
    }
}

fn decode<M: Message + Name + Default>(encoding: Encoding, body: &Bytes) -> Result<M, String> {
    match encoding {
        Encoding::Protobuf => {
            meshos_proto::decode(body).map_err(|_| format!("Failed to parse body into {} protobuf", M::NAME))
        }
        Encoding::Json => {
            let value =
                json::parse(body).map_err(|error| format!("Failed to parse body into JSON: {error}"))?;
            json::from_json(&value)
                .map_err(|error| format!("Failed to convert JSON into {} protobuf: {error}", M::NAME))
        }
    }
}

/// What the client wants to read; JSON is preferred.
pub(super) fn accept(request: &Request) -> Result<Encoding, Box<Reply>> {
    let mut ranges = Vec::new();
    for value in request.headers.get_all(http::header::ACCEPT) {
        ranges.extend(value.to_str().unwrap_or_default().split(',').filter_map(media_range));
    }
    let allows = |wanted: &str| {
        ranges.iter().any(|range| matches!(*range, "*/*" | "application/*") || *range == wanted)
    };
    match () {
        () if ranges.is_empty() || allows("application/json") => Ok(Encoding::Json),
        () if allows("application/x-protobuf") => Ok(Encoding::Protobuf),
        () => Err(Box::new(Reply::text(
            StatusCode::NOT_ACCEPTABLE,
            "Expecting 'Accept' to allow 'application/x-protobuf' or 'application/json'",
        ))),
    }
}

/// The media range of an element of `Accept`; none when its weight is 0.
fn media_range(element: &str) -> Option<&str> {
    let mut parts = element.split(';').map(str::trim);
    let range = parts.next().filter(|range| !range.is_empty())?;
    let refused = parts.any(|part| part.strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0)));
    (!refused).then_some(range)
}

/// Status 400 with this text.
pub(super) fn refuse(text: String) -> Box<Reply> {
    Box::new(Reply::text(StatusCode::BAD_REQUEST, text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use meshos_proto::mesos::v1::scheduler::Call;

    fn post(body: &str) -> Request {
        Request::test("POST", "/api/v1/scheduler", body).with("content-type", "application/json")
    }

    fn refused(request: &Request) -> (u16, String) {
        let reply = read::<Call>(request).unwrap_err();
        (reply.status.as_u16(), reply.body_text())
    }

    /// A body of a real master.
    macro_rules! golden {
        ($name:literal) => {
            include_str!(concat!("../../tests/golden/", $name, ".body"))
        };
    }

    #[test]
    fn mesos_c04_no_content_type() {
        let request = Request::test("POST", "/api/v1/scheduler", "{}");
        assert_eq!(refused(&request), (400, "Expecting 'Content-Type' to be present".to_owned()));
    }

    #[test]
    fn mesos_c05_other_content_types() {
        for other in ["text/plain", "application/json; charset=utf-8", "Application/JSON"] {
            let request = Request::test("POST", "/api/v1/scheduler", "{}").with("content-type", other);
            assert_eq!(refused(&request), (415, golden!("err_no_content_type").to_owned()));
        }
    }

    #[test]
    fn mesos_c12_get_is_not_allowed() {
        let request = Request::test("GET", "/api/v1/scheduler", "");
        let reply = read::<Call>(&request).unwrap_err();
        assert_eq!(reply.headers["allow"], "POST");
        assert_eq!(
            (reply.status.as_u16(), reply.body_text()),
            (405, golden!("err_scheduler_GET").to_owned())
        );
    }

    #[test]
    fn bodies_that_cannot_be_read() {
        let (status, text) = refused(&post("{not json"));
        assert_eq!(status, 400);
        let golden = golden!("err_bad_json");
        let start = golden.split(" at line").next().unwrap();
        assert!(text.starts_with(start), "{text} against {golden}");
        let (status, text) = refused(&post(r#"{"type":"SUBSCRIBE","subscribe":{}}"#));
        assert_eq!(status, 400);
        assert!(
            text.starts_with("Failed to convert JSON into Call protobuf: Missing required fields: "),
            "{text}"
        );
        let mut request = post("\u{1}\u{1}").with("content-type", "application/x-protobuf");
        assert_eq!(refused(&request), (400, "Failed to parse body into Call protobuf".to_owned()));
        request.body = Err(crate::http::BodyError::TooLarge(7));
        assert_eq!(refused(&request).0, 413);
    }

    #[test]
    fn mesos_c06_c07_accept() {
        let with = |value: &str| accept(&post("{}").with("accept", value)).map_err(|reply| reply.body_text());
        assert_eq!(accept(&post("{}")).unwrap(), Encoding::Json);
        assert_eq!(with("*/*"), Ok(Encoding::Json));
        assert_eq!(with("application/x-protobuf"), Ok(Encoding::Protobuf));
        assert_eq!(with("application/x-protobuf, application/json;q=0.5"), Ok(Encoding::Json));
        assert_eq!(with("application/json;q=0, application/x-protobuf"), Ok(Encoding::Protobuf));
        assert_eq!(with("text/html"), Err(golden!("err_accept_bad").to_owned()));
    }
}
