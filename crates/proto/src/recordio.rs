//! RecordIO, the framing of every Mesos event stream: each record is its length in decimal digits, a line
//! feed, then exactly that many bytes. Where the transport cuts the stream into chunks means nothing.

use bytes::{Buf as _, Bytes, BytesMut};

/// Digits of the largest length that fits 64 bits.
const MAX_DIGITS: usize = 20;

/// A stream that is not RecordIO, or not one that we are willing to buffer. Nothing after it can be trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordIoError {
    /// The length is not a decimal number.
    #[error("the record's length {0:?} is not a decimal number")]
    BadLength(String),
    /// The record is longer than the decoder's limit.
    #[error("a record of {len} bytes is over the limit of {limit} bytes")]
    TooLarge {
        /// As announced by the sender.
        len: u64,
        /// As given to [`Decoder::new`].
        limit: usize,
    },
}

/// The record in its frame.
pub fn encode(record: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(record.len() + MAX_DIGITS + 1);
    encode_into(record, &mut out);
    out.into()
}

/// Appends the record in its frame.
pub fn encode_into(record: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(record.len().to_string().as_bytes());
    out.push(b'\n');
    out.extend_from_slice(record);
}

/// Takes a stream apart, in whatever pieces it comes. Buffers at most one unfinished record plus what was
/// pushed and not yet taken.
#[derive(Debug)]
pub struct Decoder {
    limit: usize,
    buffer: BytesMut,
    /// Length of the record whose head has been read.
    pending: Option<usize>,
    failed: Option<RecordIoError>,
}

impl Decoder {
    /// A decoder that refuses records of more than `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, buffer: BytesMut::new(), pending: None, failed: None }
    }

    /// Adds the next piece of the stream.
    pub fn push(&mut self, piece: &[u8]) {
        if self.failed.is_none() {
            self.buffer.extend_from_slice(piece);
        }
    }

    /// The next whole record, or `None` until more is pushed. After an error always that error.
    #[allow(clippy::should_implement_trait)] // an iterator's `None` would mean the end
    pub fn next(&mut self) -> Result<Option<Bytes>, RecordIoError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.advance().inspect_err(|error| {
            self.failed = Some(error.clone());
            self.buffer = BytesMut::new();
        })
    }

    /// Whether the stream may end here: no record is half read.
    pub fn is_at_boundary(&self) -> bool {
        self.failed.is_none() && self.pending.is_none() && self.buffer.is_empty()
    }

    fn advance(&mut self) -> Result<Option<Bytes>, RecordIoError> {
        if self.pending.is_none() {
            self.pending = self.head()?;
        }
        match self.pending {
            Some(len) if self.buffer.len() >= len => {
                self.pending = None;
                Ok(Some(self.buffer.split_to(len).freeze()))
            }
            _ => Ok(None),
        }
    }

    /// Reads the length, once its line feed is there.
    fn head(&mut self) -> Result<Option<usize>, RecordIoError> {
        let window = &self.buffer[..self.buffer.len().min(MAX_DIGITS + 1)];
        let digits = window.iter().take_while(|b| b.is_ascii_digit()).count();
        let bad = || RecordIoError::BadLength(String::from_utf8_lossy(window).into_owned());
        match window.get(digits) {
            None if digits <= MAX_DIGITS => return Ok(None),
            Some(b'\n') if digits > 0 => {}
            _ => return Err(bad()),
        }
        let text = std::str::from_utf8(&window[..digits]).map_err(|_| bad())?;
        let len: u64 = text.parse().map_err(|_| bad())?;
        let fits = usize::try_from(len).ok().filter(|len| *len <= self.limit);
        let fits = fits.ok_or(RecordIoError::TooLarge { len, limit: self.limit })?;
        self.buffer.advance(digits + 1);
        Ok(Some(fits))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn records_survive_any_cut(
            records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8),
            cuts in prop::collection::vec(1usize..9, 1..200),
        ) {
            let mut stream = Vec::new();
            records.iter().for_each(|r| encode_into(r, &mut stream));
            let mut decoder = Decoder::new(40);
            let (mut found, mut rest, mut cuts) = (Vec::new(), stream.as_slice(), cuts.iter().cycle());
            while !rest.is_empty() {
                let (piece, after) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                decoder.push(piece);
                while let Some(record) = decoder.next().unwrap() {
                    found.push(record.to_vec());
                }
                rest = after;
            }
            prop_assert_eq!(found, records);
            prop_assert!(decoder.is_at_boundary());
        }

        #[test]
        fn any_bytes_end_in_records_or_one_lasting_error(stream in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut decoder = Decoder::new(16);
            decoder.push(&stream);
            loop {
                match decoder.next() {
                    Ok(Some(record)) => prop_assert!(record.len() <= 16),
                    Ok(None) => break,
                    Err(error) => {
                        decoder.push(b"1\nx");
                        prop_assert_eq!(decoder.next(), Err(error));
                        break;
                    }
                }
            }
        }
    }

    #[test]
    fn the_heartbeat_of_mesos_is_framed_as_20_bytes() {
        assert_eq!(encode(br#"{"type":"HEARTBEAT"}"#), &b"20\n{\"type\":\"HEARTBEAT\"}"[..]);
    }

    #[test]
    fn lengths_that_are_none_and_records_over_the_limit_are_refused() {
        let refused = |stream: &[u8]| {
            let mut decoder = Decoder::new(3);
            decoder.push(stream);
            decoder.next().unwrap_err()
        };
        assert_eq!(refused(b"4\n"), RecordIoError::TooLarge { len: 4, limit: 3 });
        for bad in [&b"\n"[..], b"x", b"-1\n", b"+1\n", b"1\r\n", b"99999999999999999999\n", &[b'1'; 30]] {
            assert!(matches!(refused(bad), RecordIoError::BadLength(_)), "{bad:?}");
        }
        let mut exact = Decoder::new(3);
        exact.push(b"3\nabc0\n");
        assert_eq!(exact.next(), Ok(Some(Bytes::from_static(b"abc"))));
        assert_eq!(exact.next(), Ok(Some(Bytes::new())));
        assert_eq!(exact.next(), Ok(None));
    }
}
