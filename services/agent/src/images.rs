//! Images of containers: from a name to verified, unpacked, shared layers and what the image says about its program.
//!
//! A name is looked up in a registry (version 2 of its API) or in a directory of `docker save` archives. Each layer is
//! unpacked once, into a directory named by the digest of its content, which overlayfs takes as a lower directory, and is
//! never changed after that. Whatever a registry or an archive says, nothing lands outside the layer's own directory,
//! nothing grows without end, and nothing is kept that is not what its digest promises.

mod archive;
mod challenge;
mod credentials;
mod digest;
mod disk;
mod download;
mod failure;
mod inner;
mod layer;
mod manifest;
mod name;
mod progress;
mod pull;
mod registry;
mod shared;
mod state;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures::FutureExt;
use meshos_mesh::{Metrics, Rng, Tasks};
use serde::{Deserialize, Serialize};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::containerizer::container::ImageSetup;
use disk::Disk;
use failure::Failure;
use inner::{Inner, on_thread};
use name::Name;
use state::Record;

/// The agent's flags for it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Holds everything; made when the first image is asked for, for root alone.
    pub dir: PathBuf,
    /// `https://host:port`, `http://host:port`, a directory of archives or `file://` and its path (`--docker_registry`).
    pub registry: String,
    /// Credentials for images that bring no own: a `.docker/config.json` itself, or `file://` and its path
    /// (`--docker_config`).
    pub credentials: Option<String>,
    /// Where `.docker/config.json` is looked for without them.
    pub home: Option<PathBuf>,
    /// A server that sends nothing for so long is given up.
    pub stall: Duration,
    /// Bytes that an image may be downloaded as, and unpacked to.
    pub max_size: u64,
    /// Names of images that are never collected.
    pub excluded: Vec<String>,
}

impl Settings {
    /// The defaults, with the store below a directory.
    #[must_use]
    pub fn below(dir: &Path) -> Self {
        Self {
            dir: dir.join("store/docker"),
            registry: "https://registry-1.docker.io".to_owned(),
            credentials: None,
            home: None,
            stall: Duration::from_secs(60),
            max_size: 64 << 30,
            excluded: Vec::new(),
        }
    }
}

/// When images that nothing uses are removed (`--image_gc_config`).
#[derive(Clone, Debug, PartialEq)]
pub struct Collection {
    /// Part of the disk to keep free.
    pub headroom: f64,
    /// How often the disk is looked at.
    pub every: Duration,
}

/// Whether `--docker_registry` can be used.
///
/// # Errors
/// Why not.
pub fn check_registry(text: &str) -> Result<(), String> {
    name::Registry::parse(text).map(drop)
}

/// An image that is ready to be run. It stays as long as its container holds it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Directories for overlayfs's `lowerdir`, the lowest first; never empty.
    pub layers: Vec<PathBuf>,
    pub config: ImageConfig,
    /// `sha256:…` of the manifest, or of the configuration where there is no manifest.
    pub digest: String,
    /// Bytes on the disk.
    pub size: u64,
}

/// What an image says about its program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    /// `NAME=value`
    pub env: Vec<String>,
    /// Empty: `/`.
    pub working_dir: String,
    /// `user`, `uid`, `user:group`, …; empty: root.
    pub user: String,
    /// Paths that are to be outside the image's layers.
    pub volumes: Vec<String>,
    /// `80/tcp`
    pub exposed_ports: Vec<String>,
    /// `SIGTERM` or a number; empty: SIGTERM.
    pub stop_signal: String,
    /// What runs a command line; empty: `/bin/sh -c`.
    pub shell: Vec<String>,
    pub labels: BTreeMap<String, String>,
}

/// Why there is no such image here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("image '{image}': {reason}")]
pub struct ImageError {
    pub image: String,
    pub kind: ErrorKind,
    pub reason: String,
}

/// What kind of failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The name, or the agent's settings, cannot be used.
    Unusable,
    /// There is none of that name.
    NotFound,
    /// The registry does not give it to these credentials.
    Unauthorized,
    /// The registry does not answer as it should; another time it may.
    Unavailable,
    /// It is not what it should be: a wrong digest, a hostile layer, another platform's.
    Refused,
    /// It is larger than this node takes.
    TooLarge,
    /// This node's disk.
    Store,
}

/// What collecting took away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    pub images: usize,
    pub layers: usize,
    /// In bytes.
    pub freed: u64,
}

/// The images of one agent; clones share them.
#[derive(Clone, Debug)]
pub struct ImageStore {
    inner: Arc<Inner>,
}

impl ImageStore {
    /// Reads what is there; images that containers held stay held. Nothing is made before an image is asked for.
    #[must_use]
    pub fn open(settings: Settings, rng: &Rng, metrics: &Metrics) -> Self {
        let there = settings.dir.exists();
        let inner = Inner::new(settings, rng, metrics);
        if there && let Err(failure) = inner.disk() {
            // Whoever asks for an image is told.
            warn!(reason = failure.reason, "image store cannot be used");
        }
        Self { inner: Arc::new(inner) }
    }

    /// Brings an image here, if it is not, and holds it for a container. Calls for one image share one download; it stops
    /// when the last of them is dropped.
    ///
    /// # Errors
    /// See [`ErrorKind`]; nothing of it is kept then.
    pub async fn provide(&self, image: &ImageSetup, container_id: &str) -> Result<Image, ImageError> {
        let provided = self.bring(image, container_id).await;
        provided.map_err(|failure| failure.of(&image.name))
    }

