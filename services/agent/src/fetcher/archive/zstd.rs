//! Zstandard: frame after frame, as parallel compressors and layers that can be sought in have them.

use std::io::{self, BufRead, Read};

use ruzstd::decoding::{
    BlockDecodingStrategy, FrameDecoder,
    errors::{FrameDecoderError, ReadFrameHeaderError},
};

/// The header of an empty frame.
const EMPTY: [u8; 6] = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x00];
const AT_ONCE: usize = 256 * 1024;

pub(super) struct Frames<R> {
    source: R,
    decoder: FrameDecoder,
    /// A frame has begun.
    inside: bool,
}

impl<R: BufRead> Frames<R> {
    pub(super) fn new(source: R) -> Self {
        let mut decoder = FrameDecoder::new();
        // The decoder looks at how much memory a frame wants from its second frame on.
        let _ = decoder.init(&EMPTY[..]);
        Self { source, decoder, inside: false }
    }

    /// Begins the next frame; false at the end.
    fn begin(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.decoder.init(&mut self.source) {
                Ok(()) => {
                    self.inside = true;
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let length = u64::from(length);
                    if io::copy(&mut self.source.by_ref().take(length), &mut io::sink())? != length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(io::Error::other(format!("it is no zstd file: {error}"))),
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.inside && !self.begin()? {
                return Ok(0);
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                self.decoder
                    .decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBytes(AT_ONCE))
                    .map_err(io::Error::other)?;
            }
            let count = self.decoder.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            self.inside = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame whose content is stored as it is.
    fn frame(window: u8, content: &[u8]) -> Vec<u8> {
        let mut frame = EMPTY.to_vec();
        frame[5] = window;
        let header = (u32::try_from(content.len()).unwrap() << 3) | 1;
        frame.extend(&header.to_le_bytes()[..3]);
        frame.extend(content);
        frame
    }

    #[test]
    fn frames_follow_each_other_and_some_are_skipped() {
        let mut packed = frame(0, b"one ");
        packed.extend([0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);
        packed.extend(frame(0, b""));
        packed.extend(frame(0x20, b"two"));
        let mut text = String::new();
        Frames::new(&packed[..]).read_to_string(&mut text).unwrap();
        assert_eq!(text, "one two");
        for cut in [packed.len() - 1, 12, 16, 3] {
            assert!(Frames::new(&packed[..cut]).read_to_end(&mut Vec::new()).is_err(), "{cut}");
        }
    }

    #[test]
    fn no_frame_takes_all_memory() {
        let terabytes = frame(0xff, b"x");
        let error = Frames::new(&terabytes[..]).read_to_end(&mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("no zstd file"), "{error}");
    }
}
