//! What all users of one store share.

use std::{
    collections::BTreeMap,
    fs,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use meshos_mesh::{Metrics, Rng};
use prometheus::{Histogram, IntCounter};
use tokio::sync::Semaphore;

use super::{
    ErrorKind, Settings,
    credentials::{self, Credentials},
    digest::Digest,
    disk::{Disk, remove_all},
    failure::Failure,
    name::{Registry, Source},
    progress::Pulls,
    pull::Pulled,
    registry::{Access, Session},
    shared::Sharing,
    state::{Removed, State},
};

/// Layers that come from one registry at the same time, and that are unpacked at the same time.
const DOWNLOADS: usize = 6;
const UNPACKS: usize = 4;
/// Containers that are written down as holders at the same time: each takes a thread while it waits for the disk.
const HOLDING: usize = 8;
const SECONDS: [f64; 9] = [0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0];

/// A name, and whose credentials fetch it: what one may pull, another may not.
type ImageKey = (String, Option<Vec<u8>>);
/// Content, where its origin has it, and which origin.
type LayerKey = (Digest, String, String);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) settings: Settings,
    registry: Result<Registry, String>,
    /// Once it is needed.
    disk: Mutex<Option<Arc<Disk>>>,
    state: Mutex<State>,
    pub(super) images: Sharing<ImageKey, Result<Arc<Pulled>, Failure>>,
    pub(super) pulls: Pulls<ImageKey>,
    pub(super) layers: Sharing<LayerKey, Result<Arc<Pin>, Failure>>,
    downloads: Mutex<BTreeMap<String, Arc<Semaphore>>>,
    pub(super) unpacks: Semaphore,
    pub(super) holding: Semaphore,
    pub(super) counters: Counters,
    rng: Rng,
}

#[derive(Debug)]
pub(super) struct Counters {
    pub(super) pulls: IntCounter,
    pub(super) errors: IntCounter,
    pub(super) bytes: IntCounter,
    pub(super) seconds: Histogram,
}

/// Keeps a layer from being collected.
#[derive(Debug)]
pub(super) struct Pin {
    inner: Arc<Inner>,
    layer: Digest,
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.inner.state().unpin(&self.layer);
    }
}

impl Inner {
    /// A slow registry keeps nobody waiting but those who ask it.
    pub(super) fn downloads(&self, authority: &str) -> Arc<Semaphore> {
        let mut all = self.downloads.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, slots| Arc::strong_count(slots) > 1);
        Arc::clone(all.entry(authority.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(DOWNLOADS))))
    }

    pub(super) fn new(settings: Settings, rng: &Rng, metrics: &Metrics) -> Self {
        let counters = Counters {
            pulls: metrics
                .counter("meshos_agent_image_pulls_total", "Images that were pulled or tried to be"),
            errors: metrics
                .counter("meshos_agent_image_pull_errors_total", "Images that could not be pulled"),
            bytes: metrics.counter("meshos_agent_image_bytes_total", "Bytes of layers that were downloaded"),
            seconds: metrics.histogram(
                "meshos_agent_image_pull_seconds",
                "Time that pulling an image took",
                &SECONDS,
            ),
        };
        Self {
            registry: Registry::parse(&settings.registry),
            settings,
            disk: Mutex::default(),
            state: Mutex::default(),
            images: Sharing::default(),
            pulls: Pulls::default(),
            layers: Sharing::default(),
            downloads: Mutex::default(),
            unpacks: Semaphore::new(UNPACKS),
            holding: Semaphore::new(HOLDING),
            counters,
            rng: rng.clone(),
        }
    }

    /// No [`Pin`] may be dropped while this is held.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The directory; made, or read, when it is first needed.
    pub(super) fn disk(&self) -> Result<Arc<Disk>, Failure> {
        let mut disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(disk) = &*disk {
            return Ok(Arc::clone(disk));
        }
        let (opened, state) = Disk::open(&self.settings.dir)?;
        *self.state() = state;
        Ok(Arc::clone(disk.insert(Arc::new(opened))))
    }

    /// Where an image is to be had.
    pub(super) fn source(&self, name: super::name::Name) -> Result<Source, Failure> {
        let registry = self.registry.as_ref().map_err(|reason| Failure::new(ErrorKind::Unusable, reason));
        Ok(registry?.find(name))
    }

    /// What speaks to the image's registry; none when it is in a directory.
    pub(super) fn session(
        &self,
        source: &Source,
        pull_config: Option<&[u8]>,
    ) -> Result<Option<Session>, Failure> {
        let Source::Server { scheme, authority, name } = source else { return Ok(None) };
        let access = Access {
            stall: self.settings.stall,
            rng: self.rng.clone(),
            credentials: self.credentials(authority, pull_config)?,
        };
        Ok(Some(Session::new((*scheme, authority.clone()), name.clone(), access)))
    }

    /// The image's own first, then the agent's.
    fn credentials(
        &self,
        authority: &str,
        pull_config: Option<&[u8]>,
    ) -> Result<Option<Credentials>, Failure> {
        let operators = self.operators_credentials()?;
        for (whose, file) in [("the pull config", pull_config), ("--docker_config", operators.as_deref())] {
            let Some(file) = file else { continue };
            let found = credentials::find(file, authority).map_err(|reason| {
                Failure::new(ErrorKind::Unusable, format!("{whose} cannot be used: {reason}"))
            })?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Read anew each time, so that they may be changed.
    fn operators_credentials(&self) -> Result<Option<Vec<u8>>, Failure> {
        let Some(config) = &self.settings.credentials else {
            let usual = self.settings.home.as_ref().map(|home| home.join(".docker/config.json"));
            return Ok(usual.and_then(|path| fs::read(path).ok()));
        };
        let path = config.strip_prefix("file://").or_else(|| config.starts_with('/').then_some(config));
        match path {
            None => Ok(Some(config.clone().into_bytes())),
            Some(path) => fs::read(path).map(Some).map_err(|error| {
                Failure::new(ErrorKind::Unusable, format!("--docker_config cannot be read: {path}: {error}"))
            }),
        }
    }

    /// Keeps a layer that is here.
    pub(super) fn pin(self: &Arc<Self>, layer: &Digest) -> Option<Arc<Pin>> {
        let found = self.state().pin(layer);
        found.then(|| self.pinned(layer))
    }

    /// A layer that was pinned by its state already.
    pub(super) fn pinned(self: &Arc<Self>, layer: &Digest) -> Arc<Pin> {
        Arc::new(Pin { inner: Arc::clone(self), layer: layer.clone() })
    }

    /// Removes layers of no image.
    pub(super) async fn sweep(self: &Arc<Self>) {
        let _ = self.remove(State::sweep).await;
    }

    /// Removes from the disk what is let go.
    pub(super) async fn remove(
        self: &Arc<Self>,
        choose: impl FnOnce(&mut State) -> Removed + Send + 'static,
    ) -> Result<Removed, Failure> {
        let (inner, disk) = (Arc::clone(self), self.disk()?);
        on_thread(move || Ok(inner.remove_now(&disk, choose))).await
    }

    /// The same, on a thread that may block.
    pub(super) fn remove_now(&self, disk: &Disk, choose: impl FnOnce(&mut State) -> Removed) -> Removed {
        let mut state = self.state();
        let removed = choose(&mut state);
        // Out of the way before anybody brings the same layer again.
        let paths = disk.take_out(&removed);
        drop(state);
        paths.iter().for_each(|path| remove_all(path));
        removed
    }
}

/// Work on files, which may block.
pub(super) async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|failure| Err(Failure::new(ErrorKind::Store, failure.to_string())))
}
