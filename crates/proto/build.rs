//! Compiles `proto/` with protox: no `protoc` is needed.
use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use prost::Message as _;
use tonic_prost_build::manual::{Builder, Method, Service};

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    // Not `proto/` as a whole: refreshing `proto/lock` must not rebuild the world.
    for entry in fs::read_dir(&root)? {
        let path = entry?.path();
        if !path.ends_with("lock") {
            println!("cargo:rerun-if-changed={}", path.display());
        }
    }
    let mut files = Vec::new();
    collect(&root, &mut files)?;
    files.sort();
    let descriptors = protox::compile(&files, [&root])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut bare = descriptors.clone();
    bare.file.iter_mut().for_each(|file| file.source_code_info = None);
    fs::write(out.join("descriptors.bin"), bare.encode_to_vec())?;
    // Type names (`prost::Name`) lead the JSON mapping from a Rust type to its descriptor.
    let mut config = tonic_prost_build::Config::new();
    config.enable_type_names();
    config.extern_path(".meshos.allocator.v1.Task", "crate::packed::Task");
    // Ordered maps: the same message has the same bytes, which simulated runs rely on.
    tonic_prost_build::configure()
        .btree_map(".")
        .bytes(".")
        // Idle streams are many: see there.
        .codec_path("crate::codec::Codec")
        // The largest message by far, and rare: it must not make every command as large.
        .boxed(".meshos.allocator.v1.AllocatorMessage.body.apply_operation")
        // As here: a change is mostly an offer, or what is used of something.
        .boxed(".meshos.allocator.v1.Change.body.operation")
        .boxed(".meshos.allocator.v1.Change.body.executor")
        .boxed(".meshos.allocator.v1.Change.body.task")
        // Most resources are no disks.
        .boxed(".mesos.v1.Resource.disk")
        .include_file("modules.rs")
        .compile_fds_with_config(descriptors, config)?;
    packed_agent_link();
    Ok(())
}

/// `AgentLink` once more, with agents' reports as they are on the wire: see `src/packed.rs`.
fn packed_agent_link() {
    let link = Method::builder()
        .name("link")
        .route_name("Link")
        .input_type("crate::packed::AgentMessage")
        .output_type("crate::meshos::allocator::v1::AllocatorMessage")
        .codec_path("crate::codec::Codec")
        .client_streaming()
        .server_streaming()
        .build();
    let service = Service::builder().name("AgentLink").package("meshos.allocator.v1").method(link).build();
    Builder::new().compile(&[service]);
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "proto") {
            files.push(path);
        }
    }
    Ok(())
}
