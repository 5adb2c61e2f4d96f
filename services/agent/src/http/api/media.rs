//! Which media types go in and out.

use meshos_proto::{
    call::{self, Encoding},
    mesos::v1::agent::call::Type,
};
use warp::http::{HeaderMap, StatusCode, header};

use crate::http::reply::Reply;

const RECORDIO: &str = "application/recordio";
pub(super) const INPUT: &str =
    "Expecting 'Content-Type' to be application/recordio for ATTACH_CONTAINER_INPUT call";

/// What a request is in, and what its answer shall be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Media {
    pub(super) content: Encoding,
    /// The body is a stream of records in this encoding.
    pub(super) records_in: Option<Encoding>,
    pub(super) accept: Encoding,
    /// The answer shall say that it is a stream of records.
    pub(super) records_out: bool,
}

impl Media {
    /// Reads the headers.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Reply> {
        let (content, records_in) = content(headers)?;
        let (accept, records_out) = accept(headers)?;
        Ok(Self { content, records_in, accept, records_out })
    }

    /// Refuses streams for calls that have none.
    pub(super) fn fits(&self, kind: Type) -> Result<(), Reply> {
        let name = kind.as_str_name();
        match (kind == Type::AttachContainerInput, self.records_in.is_some()) {
            (true, false) => return Err(Reply::text(StatusCode::UNSUPPORTED_MEDIA_TYPE, INPUT)),
            (false, true) => {
                let text = format!("Streaming 'Content-Type' {RECORDIO} is not supported for {name} call");
                return Err(Reply::text(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
            }
            _ => {}
        }
        let streams = matches!(kind, Type::LaunchNestedContainerSession | Type::AttachContainerOutput);
        match self.records_out && !streams {
            true => {
                let text = format!("Streaming response is not supported for {name} call");
                Err(Reply::text(StatusCode::NOT_ACCEPTABLE, text))
            }
            false => Ok(()),
        }
    }

    /// Of the answer to a call that streams.
    pub(super) fn content_type(&self) -> &'static str {
        if self.records_out { RECORDIO } else { self.accept.content_type() }
    }
}

fn content(headers: &HeaderMap) -> Result<(Encoding, Option<Encoding>), Reply> {
    let unsupported = |text: &str| Reply::text(StatusCode::UNSUPPORTED_MEDIA_TYPE, text);
    let content_type = headers.get(header::CONTENT_TYPE).map(|value| value.as_bytes());
    let content_type =
        content_type.ok_or_else(|| Reply::bad_request("Expecting 'Content-Type' to be present"))?;
    let message = headers.get("message-content-type").map(|value| value.as_bytes());
    if content_type == RECORDIO.as_bytes() {
        let text = "Expecting 'Message-Content-Type' to be set for streaming requests";
        let message = message.ok_or_else(|| Reply::bad_request(text))?;
        let encoding = Encoding::parse(message).ok_or_else(|| {
            unsupported("Expecting 'Message-Content-Type' of application/json or application/x-protobuf")
        })?;
        return Ok((encoding, Some(encoding)));
    }
    let encoding = Encoding::parse(content_type).ok_or_else(|| {
        unsupported(
            "Expecting 'Content-Type' of application/json or application/x-protobuf or application/recordio",
        )
    })?;
    match message {
        Some(_) => {
            Err(unsupported("Expecting 'Message-Content-Type' to be not set for non-streaming requests"))
        }
        None => Ok((encoding, None)),
    }
}

fn accept(headers: &HeaderMap) -> Result<(Encoding, bool), Reply> {
    let refused = |text: &str| Reply::text(StatusCode::NOT_ACCEPTABLE, text);
    let values = |name: &str| -> Vec<&str> {
        headers.get_all(name).iter().map(|value| value.to_str().unwrap_or_default()).collect()
    };
    let message = headers.contains_key("message-accept");
    if let Ok(encoding) = call::accept(values("accept")) {
        return match message {
            true => Err(refused("Expecting 'Message-Accept' to be not set for non-streaming responses")),
            false => Ok((encoding, false)),
        };
    }
    let ranges: Vec<_> = values("accept");
    let ranges: Vec<_> =
        ranges.iter().flat_map(|value| value.split(',')).filter_map(call::media_range).collect();
    if !call::allows(&ranges, RECORDIO) {
        return Err(refused(
            "Expecting 'Accept' to allow application/json or application/x-protobuf or application/recordio",
        ));
    }
    let encoding = call::accept(values("message-accept")).map_err(|_| {
        refused("Expecting 'Message-Accept' to allow application/json or application/x-protobuf")
    })?;
    Ok((encoding, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(headers: &[(&'static str, &str)]) -> Result<Media, u16> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        Media::of(&map).map_err(|reply| reply.status.as_u16())
    }

    const JSON: (&str, &str) = ("content-type", "application/json");
    const RECORDS: (&str, &str) = ("content-type", RECORDIO);
    const OUT: (&str, &str) = ("accept", RECORDIO);

    #[test]
    fn streams_name_the_encoding_of_their_records() {
        let plain = of(&[JSON]).unwrap();
        assert_eq!((plain.records_in, plain.records_out), (None, false));
        assert_eq!(of(&[]), Err(400));
        assert_eq!(of(&[("content-type", "text/plain")]), Err(415));
        assert_eq!(of(&[RECORDS]), Err(400));
        assert_eq!(of(&[RECORDS, ("message-content-type", "text/plain")]), Err(415));
        assert_eq!(of(&[JSON, ("message-content-type", "application/json")]), Err(415));
        let records = of(&[RECORDS, ("message-content-type", "application/x-protobuf")]).unwrap();
        assert_eq!(records.records_in, Some(Encoding::Protobuf));
        assert_eq!(of(&[JSON, ("accept", "text/html")]), Err(406));
        assert_eq!(of(&[JSON, ("accept", "*/*"), ("message-accept", "application/json")]), Err(406));
        assert_eq!(of(&[JSON, OUT, ("message-accept", "text/html")]), Err(406));
        let out = of(&[JSON, OUT, ("message-accept", "application/x-protobuf")]).unwrap();
        assert_eq!((out.accept, out.records_out, out.content_type()), (Encoding::Protobuf, true, RECORDIO));
    }

    #[test]
    fn mesos_c77_only_the_calls_that_stream_may() {
        let json = of(&[JSON]).unwrap();
        let refused = json.fits(Type::AttachContainerInput).unwrap_err();
        assert_eq!(refused.status, 415);
        assert!(json.fits(Type::GetState).is_ok() && json.fits(Type::AttachContainerOutput).is_ok());
        let records = of(&[RECORDS, ("message-content-type", "application/json")]).unwrap();
        assert!(records.fits(Type::AttachContainerInput).is_ok());
        assert_eq!(records.fits(Type::GetState).unwrap_err().status, 415);
        let out = of(&[JSON, OUT]).unwrap();
        assert!(out.fits(Type::LaunchNestedContainerSession).is_ok());
        assert_eq!(out.fits(Type::GetState).unwrap_err().status, 406);
    }
}
