//! Bodies of v1 calls. Check order and texts are those of Mesos.

use bytes::Bytes;
use http::{Method, StatusCode, header};
use meshos_proto::call::{self, Refusal};
use prost::{Message, Name};

use super::{bad_body, method_not_allowed};
use crate::http::{Reply, Request};

pub(super) use meshos_proto::call::Encoding;

/// Reads a v1 call: method, content type, body. Refusals are boxed: a reply is large.
pub(super) fn read<M: Message + Name + Default>(request: &Request) -> Result<M, Box<Reply>> {
    if request.method != Method::POST {
        return Err(Box::new(method_not_allowed(&["POST"], &request.method)));
    }
    let content_type = request.headers.get(header::CONTENT_TYPE).map(http::HeaderValue::as_bytes);
    let encoding = call::content_type(content_type).map_err(refused)?;
    let body = request.body.as_ref().map_err(|error| Box::new(bad_body(*error)))?;
    encoding.decode(body).map_err(refused)
}

/// The encoded form of a call that was read from the request: the body, where that is one.
pub(super) fn encoded(request: &Request, call: &impl Message) -> Bytes {
    let protobuf = request.headers.get(header::CONTENT_TYPE).map(http::HeaderValue::as_bytes)
        == Some(Encoding::Protobuf.content_type().as_bytes());
    match &request.body {
        Ok(body) if protobuf => body.clone(),
        _ => call.encode_to_vec().into(),
    }
}

/// What the client wants to read; JSON is preferred.
pub(super) fn accept(request: &Request) -> Result<Encoding, Box<Reply>> {
    let values = request.headers.get_all(header::ACCEPT);
    call::accept(values.iter().map(|value| value.to_str().unwrap_or_default())).map_err(refused)
}

fn refused(refusal: Refusal) -> Box<Reply> {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_REQUEST);
    Box::new(Reply::text(status, refusal.text))
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

    proptest::proptest! {
        /// Whatever is sent, there is a call or a refusal of the client.
        #[test]
        fn any_request_is_read_or_refused(
            body: Vec<u8>,
            kind in proptest::sample::select(vec!["application/json", "application/x-protobuf", "x/y", ""]),
            wanted in "[ -~]{0,40}",
        ) {
            let mut request = Request::test("POST", "/api/v1/scheduler", "");
            request.headers.insert("content-type", kind.parse().unwrap());
            request.headers.insert("accept", wanted.parse().unwrap());
            request.body = Ok(body.into());
            if let Err(reply) = read::<Call>(&request) {
                proptest::prop_assert!(reply.status.is_client_error());
            }
            if let Err(reply) = accept(&request) {
                proptest::prop_assert_eq!(reply.status.as_u16(), 406);
            }
        }
    }
}
