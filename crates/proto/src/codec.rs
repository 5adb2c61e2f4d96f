//! How messages are written to streams and read from them: as usual, but for buffers that cost little while a stream is
//! idle. There are two streams for every agent, and tonic's own codec sets aside 8 KiB for each direction of each.

use std::marker::PhantomData;

use prost::Message;
use tonic::{
    Status,
    codec::{BufferSettings, EncodeBuf, Encoder},
};
use tonic_prost::ProstDecoder;

/// What a stream has at hand for its first message, in bytes.
const BUFFER: usize = 256;
/// Messages that are ready go out together up to this size, in bytes.
const TOGETHER: usize = 32 * 1024;

fn settings() -> BufferSettings {
    BufferSettings::new(BUFFER, TOGETHER)
}

/// Writes `T`, reads `U`.
pub(crate) struct Codec<T, U>(PhantomData<fn() -> (T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> tonic::codec::Codec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = Exact<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        Exact(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::new(settings())
    }
}

/// Makes room for a message at once: a small buffer would grow many times.
pub(crate) struct Exact<T>(PhantomData<fn(T)>);

impl<T: Message> Encoder for Exact<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(item.encoded_len());
        // Not `encode`, which works the length out once more.
        item.encode_raw(buffer);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        settings()
    }
}
