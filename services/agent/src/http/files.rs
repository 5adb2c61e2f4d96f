//! `/files/browse`, `/files/read`, `/files/download`: sandboxes, and nothing else.

use std::{
    fs::{self, File, Metadata},
    io,
    os::{
        fd::AsRawFd,
        unix::fs::{FileExt, FileTypeExt, MetadataExt},
    },
    path::Path,
};

use nix::unistd::{Gid, Group, Uid, User};
use serde_json::{Value, json};

use super::{
    query::Query,
    reply::{Body, Reply},
    sandboxes::{OpenError, Sandboxes},
};

/// Sixteen pages: the most that one read gives.
const MAX_READ: u64 = 64 * 1024;

/// Runs file system work where it may block.
async fn may_block<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Reply> + Send + 'static,
) -> Result<T, Reply> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|failure| Err(Reply::bad_request(format!("{failure}\n"))))
}

async fn blocking(work: impl FnOnce() -> Result<Reply, Reply> + Send + 'static) -> Reply {
    match may_block(work).await {
        Ok(reply) | Err(reply) => reply,
    }
}

fn path(query: &Query) -> Result<String, Reply> {
    let path = query.get("path").filter(|path| !path.is_empty());
    path.map(str::to_owned).ok_or_else(|| Reply::bad_request("Expecting 'path=value' in query.\n"))
}

fn open(sandboxes: &Sandboxes, path: &str) -> Result<(File, Metadata), Reply> {
    let file = sandboxes.open(path).map_err(|error| match error {
        OpenError::NotFound => Reply::not_found_empty(),
        OpenError::Escapes => Reply::bad_request(format!("'{path}' is inaccessible.\n")),
        OpenError::Other(reason) => Reply::bad_request(format!("Cannot open '{path}': {reason}.\n")),
    })?;
    let metadata = file.metadata().map_err(|error| broken(&error))?;
    Ok((file, metadata))
}

fn broken(error: &io::Error) -> Reply {
    Reply::bad_request(format!("{error}.\n"))
}

/// What lies in a directory, sorted by path; nothing for a file.
pub(super) async fn browse(sandboxes: &Sandboxes, query: &Query) -> Reply {
    let entries = match path(query) {
        Ok(path) => entries(sandboxes, &path).await,
        Err(refused) => return refused,
    };
    entries.map_or_else(
        |refused| refused,
        |entries| Reply::json(&entries.iter().map(Entry::to_json).collect(), query),
    )
}

/// A file in a directory.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) path: String,
    pub(super) nlink: u64,
    pub(super) size: u64,
    /// Unix time in seconds.
    pub(super) mtime: i64,
    /// As `stat` gives it.
    pub(super) mode: u32,
    pub(super) uid: String,
    pub(super) gid: String,
    shown_mode: String,
}

/// What lies in a directory, sorted by path; nothing for a file.
pub(super) async fn entries(sandboxes: &Sandboxes, path: &str) -> Result<Vec<Entry>, Reply> {
    let (sandboxes, path) = (sandboxes.clone(), path.to_owned());
    let work = move || {
        let (dir, metadata) = open(&sandboxes, &path)?;
        let mut entries = Vec::new();
        if metadata.is_dir() {
            // Through the open directory: its name may mean another by now.
            let listing =
                fs::read_dir(format!("/proc/self/fd/{}", dir.as_raw_fd())).map_err(|error| broken(&error))?;
            for entry in listing.flatten() {
                if let Ok(metadata) = entry.metadata() {
                    let path = Path::new(&path).join(entry.file_name()).display().to_string();
                    entries.push(describe(path, &metadata));
                }
            }
        }
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(entries)
    };
    may_block(work).await
}

/// A part of a file as it is, and the whole file's size.
pub(super) async fn part(
    sandboxes: &Sandboxes,
    path: &str,
    offset: u64,
    length: Option<u64>,
) -> Result<(u64, Vec<u8>), Reply> {
    let (sandboxes, path) = (sandboxes.clone(), path.to_owned());
    let work = move || {
        let (file, metadata) = open(&sandboxes, &path)?;
        if metadata.is_dir() {
            return Err(Reply::bad_request("Cannot read a directory.\n"));
        }
        let size = metadata.len();
        let rest = size.saturating_sub(offset);
        let length = length.unwrap_or(rest).min(rest).min(MAX_READ);
        let data = read_at(&file, offset, length).map_err(|error| broken(&error))?;
        Ok((size, data))
    };
    may_block(work).await
}

fn describe(path: String, metadata: &Metadata) -> Entry {
    let (uid, gid) = (metadata.uid(), metadata.gid());
    let user =
        User::from_uid(Uid::from_raw(uid)).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
    let group = Group::from_gid(Gid::from_raw(gid))
        .ok()
        .flatten()
        .map_or_else(|| gid.to_string(), |group| group.name);
    Entry {
        path,
        nlink: metadata.nlink(),
        size: metadata.size(),
        mtime: metadata.mtime(),
        mode: metadata.mode(),
        uid: user,
        gid: group,
        shown_mode: mode(metadata),
    }
}