    async fn bring(&self, image: &ImageSetup, container_id: &str) -> Result<Image, Failure> {
        let disk = self.inner.disk()?;
        let name = Name::parse(&image.name).map_err(|reason| Failure::new(ErrorKind::Unusable, reason))?;
        let source = self.inner.source(name)?;
        let key = source.name().to_string();
        // What a digest names never changes.
        let fixed = !image.force_pull || source.name().digest.is_some();
        if fixed && let Some(image) = self.hold_cached(&disk, &key, container_id).await? {
            return Ok(image);
        }
        let session = self.inner.session(&source, image.pull_config.as_deref())?;
        let key = (key, image.pull_config.clone());
        let progress = self.inner.pulls.of(key.clone());
        let ours = Arc::clone(&progress);
        let begin = || Arc::clone(&self.inner).pull(source, session, ours).boxed();
        let (work, _) = self.inner.images.join(key, begin);
        let pulled = work.await?;
        drop(progress);
        let _permit = self.inner.holding.acquire().await;
        let (inner, container) = (Arc::clone(&self.inner), container_id.to_owned());
        on_thread(move || {
            let record = Arc::clone(&pulled.record);
            inner.state().hold(&container, &record);
            disk.write_held(&container, &record).map(|()| image_of(&record, &disk))
        })
        .await
    }

    /// How far the pull of an image got, in words; none: none is under way.
    #[must_use]
    pub fn progress(&self, image: &ImageSetup) -> Option<String> {
        let source = self.inner.source(Name::parse(&image.name).ok()?).ok()?;
        let key = (source.name().to_string(), image.pull_config.clone());
        self.inner.pulls.find(&key).map(|progress| progress.to_string())
    }

    /// An image that is here; none when it is not.
    async fn hold_cached(
        &self,
        disk: &Arc<Disk>,
        name: &str,
        container: &str,
    ) -> Result<Option<Image>, Failure> {
        let Some(record) = self.inner.state().hold_image(container, name) else { return Ok(None) };
        // It is never closed.
        let _permit = self.inner.holding.acquire().await;
        let (inner, disk, container) = (Arc::clone(&self.inner), Arc::clone(disk), container.to_owned());
        on_thread(move || {
            let image = image_of(&record, &disk);
            if let Some(lost) = image.layers.iter().position(|layer| !layer.is_dir()) {
                warn!(image = record.name, layer = %record.layers[lost].digest, "layer was removed by somebody else");
                let mut state = inner.state();
                state.release(&container);
                state.lose(&record.layers[lost].digest);
                return Ok(None);
            }
            disk.write_held(&container, &record).map(|()| Some(image))
        })
        .await
    }

    /// The image that a container holds, as it got it; also after a restart of the agent.
    #[must_use]
    pub fn held(&self, container_id: &str) -> Option<Image> {
        let record = self.inner.state().held(container_id)?;
        Some(image_of(&record, &*self.inner.disk().ok()?))
    }

    /// A container is gone: its image may go.
    pub async fn release(&self, container_id: &str) {
        let released = self.inner.state().release(container_id);
        if let (true, Ok(disk)) = (released, self.inner.disk()) {
            let container = container_id.to_owned();
            let _ = on_thread(move || {
                disk.remove_held(&container);
                Ok(())
            })
            .await;
        }
    }

    /// Releases what all other containers held: they are gone.
    pub async fn retain(&self, containers: &BTreeSet<String>) {
        let gone = self.inner.state().others_than(containers);
        for container in gone {
            self.release(&container).await;
        }
    }

    /// Removes images that no container holds, but for these names and those that are never collected, and layers of no
    /// image.
    pub async fn collect(&self, excluded: &[String]) -> Collected {
        self.collect_until(excluded, u64::MAX).await
    }

    /// The same, the longest unused first, until the part of the disk that is to be free is free.
    pub async fn collect_for(&self, headroom: f64) -> Collected {
        let dir = self.inner.settings.dir.clone();
        let missing = on_thread(move || Ok(crate::disk::missing(&dir, headroom))).await;
        match missing {
            Ok(missing) if missing > 0 => self.collect_until(&[], missing).await,
            _ => Collected::default(),
        }
    }

    /// Collects now and then until the agent ends.
    pub fn tend(&self, tasks: &Tasks, collection: Collection) {
        let store = self.clone();
        tasks.spawn("image-collection", async move {
            let mut ticks = interval(collection.every);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                store.collect_for(collection.headroom).await;
            }
        });
    }

    async fn collect_until(&self, excluded: &[String], wanted: u64) -> Collected {
        if !self.inner.settings.dir.exists() {
            return Collected::default();
        }
        let name = |name: &String| Some(self.inner.source(Name::parse(name).ok()?).ok()?.name().to_string());
        let always = &self.inner.settings.excluded;
        let excluded: BTreeSet<_> = excluded.iter().chain(always).filter_map(name).collect();
        match self.inner.remove(move |state| state.collect(&excluded, wanted)).await {
            Ok(removed) => {
                let (images, layers, freed) = (removed.images.len(), removed.layers.len(), removed.freed);
                if images + layers > 0 {
                    info!(images, layers, freed, "images collected");
                }
                Collected { images, layers, freed }
            }
            Err(failure) => {
                warn!(reason = failure.reason, "images cannot be collected");
                Collected::default()
            }
        }
    }
}

fn image_of(record: &Record, disk: &Disk) -> Image {
    Image {
        layers: record.layers.iter().map(|layer| disk.rootfs(&layer.digest)).collect(),
        config: record.config.clone(),
        digest: record.digest.to_string(),
        size: record.layers.iter().map(|layer| layer.size).sum(),
    }
}

#[cfg(test)]
mod tests;
