//! LIST_FILES and READ_FILE.

use meshos_proto::mesos::v1::{
    self as pb,
    agent::{Response, call, response},
};

use super::of;
use crate::http::{files, reply::Reply, sandboxes::Sandboxes};

/// What lies in a directory, sorted by path; nothing for a file.
pub(super) async fn list(sandboxes: &Sandboxes, path: &str) -> Result<Response, Reply> {
    let entries = files::entries(sandboxes, path).await?;
    let file_infos = entries.into_iter().map(|entry| pb::FileInfo {
        path: entry.path,
        nlink: i32::try_from(entry.nlink).ok(),
        size: Some(entry.size),
        mtime: Some(pb::TimeInfo { nanoseconds: entry.mtime.saturating_mul(1_000_000_000) }),
        mode: Some(entry.mode),
        uid: Some(entry.uid),
        gid: Some(entry.gid),
    });
    let list_files = Some(response::ListFiles { file_infos: file_infos.collect() });
    Ok(Response { list_files, ..of(response::Type::ListFiles) })
}

/// A part of a file.
pub(super) async fn read(sandboxes: &Sandboxes, wanted: call::ReadFile) -> Result<Response, Reply> {
    let (size, data) = files::part(sandboxes, &wanted.path, wanted.offset, wanted.length).await?;
    let read_file = Some(response::ReadFile { size, data: data.into() });
    Ok(Response { read_file, ..of(response::Type::ReadFile) })
}
