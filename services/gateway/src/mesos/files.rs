//! The master's one file: its log, `/master/log`.

use std::{io, path::Path};

use bytes::Bytes;
use http::{StatusCode, header};
use meshos_proto::mesos::v1::master::{Call, Response, call, response};
use serde_json::json;
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncSeekExt, SeekFrom},
};

use super::{Mesos, not_found, routes::Route};
use crate::http::{Query, Reply, stream::chunks};

/// What Mesos calls it.
const LOG: &str = "/master/log";
/// Sixteen pages: the most that one read gives.
const MAX_READ: u64 = 64 * 1024;

impl Mesos {
    /// `/files/browse`, `/files/read`, `/files/download`.
    pub(super) async fn files(&self, route: Route, query: &Query) -> Reply {
        let Some(path) = query.get("path").filter(|path| !path.is_empty()) else {
            return bad("Expecting 'path=value' in query.\n");
        };
        let Some(log) = self.log(path) else { return no_such_file(route) };
        let done = match route {
            // As for any file.
            Route::FilesBrowse => Ok(Reply::json(&json!([]))),
            Route::FilesRead => read(log, query).await,
            _ => self.download(log).await,
        };
        done.unwrap_or_else(|error| failed(route, &error))
    }

    /// For `/files/debug`.
    pub(super) fn attached(&self) -> Reply {
        let log = self.about.log.as_ref();
        Reply::json(&log.map_or(json!({}), |log| json!({LOG: log.display().to_string()})))
    }

    /// LIST_FILES and READ_FILE.
    pub(super) async fn file_call(&self, call: &Call) -> Result<Response, Box<Reply>> {
        let none = || Box::new(Reply::text(StatusCode::NOT_FOUND, ""));
        if let Some(wanted) = &call.read_file {
            let log = self.log(&wanted.path).ok_or_else(none)?;
            let part = part(log, Some(wanted.offset), wanted.length).await.map_err(|_| none())?;
            let read_file = Some(response::ReadFile { size: part.size, data: part.data.into() });
            return Ok(Response { read_file, ..of(response::Type::ReadFile) });
        }
        let wanted: &call::ListFiles = call.list_files.as_ref().ok_or_else(none)?;
        self.log(&wanted.path).ok_or_else(none)?;
        let list_files = Some(response::ListFiles::default());
        Ok(Response { list_files, ..of(response::Type::ListFiles) })
    }

    fn log(&self, path: &str) -> Option<&Path> {
        self.about.log.as_deref().filter(|_| path == LOG)
    }

    async fn download(&self, log: &Path) -> io::Result<Reply> {
        let mut file = File::open(log).await?;
        let (sender, receiver) = chunks();
        self.env.tasks.spawn("log-download", async move {
            let mut piece = vec![0; usize::try_from(MAX_READ).unwrap_or(usize::MAX)];
            while let Ok(count) = file.read(&mut piece).await {
                let part = Bytes::copy_from_slice(piece.get(..count).unwrap_or_default());
                if part.is_empty() || sender.send(part).await.is_err() {
                    return;
                }
            }
        });
        let name = log.file_name().unwrap_or_default().to_string_lossy();
        let disposition = format!("attachment; filename={name}");
        Ok(Reply::stream("text/plain", receiver).set(header::CONTENT_DISPOSITION, &disposition))
    }
}

fn of(kind: response::Type) -> Response {
    Response { r#type: Some(kind as i32), ..Response::default() }
}

fn bad(text: impl Into<String>) -> Reply {
    Reply::text(StatusCode::BAD_REQUEST, text)
}

fn no_such_file(route: Route) -> Reply {
    match route {
        Route::FilesDownload => not_found(),
        _ => Reply::text(StatusCode::NOT_FOUND, ""),
    }
}

fn failed(route: Route, error: &io::Error) -> Reply {
    match error.kind() {
        io::ErrorKind::NotFound => no_such_file(route),
        _ => bad(format!("{error}.\n")),
    }
}

/// A part of the log as text; without an offset its size.
async fn read(log: &Path, query: &Query) -> io::Result<Reply> {
    let numbers = number(query, "offset").and_then(|offset| Ok((offset, number(query, "length")?)));
    let (offset, length) = match numbers {
        Ok(numbers) => numbers,
        Err(text) => return Ok(bad(text)),
    };
    let part = part(log, offset, length).await?;
    let offset = offset.filter(|offset| *offset < part.size).unwrap_or(part.size);
    Ok(Reply::json(&json!({"data": String::from_utf8_lossy(&part.data), "offset": offset})))
}

/// A parameter that is a number; -1 stands for none.
fn number(query: &Query, name: &str) -> Result<Option<u64>, String> {
    let Some(text) = query.get(name) else { return Ok(None) };
    match text.trim().parse::<i64>() {
        Err(_) => Err(format!("Failed to parse {name}: Failed to convert '{text}' to number.\n")),
        Ok(number) if number < -1 => Err(format!("Negative {name} provided: {number}.\n")),
        Ok(number) => Ok(u64::try_from(number).ok()),
    }
}

struct Part {
    /// Of the whole file.
    size: u64,
    data: Vec<u8>,
}

async fn part(log: &Path, offset: Option<u64>, length: Option<u64>) -> io::Result<Part> {
    let mut file = File::open(log).await?;
    let size = file.metadata().await?.len();
    let mut data = Vec::new();
    if let Some(offset) = offset {
        file.seek(SeekFrom::Start(offset)).await?;
        file.take(length.unwrap_or(MAX_READ).min(MAX_READ)).read_to_end(&mut data).await?;
    }
    Ok(Part { size, data })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_log_is_read_in_parts() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("meshos-gateway.log");
        std::fs::write(&log, "x".repeat(70_000) + "end").unwrap();
        let ask = async |query: &str| read(&log, &Query::parse(query)).await.unwrap();
        assert_eq!(ask("").await.body_text(), r#"{"data":"","offset":70003}"#);
        assert_eq!(ask("offset=-1").await.body_text(), r#"{"data":"","offset":70003}"#);
        assert_eq!(ask("offset=70000").await.body_text(), r#"{"data":"end","offset":70000}"#);
        assert_eq!(ask("offset=70000&length=1").await.body_text(), r#"{"data":"e","offset":70000}"#);
        assert_eq!(ask("offset=80000").await.body_text(), r#"{"data":"","offset":70003}"#);
        assert_eq!(ask("offset=0").await.body_text().len(), 65_536 + r#"{"data":"","offset":0}"#.len());
        assert!(ask("offset=x").await.body_text().contains("Failed to parse offset"));
        assert_eq!(ask("offset=-5").await.status, StatusCode::BAD_REQUEST);
        assert!(part(&dir.path().join("none"), None, None).await.is_err());
    }
}
