//! Downloads a layer to a file, going on where a connection broke off.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use http::{Response, StatusCode, header};
use hyper::body::Incoming;
use tokio::{
    fs::File,
    io::{AsyncSeekExt, AsyncWriteExt},
    time::{Instant, timeout_at},
};
use tracing::debug;

use super::{
    ErrorKind,
    digest::{Digest, Hasher},
    failure::Failure,
    registry::{Session, next, unavailable, wrong_digest},
};

/// Connections that may break off one after the other without bringing anything.
const FRUITLESS: u32 = 4;
/// And altogether.
const ATTEMPTS: u32 = 50;
/// A server that sends less than this within the time that one may send nothing is as bad.
const LEAST: u64 = 1024;

/// A file that goes when it is not needed any more.
#[derive(Debug)]
pub(super) struct Scratch(pub(super) PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// What a layer is to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) digest: &'a Digest,
    pub(super) size: u64,
}

/// Hears of bytes as they come.
pub(super) type Came<'a> = &'a (dyn Fn(u64) + Send + Sync);

/// What has come so far.
struct Progress {
    file: File,
    hasher: Hasher,
    received: u64,
    /// It was put together from several answers.
    patched: bool,
}

/// Downloads a blob to a new file; its digest is right then.
pub(super) async fn download(
    session: &Session,
    wanted: Wanted<'_>,
    path: &Path,
    (stall, came): (Duration, Came<'_>),
) -> Result<Scratch, Failure> {
    let failed = |error: std::io::Error| Failure::store(path, &error);
    let scratch = Scratch(path.to_owned());
    let file = File::create(path).await.map_err(failed)?;
    let mut progress = Progress { file, hasher: Hasher::default(), received: 0, patched: false };
    let (mut backoff, mut fruitless, mut wrong) = (session.backoff(), 0, 0);
    for _ in 0..ATTEMPTS {
        let before = progress.received;
        let outcome = progress.go_on(session, wanted, (stall, came), path).await;
        let got_on = progress.received > before;
        match outcome {
            Ok(()) if progress.received == wanted.size => {
                let found = progress.hasher.clone().finish();
                if found == *wanted.digest {
                    progress.file.flush().await.map_err(failed)?;
                    return Ok(scratch);
                }
                wrong += 1;
                if !progress.patched || wrong > 1 {
                    return Err(wrong_digest("a layer", wanted.digest, &found));
                }
                // Perhaps the pieces do not belong together.
                progress.restart().await.map_err(failed)?;
            }
            Ok(()) => {}
            Err(failure) if failure.kind != ErrorKind::Unavailable => return Err(failure),
            Err(failure) => {
                fruitless = if got_on { 0 } else { fruitless + 1 };
                if fruitless >= FRUITLESS {
                    return Err(failure);
                }
                debug!(digest = %wanted.digest, received = progress.received, reason = failure.reason, "layer broke off");
                backoff.wait().await;
            }
        }
    }
    Err(unavailable("a layer does not come to its end"))
}

impl Progress {
    async fn restart(&mut self) -> std::io::Result<()> {
        self.file.set_len(0).await?;
        self.file.rewind().await?;
        (self.hasher, self.received, self.patched) = (Hasher::default(), 0, false);
        Ok(())
    }

    /// Takes what comes by one more connection.
    async fn go_on(
        &mut self,
        session: &Session,
        wanted: Wanted<'_>,
        (stall, came): (Duration, Came<'_>),
        path: &Path,
    ) -> Result<(), Failure> {
        let failed = |error: std::io::Error| Failure::store(path, &error);
        let from = (self.received > 0).then_some(self.received);
        let response = session.get(&format!("blobs/{}", wanted.digest), from).await?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT if from.is_some() && begins_at(&response, self.received) => {
                self.patched = true;
            }
            StatusCode::OK => self.restart().await.map_err(failed)?,
            _ => {
                self.restart().await.map_err(failed)?;
                return Err(unavailable("it gives another part of a layer than it was asked for"));
            }
        }
        let mut body = response.into_body();
        let (mut deadline, mut since) = (Instant::now() + stall, 0);
        loop {
            let data = timeout_at(deadline, next(&mut body, stall)).await;
            let data =
                data.map_err(|_| unavailable(&format!("next to nothing came for {} s", stall.as_secs())))??;
            let Some(data) = data else { break };
            let length = data.len() as u64;
            if self.received + length > wanted.size {
                let reason = format!("a layer is longer than the {} bytes that were promised", wanted.size);
                return Err(Failure::new(ErrorKind::Refused, reason));
            }
            self.file.write_all(&data).await.map_err(failed)?;
            self.hasher.update(&data);
            self.received += length;
            came(length);
            since += length;
            if since >= LEAST {
                (deadline, since) = (Instant::now() + stall, 0);
            }
        }
        match self.received == wanted.size {
            true => Ok(()),
            false => Err(unavailable("a layer ended early")),
        }
    }
}

/// `Content-Range: bytes 5-9/10`
fn begins_at(response: &Response<Incoming>, from: u64) -> bool {
    let range = response.headers().get(header::CONTENT_RANGE).and_then(|range| range.to_str().ok());
    let begin = range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse().ok());
    begin == Some(from)
}
