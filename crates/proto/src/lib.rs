//! Generated messages, clients and servers of the public Mesos APIs (`mesos.v1`) and of the services of the
//! mesh (`meshos`).

#[allow(clippy::all, missing_debug_implementations, clippy::unwrap_used, clippy::large_futures)]
#[allow(rustdoc::all)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/modules.rs"));
}

pub use generated::{meshos, mesos};

/// All files under `proto/`, as one encoded `FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
