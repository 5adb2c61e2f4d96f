//! Bodies of v1 calls: media types and decoding, without a server. Order of the checks and texts are those of Mesos.

use prost::{Message, Name};

use crate::{decode as decode_protobuf, json};

/// How messages travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Encoding {
    /// `application/json`
    Json,
    /// `application/x-protobuf`
    Protobuf,
}

/// Why a call cannot be read, or its answer not be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Of HTTP.
    pub status: u16,
    /// The body, plain text.
    pub text: String,
}

impl Refusal {
    fn new(status: u16, text: impl Into<String>) -> Self {
        Self { status, text: text.into() }
    }
}

impl Encoding {
    /// The media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Protobuf => "application/x-protobuf",
        }
    }

    /// The encoding with this media type.
    pub fn parse(content_type: &[u8]) -> Option<Self> {
        [Self::Json, Self::Protobuf]
            .into_iter()
            .find(|encoding| encoding.content_type().as_bytes() == content_type)
    }

    /// The encoded message.
    pub fn encode<M: Message + Name>(self, message: &M) -> Vec<u8> {
        match self {
            Self::Json => json::to_json_string(message).into_bytes(),
            Self::Protobuf => message.encode_to_vec(),
        }
    }

    /// Reads a message.
    ///
    /// # Errors
    /// Status 400, with what is wrong.
    pub fn decode<M: Message + Name + Default>(self, body: &[u8]) -> Result<M, Refusal> {
        let decoded = match self {
            Self::Protobuf => {
                decode_protobuf(body).map_err(|_| format!("Failed to parse body into {} protobuf", M::NAME))
            }
            Self::Json => match json::parse(body) {
                Err(error) => Err(format!("Failed to parse body into JSON: {error}")),
                Ok(value) => json::from_json(&value)
                    .map_err(|error| format!("Failed to convert JSON into {} protobuf: {error}", M::NAME)),
            },
        };
        decoded.map_err(|text| Refusal::new(400, text))
    }
}

/// The encoding of a request with this `Content-Type`.
///
/// # Errors
/// Status 400 when it is absent, 415 when it is another.
pub fn content_type(header: Option<&[u8]>) -> Result<Encoding, Refusal> {
    let header = header.ok_or_else(|| Refusal::new(400, "Expecting 'Content-Type' to be present"))?;
    Encoding::parse(header).ok_or_else(|| {
        Refusal::new(415, "Expecting 'Content-Type' of application/json or application/x-protobuf")
    })
}

/// What the client wants to read, by the values of its `Accept` headers; JSON is preferred.
///
/// # Errors
/// Status 406 when it wants neither.
pub fn accept<'a>(headers: impl IntoIterator<Item = &'a str>) -> Result<Encoding, Refusal> {
    let ranges: Vec<_> =
        headers.into_iter().flat_map(|value| value.split(',').filter_map(media_range)).collect();
    match () {
        () if ranges.is_empty() || allows(&ranges, "application/json") => Ok(Encoding::Json),
        () if allows(&ranges, "application/x-protobuf") => Ok(Encoding::Protobuf),
        () => {
            let text = "Expecting 'Accept' to allow 'application/x-protobuf' or 'application/json'";
            Err(Refusal::new(406, text))
        }
    }
}

/// Whether media ranges allow a type of `application/`.
pub fn allows(ranges: &[&str], wanted: &str) -> bool {
    ranges.iter().any(|range| matches!(*range, "*/*" | "application/*") || *range == wanted)
}

/// The media range of an element of `Accept`; none when its weight is 0.
pub fn media_range(element: &str) -> Option<&str> {
    let mut parts = element.split(';').map(str::trim);
    let range = parts.next().filter(|range| !range.is_empty())?;
    let refused = parts.any(|part| part.strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0)));
    (!refused).then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_goes_before_protobuf_and_a_weight_of_zero_refuses() {
        let refused = accept(["text/html"]).unwrap_err();
        assert_eq!(refused.status, 406);
        for (header, encoding) in [
            ("*/*", Encoding::Json),
            ("application/x-protobuf, application/json;q=0.5", Encoding::Json),
            ("application/json;q=0, application/x-protobuf", Encoding::Protobuf),
        ] {
            assert_eq!(accept([header]), Ok(encoding), "{header}");
        }
        assert_eq!(accept([]), Ok(Encoding::Json));
    }

    #[test]
    fn content_types_are_exact() {
        assert_eq!(content_type(Some(b"application/x-protobuf")), Ok(Encoding::Protobuf));
        assert_eq!(content_type(Some(b"application/json; charset=utf-8")).unwrap_err().status, 415);
        assert_eq!(content_type(None).unwrap_err().status, 400);
    }
}
