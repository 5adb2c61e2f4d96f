//! Brings what a task needs into its sandbox, before it starts: from the web or from this node, unpacked, owned by the
//! task's user, through a cache if it asks for that. Whatever an archive says, nothing lands outside the sandbox.

pub(crate) mod archive;
mod cache;
pub(crate) mod http;
mod uri;

use std::{
    fs::File,
    io::{self, Write},
    os::{
        fd::AsRawFd,
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use nix::{libc, sys::statvfs::statvfs};
use tokio::sync::Semaphore;

use crate::{
    beneath::Beneath,
    containerizer::{Fetches, TaskUser, output_paths},
};
use archive::{Kind, Limits};
use cache::{Cache, Found, Loading, Outcome};
use http::Downloader;
pub use uri::FetchUri;
use uri::Source;

/// Files that are downloaded or unpacked at the same time.
const AT_ONCE: usize = 16;

/// The agent's flags for it.
#[derive(Clone, Debug)]
pub struct Settings {
    pub cache_dir: PathBuf,
    /// In bytes.
    pub cache_size: u64,
    /// A server that sends nothing for so long is given up.
    pub stall: Duration,
    /// Where relative paths begin; absent: there are none.
    pub frameworks_home: Option<PathBuf>,
}

impl Settings {
    /// The defaults, with the cache below a directory.
    #[must_use]
    pub fn below(dir: &Path) -> Self {
        Self {
            cache_dir: dir.join("fetch"),
            cache_size: 2 << 30,
            stall: Duration::from_secs(60),
            frameworks_home: None,
        }
    }
}

/// Fetches for all tasks of an agent.
#[derive(Debug)]
pub(crate) struct Fetcher {
    downloader: Downloader,
    /// Made when the first file is to be kept.
    cache: tokio::sync::OnceCell<Cache>,
    settings: Settings,
    running: Semaphore,
    succeeded: AtomicU64,
    failed: AtomicU64,
}

/// What one task wants.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) uris: Vec<FetchUri>,
    pub(crate) sandbox: PathBuf,
    /// Who owns what is fetched; absent: the agent's own user.
    pub(crate) user: Option<TaskUser>,
}

/// Stops work on other threads when whoever asked for it is gone.
#[derive(Debug, Default)]
pub(crate) struct StopOnDrop(pub(crate) Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Fetcher {
    pub(crate) fn new(settings: Settings) -> Self {
        let downloader = Downloader::new(settings.stall);
        Self {
            downloader,
            cache: tokio::sync::OnceCell::new(),
            settings,
            running: Semaphore::new(AT_ONCE),
            succeeded: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    pub(crate) fn figures(&self) -> Fetches {
        Fetches {
            succeeded: self.succeeded.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            cache_size: self.settings.cache_size,
            cache_used: self.cache.get().map(Cache::used).unwrap_or_default(),
        }
    }

    /// Fetches one after the other; why it failed. To stop it, drop it.
    pub(crate) async fn fetch(&self, order: Order) -> Result<(), String> {
        let order = Arc::new(order);
        for uri in &order.uris {
            order.note(&format!("Fetching '{}'", uri.shown()));
            if let Err(reason) = self.one(&order, uri).await {
                let failed = format!("Failed to fetch '{}': {reason}", uri.shown());
                order.note(&failed);
                self.failed.fetch_add(1, Ordering::Relaxed);
                return Err(failed);
            }
            order.note(&format!("Fetched '{}'", uri.shown()));
        }
        // Nothing was asked for, nothing was fetched.
        self.succeeded.fetch_add(u64::from(!order.uris.is_empty()), Ordering::Relaxed);
        Ok(())
    }

    async fn one(&self, order: &Arc<Order>, uri: &FetchUri) -> Result<(), String> {
        let path = uri.path()?;
        match uri.source(self.settings.frameworks_home.as_deref())? {
            Source::Local(from) => {
                let _permit = self.running.acquire().await;
                let file = order.on_thread(move |order| order.open_local(&from)).await?;
                self.copy(order, uri, (file, path)).await
            }
            Source::Http(address) if uri.cache => self.cached(order, uri, (&address, path)).await,
            Source::Http(address) => self.download(order, uri, (&address, path)).await,
        }
    }

    async fn cached(
        &self,
        order: &Arc<Order>,
        uri: &FetchUri,
        (address, path): (&str, PathBuf),
    ) -> Result<(), String> {
        let settings = self.settings.clone();
        let open =
            || async move { blocking(move || Cache::open(&settings.cache_dir, settings.cache_size)).await };
        let cache = self.cache.get_or_try_init(open).await.map_err(|error| {
            format!("the cache {} cannot be used: {error}", self.settings.cache_dir.display())
        })?;
        let key = (order.user.as_ref().map(|user| user.name.clone()), address.to_owned());
        loop {
            match cache.find(&key) {
                Found::Here(file) => return self.copy(order, uri, (file, path)).await,
                Found::OnItsWay(mut outcome) => {
                    let outcome = outcome.wait_for(Option::is_some).await.map(|outcome| outcome.clone());
                    match outcome {
                        Ok(Some(Outcome::Failed(reason))) => return Err(reason),
                        Ok(Some(Outcome::Unkept)) => return self.download(order, uri, (address, path)).await,
                        // It is there; or whoever fetched it gave up, and the next one is to try.
                        Ok(_) | Err(_) => {}
                    }
                }
                Found::Absent(loading) => return self.load(order, uri, (address, path), loading).await,
            }
        }
    }

    /// Fetches a file into the cache, and from there into the sandbox.
    async fn load(
        &self,
        order: &Arc<Order>,
        uri: &FetchUri,
        (address, path): (&str, PathBuf),
        mut loading: Loading,
    ) -> Result<(), String> {
        let permit = self.running.acquire().await;
        let begun = async {
            let download = self.downloader.get(address).await?;
            let file = match download.length {
                Some(length) => {
                    loading.begin(length).map_err(|error| format!("cannot write to the cache: {error}"))?
                }
                None => None,
            };
            match file {
                Some(file) => download.write_to(file).await.map(|_| None),
                None => Ok(Some(download)),
            }
        };
        match begun.await {
            Ok(None) => {
                let file =
                    loading.finish().map_err(|error| format!("cannot read from the cache: {error}"))?;
                drop(permit);
                self.copy(order, uri, (file, path)).await
            }
            // How large it is is not known, or too large.
            Ok(Some(download)) => {
                loading.end(Outcome::Unkept);
                self.receive(order, uri, (download, path)).await
            }
            Err(reason) => {
                loading.end(Outcome::Failed(reason.clone()));
                Err(reason)
            }
        }
    }

    async fn download(
        &self,
        order: &Arc<Order>,
        uri: &FetchUri,
        (address, path): (&str, PathBuf),
    ) -> Result<(), String> {
        let _permit = self.running.acquire().await;
        let download = self.downloader.get(address).await?;
        self.receive(order, uri, (download, path)).await
    }

    /// Writes a download into the sandbox; an archive is unpacked beside it.
    async fn receive(
        &self,
        order: &Arc<Order>,
        uri: &FetchUri,
        (download, path): (http::Download, PathBuf),
    ) -> Result<(), String> {
        let (target, mode) = (path.clone(), mode(uri));
        let file = order.on_thread(move |order| order.create(&target, mode)).await?;
        download.write_to(file).await?;
        match to_unpack(uri, &path) {
            Some(kind) => {
                let archive = path.clone();
                let file = order.on_thread(move |order| order.read(&archive)).await?;
                unpack(order, (file, path), kind).await
            }
            None => Ok(()),
        }
    }

    /// Puts a file of this node into the sandbox: unpacked if it is an archive.
    async fn copy(
        &self,
        order: &Arc<Order>,
        uri: &FetchUri,
        (file, path): (File, PathBuf),
    ) -> Result<(), String> {
        match to_unpack(uri, &path) {
            Some(kind) => unpack(order, (file, path), kind).await,
            None => {
                let mode = mode(uri);
                order.on_thread(move |order| order.copy(file, &path, mode)).await
            }
        }
    }
}

/// Whether the user could have come to an open file by himself: a file that all may read lies safe in a directory
/// that is not for all.
fn may_reach(user: &TaskUser, file: &File) -> io::Result<bool> {
    let path = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    for directory in path.ancestors().skip(1) {
        let metadata = directory.metadata()?;
        if !user.may_search(metadata.uid(), metadata.gid(), metadata.mode()) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn mode(uri: &FetchUri) -> u32 {
    if uri.executable { 0o755 } else { 0o644 }
}

fn to_unpack(uri: &FetchUri, path: &Path) -> Option<Kind> {
    if uri.extract && !uri.executable { archive::kind(path) } else { None }
}

async fn unpack(order: &Arc<Order>, (file, path): (File, PathBuf), kind: Kind) -> Result<(), String> {
    let stop = StopOnDrop(Arc::default());
    let stopped = Arc::clone(&stop.0);
    order
        .on_thread(move |order| {
            let space = statvfs(&order.sandbox).map(|stat| stat.blocks_available() * stat.fragment_size());
            let limits = Limits::for_disk(space.unwrap_or(u64::MAX));
            archive::unpack((file, &path), kind, &order.beneath()?, (limits, stopped))
        })
        .await
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|failure| Err(io::Error::other(failure)))
}

impl Order {
    /// Work on files, which may block.
    async fn on_thread<T, F>(self: &Arc<Self>, work: F) -> Result<T, String>
    where
        T: Send + 'static,
        F: FnOnce(&Self) -> Result<T, String> + Send + 'static,
    {
        let order = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || work(&order)).await;
        done.unwrap_or_else(|failure| Err(failure.to_string()))
    }

    fn beneath(&self) -> Result<Beneath, String> {
        let owner = self.user.as_ref().map(|user| (user.uid, user.gid));
        Beneath::open(&self.sandbox, owner).map_err(|error| format!("the sandbox cannot be used: {error}"))
    }

    fn create(&self, path: &Path, mode: u32) -> Result<File, String> {
        let made = self.beneath()?.create(path, mode);
        made.map_err(|error| format!("cannot make '{}' in the sandbox: {error}", path.display()))
    }

    fn read(&self, path: &Path) -> Result<File, String> {
        self.beneath()?.read(path).map_err(|error| format!("cannot read '{}': {error}", path.display()))
    }

    fn copy(&self, mut from: File, path: &Path, mode: u32) -> Result<(), String> {
        let mut to = self.create(path, mode)?;
        io::copy(&mut from, &mut to)
            .map(drop)
            .map_err(|error| format!("cannot write '{}': {error}", path.display()))
    }

    /// A file of this node that the task's user may read himself.
    fn open_local(&self, path: &Path) -> Result<File, String> {
        let failed = |error: io::Error| format!("cannot read {}: {error}", path.display());
        // A pipe would keep the agent waiting.
        let mut options = std::fs::OpenOptions::new();
        let file = options.read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(format!("{} is no file", path.display()));
        }
        match &self.user {
            Some(user)
                if !user.may_read(metadata.uid(), metadata.gid(), metadata.mode())
                    || !may_reach(user, &file).map_err(failed)? =>
            {
                Err(format!("user '{}' may not read {}", user.name, path.display()))
            }
            _ => Ok(file),
        }
    }

    /// A line in the task's own log.
    fn note(&self, line: &str) {
        let (_, stderr) = output_paths(&self.sandbox);
        let mut options = std::fs::OpenOptions::new();
        let log = options.append(true).custom_flags(libc::O_NOFOLLOW).open(stderr);
        // The reason of a failure is told in the status as well.
        let _ = log.and_then(|mut log| writeln!(log, "{line}"));
    }
}

#[cfg(test)]
mod tests;