impl Entry {
    fn to_json(&self) -> Value {
        #[allow(clippy::cast_precision_loss, reason = "seconds of a file's time are far below 2^52")]
        let mtime = self.mtime as f64;
        json!({
            "gid": self.gid,
            "mode": self.shown_mode,
            "mtime": mtime,
            "nlink": self.nlink,
            "path": self.path,
            "size": self.size,
            "uid": self.uid,
        })
    }
}

/// As `ls -l` shows it.
fn mode(metadata: &Metadata) -> String {
    let kind = metadata.file_type();
    let kind = match () {
        () if kind.is_dir() => 'd',
        () if kind.is_symlink() => 'l',
        () if kind.is_fifo() => 'p',
        () if kind.is_socket() => 's',
        () if kind.is_block_device() => 'b',
        () if kind.is_char_device() => 'c',
        () => '-',
    };
    let bits = metadata.mode();
    let flags = "rwxrwxrwx".chars().enumerate();
    let flags = flags.map(|(index, flag)| if bits & (0o400 >> index) == 0 { '-' } else { flag });
    std::iter::once(kind).chain(flags).collect()
}

/// A part of a file, as text.
pub(super) async fn read(sandboxes: &Sandboxes, query: &Query) -> Reply {
    let (sandboxes, query) = (sandboxes.clone(), query.clone());
    blocking(move || {
        let path = path(&query)?;
        let offset = number(&query, "offset")?;
        let length = number(&query, "length")?;
        let (file, metadata) = open(&sandboxes, &path)?;
        if metadata.is_dir() {
            return Err(Reply::bad_request("Cannot read a directory.\n"));
        }
        let size = metadata.len();
        let Some(offset) = offset.filter(|offset| *offset < size) else {
            return Ok(Reply::json(&json!({ "data": "", "offset": size }), &query));
        };
        let rest = size - offset;
        let length = length.unwrap_or(rest).min(rest).min(MAX_READ);
        let data = read_at(&file, offset, length).map_err(|error| broken(&error))?;
        Ok(Reply::json(&json!({ "data": text(data, length < rest), "offset": offset }), &query))
    })
    .await
}

/// A parameter that is a number; -1 stands for none.
fn number(query: &Query, name: &str) -> Result<Option<u64>, Reply> {
    let Some(text) = query.get(name) else { return Ok(None) };
    let failed = || format!("Failed to parse {name}: Failed to convert '{text}' to number.\n");
    match text.trim().parse::<i64>() {
        Err(_) => Err(Reply::bad_request(failed())),
        Ok(number) if number < -1 => {
            let name = if name == "offset" { "offset" } else { "length" };
            Err(Reply::bad_request(format!("Negative {name} provided: {number}.\n")))
        }
        Ok(number) => Ok(u64::try_from(number).ok()),
    }
}

fn read_at(file: &File, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut data = vec![0; usize::try_from(length).unwrap_or_default()];
    let mut filled = 0;
    while filled < data.len() {
        match file.read_at(&mut data[filled..], offset + filled as u64) {
            // The file became shorter.
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    data.truncate(filled);
    Ok(data)
}

/// Text of bytes; a character that the end cuts in two is left for the next read when there is more.
fn text(mut data: Vec<u8>, more: bool) -> String {
    if more && let Err(error) = std::str::from_utf8(&data) {
        let good = error.valid_up_to();
        if error.error_len().is_none() && good > 0 {
            data.truncate(good);
        }
    }
    String::from_utf8_lossy(&data).into_owned()
}

/// A whole file as it is.
pub(super) async fn download(sandboxes: &Sandboxes, query: &Query) -> Reply {
    let (sandboxes, query) = (sandboxes.clone(), query.clone());
    blocking(move || {
        let path = path(&query)?;
        let (file, metadata) = open(&sandboxes, &path).map_err(|reply| {
            if reply.status == warp::http::StatusCode::NOT_FOUND { Reply::not_found() } else { reply }
        })?;
        if metadata.is_dir() {
            return Err(Reply::bad_request("Cannot download a directory.\n"));
        }
        if !metadata.is_file() {
            return Err(Reply::not_found());
        }
        let name = Path::new(&path).file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Reply {
            status: warp::http::StatusCode::OK,
            content_type: Some(mime(&name)),
            disposition: Some(format!("attachment; filename={name}")),
            headers: vec![],
            body: Body::File(Box::new(tokio::fs::File::from_std(file)), metadata.len()),
        })
    })
    .await
}

fn mime(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("css") => "text/css",
        Some("csv") => "text/csv",
        Some("gif") => "image/gif",
        Some("gz" | "tgz") => "application/gzip",
        Some("html" | "htm") => "text/html",
        Some("jpeg" | "jpg") => "image/jpeg",
        Some("js") => "application/javascript",
        Some("json") => "application/json",
        Some("log" | "txt") => "text/plain",
        Some("pdf") => "application/pdf",
        Some("png") => "image/png",
        Some("svg") => "image/svg+xml",
        Some("tar") => "application/x-tar",
        Some("xml") => "application/xml",
        Some("zip") => "application/zip",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests;
