//! Generated messages, clients and servers of the public Mesos APIs ([`mesos`]) and of the services of the
//! mesh ([`meshos`]), and what every user of these messages on HTTP needs: the JSON form that Mesos gives
//! them ([`json`]), the decoding of protobuf bodies with the check for required fields ([`decode`]) and the
//! framing of event streams ([`recordio`]); [`call`] puts them together for calls.
//!
//! The `.proto` files are compiled by the build script. `proto/lock/descriptors.bin` freezes what has been
//! published: the test `lock` fails on a change that would break a peer of another version.

pub mod call;
pub mod json;
pub mod packed;
pub mod recordio;

mod codec;
mod schema;
mod wire;

#[allow(clippy::all, missing_debug_implementations, clippy::unwrap_used, clippy::large_futures)]
#[allow(rustdoc::all)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/modules.rs"));
}

pub use generated::{etcdserverpb, meshos, mesos, mvccpb};
pub use schema::{ProtobufError, decode, missing_required, pool};

/// All files under `proto/` and their imports, as one encoded `FileDescriptorSet` without source info.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
