//! Bodies in gzip, both ways.

use std::io::{Read, Write};

use bytes::Bytes;
use flate2::{Compression, read::MultiGzDecoder, write::GzEncoder};
use http::{
    HeaderMap, HeaderValue,
    header::{ACCEPT_ENCODING, CONTENT_ENCODING, VARY},
};

use super::{BodyError, Reply, apart, reply::Body};

/// Shorter bodies go as they are, as in Mesos; in bytes.
const WORTH_IT: usize = 1024;

/// Whether the client takes gzip.
pub(super) fn accepted(headers: &HeaderMap) -> bool {
    let named = |element: &str| {
        let mut parts = element.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let refused = parts.any(|part| part.strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0)));
        (name.eq_ignore_ascii_case("gzip") || name == "*", refused)
    };
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let mut wanted = false;
    for (matches, refused) in values.flat_map(|value| value.split(',')).map(named) {
        if matches && refused {
            return false;
        }
        wanted |= matches;
    }
    wanted
}

/// Packs a whole body that is worth it; streams are not packed.
pub(super) fn pack(mut reply: Reply) -> Reply {
    let Body::Full(body) = &reply.body else { return reply };
    if body.len() < WORTH_IT || reply.headers.contains_key(CONTENT_ENCODING) {
        return reply;
    }
    let packed = apart(|| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(body).and_then(|()| encoder.finish())
    });
    // Writing to memory does not fail; if it did, the plain body would do.
    if let Ok(packed) = packed {
        reply.body = Body::Full(packed.into());
        reply.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        reply.headers.append(VARY, HeaderValue::from_static("accept-encoding"));
    }
    reply
}

/// The body of a request, unpacked if its head says that it is gzip: at most `limit` bytes.
pub(super) fn unpack(headers: &HeaderMap, body: Bytes, limit: usize) -> Result<Bytes, BodyError> {
    if !headers.get(CONTENT_ENCODING).is_some_and(|kind| kind.as_bytes().eq_ignore_ascii_case(b"gzip")) {
        return Ok(body);
    }
    apart(|| {
        let mut whole = Vec::new();
        let bound = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
        let read = MultiGzDecoder::new(body.as_ref()).take(bound).read_to_end(&mut whole);
        match read {
            Err(_) => Err(BodyError::Broken),
            Ok(_) if whole.len() > limit => Err(BodyError::TooLarge(limit)),
            Ok(_) => Ok(whole.into()),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;

    fn headers(value: &'static str) -> HeaderMap {
        [(ACCEPT_ENCODING, HeaderValue::from_static(value))].into_iter().collect()
    }

    #[test]
    fn gzip_is_for_those_who_take_it() {
        for (value, wanted) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5", true),
            ("*", true),
            ("identity", false),
            ("gzip;q=0", false),
            ("*, gzip;q=0.0", false),
            ("", false),
        ] {
            assert_eq!(accepted(&headers(value)), wanted, "{value}");
        }
    }

    #[test]
    fn what_is_packed_is_unpacked_within_limits() {
        let text = "x".repeat(WORTH_IT);
        let packed = pack(Reply::text(StatusCode::OK, text.clone()));
        let Body::Full(body) = packed.body else { panic!("no body") };
        assert!(body.len() < 100);
        let head = HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_static("gzip"))]);
        assert_eq!(unpack(&head, body.clone(), WORTH_IT), Ok(text.into()));
        assert_eq!(unpack(&head, body.clone(), 100), Err(BodyError::TooLarge(100)));
        assert_eq!(unpack(&head, body.slice(..body.len() - 9), WORTH_IT), Err(BodyError::Broken));
        assert_eq!(unpack(&head, Bytes::from_static(b"{}"), 10), Err(BodyError::Broken));
        assert_eq!(unpack(&HeaderMap::new(), body.clone(), 1), Ok(body));
        let short = pack(Reply::text(StatusCode::OK, "x"));
        assert!(!short.headers.contains_key(CONTENT_ENCODING));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_unpacked_or_refused(bytes: Vec<u8>, limit in 0usize..100) {
            let head = HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_static("gzip"))]);
            if let Ok(body) = unpack(&head, bytes.into(), limit) {
                proptest::prop_assert!(body.len() <= limit);
            }
        }
    }
}
