//! Brings an image here: what it is made of, then the layers that are not here yet, side by side.

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures::{FutureExt, future::try_join_all};
use nix::sys::statvfs::statvfs;
use tokio::time::Instant;
use tracing::{info, warn};

use super::{
    ErrorKind, ImageConfig,
    archive::Archive,
    digest::Digest,
    disk::{Disk, remove_all},
    download::{Scratch, Wanted, download},
    failure::Failure,
    inner::{Inner, Pin, on_thread},
    layer,
    manifest::{self, Descriptor, Document, Platform},
    name::Source,
    progress::Progress,
    registry::Session,
    state::{Layer, Record, State, VERSION},
};
use crate::fetcher::StopOnDrop;

/// Lists of lists of images.
const DEPTH: usize = 4;

/// An image that came, and what keeps its layers until somebody holds it.
#[derive(Debug)]
pub(super) struct Pulled {
    pub(super) record: Arc<Record>,
    _pins: Vec<Arc<Pin>>,
}

/// Where the parts of an image come from.
#[derive(Debug)]
enum Origin {
    Registry(Box<Session>),
    Archive(Archive),
}

/// What an image is made of.
struct Parts {
    digest: Digest,
    config: ImageConfig,
    layers: Vec<Part>,
}

/// A layer that is to come.
#[derive(Clone, Debug)]
struct Part {
    /// Of its content.
    content: Digest,
    /// How its origin calls it.
    place: Place,
    size: u64,
}

#[derive(Clone, Debug)]
enum Place {
    Blob(Digest),
    File(String),
}

impl Inner {
    /// Brings an image here, and says so in its books.
    pub(super) async fn pull(
        self: Arc<Self>,
        source: Source,
        session: Option<Session>,
        progress: Arc<Progress>,
    ) -> Result<Arc<Pulled>, Failure> {
        let started = Instant::now();
        let name = source.name().to_string();
        self.counters.pulls.inc();
        let origin = match (session, &source) {
            (Some(session), _) => Ok(Origin::Registry(Box::new(session))),
            (None, Source::Directory { path, name }) => {
                let (path, name) = (path.clone(), name.clone());
                on_thread(move || Archive::find(&path, &name)).await.map(Origin::Archive)
            }
            (None, Source::Server { .. }) => Err(Failure::new(ErrorKind::Unusable, "no session was opened")),
        };
        let outcome = match origin {
            Ok(origin) => {
                let origin = Arc::new(origin);
                let outcome = Arc::clone(&self).bring((&name, &source), &origin, &progress).await;
                if outcome.is_err() {
                    unused(&origin).await;
                }
                outcome
            }
            Err(failure) => Err(failure),
        };
        let seconds = started.elapsed().as_secs_f64();
        match &outcome {
            Ok(pulled) => {
                self.counters.seconds.observe(seconds);
                let record = &pulled.record;
                info!(image = name, digest = %record.digest, layers = record.layers.len(), seconds, "image pulled");
            }
            Err(failure) => {
                self.counters.errors.inc();
                warn!(image = name, reason = failure.reason, seconds, "image cannot be pulled");
                // A layer that came by itself is good when the connection broke off: the next try needs it.
                if failure.kind != ErrorKind::Unavailable {
                    self.sweep().await;
                }
            }
        }
        outcome
    }

    async fn bring(
        self: Arc<Self>,
        (name, source): (&str, &Source),
        origin: &Arc<Origin>,
        progress: &Arc<Progress>,
    ) -> Result<Arc<Pulled>, Failure> {
        let disk = self.disk()?;
        let parts = match &**origin {
            Origin::Registry(session) => match self.find_at_registry(name, session).await? {
                Ok(pulled) => return Ok(pulled),
                Err(parts) => parts,
            },
            Origin::Archive(_) => {
                let (origin, wanted) = (Arc::clone(origin), source.name().clone());
                on_thread(move || parts_of_archive(&origin, &wanted)).await?
            }
        };
        self.check_sizes(&parts, &disk, progress)?;
        let from = source.name().registry.clone().unwrap_or_default();
        let layers = parts.layers.iter().map(|part| {
            let wanted = (part.clone(), Arc::clone(progress));
            Arc::clone(&self).layer(wanted, Arc::clone(origin), &from)
        });
        let pins = try_join_all(layers).await?;
        self.enter(name, parts, pins).await
    }

    /// What the registry has under the name: what is here already, or what is to be brought.
    async fn find_at_registry(
        self: &Arc<Self>,
        name: &str,
        session: &Session,
    ) -> Result<Result<Arc<Pulled>, Parts>, Failure> {
        let mut content = session.manifest(&session.name.manifest()).await?;
        let digest = content.digest.clone();
        if let Some(pulled) = self.as_before(name, &digest) {
            return Ok(Ok(pulled));
        }
        let refused = |reason| Failure::new(ErrorKind::Refused, reason);
        for _ in 0..DEPTH {
            match Document::parse(&content.bytes).map_err(refused)? {
                Document::Index(images) => {
                    let picked = Platform::here().pick(&images).map_err(refused)?;
                    content = session.manifest(&picked.digest.to_string()).await?;
                }
                Document::Manifest(manifest) => {
                    let config = session.blob(&manifest.config.digest).await?;
                    let parts = |layer: &Descriptor| (Place::Blob(layer.digest.clone()), layer.size);
                    return Parts::new(digest, &config, manifest.layers.iter().map(parts)).map(Err);
                }
            }
        }
        Err(refused("it is a list of lists of images without end".to_owned()))
    }

    /// The image that is here under a name, if it is still the one of this digest.
    fn as_before(self: &Arc<Self>, name: &str, digest: &Digest) -> Option<Arc<Pulled>> {
        let record = self.state().image(name).filter(|record| record.digest == *digest)?;
        let pins = record.layers.iter().map(|layer| self.pin(&layer.digest)).collect::<Option<_>>()?;
        Some(Arc::new(Pulled { record, _pins: pins }))
    }

    fn check_sizes(&self, parts: &Parts, disk: &Disk, progress: &Progress) -> Result<(), Failure> {
        let missing = parts.layers.iter().filter(|part| self.state().size(&part.content) == 0);
        let add = |(count, sum): (u64, u64), part: &Part| (count + 1, sum.saturating_add(part.size));
        let (count, size) = missing.fold((0, 0), add);
        progress.begin(count, size);
        if size > self.settings.max_size {
            let reason = format!("it is {size} bytes large; this node takes {}", self.settings.max_size);
            return Err(Failure::new(ErrorKind::TooLarge, reason));
        }
        let free = statvfs(disk.path()).map(|stat| stat.blocks_available() * stat.fragment_size());
        match free.is_ok_and(|free| size > free) {
            true => {
                let reason =
                    format!("it is {size} bytes large; there is no room for it in {}", disk.path().display());
                Err(Failure::new(ErrorKind::Store, reason))
            }
            false => Ok(()),
        }
    }

    /// One layer: here already, on its way for another image, or brought now.
    async fn layer(
        self: Arc<Self>,
        (part, progress): (Part, Arc<Progress>),
        origin: Arc<Origin>,
        from: &str,
    ) -> Result<Arc<Pin>, Failure> {
        if let Some(pin) = self.pin(&part.content) {
            return Ok(pin);
        }
        let place = match &part.place {
            Place::Blob(digest) => digest.to_string(),
            Place::File(file) => file.clone(),
        };
        let key = (part.content.clone(), place, from.to_owned());
        let ours = Arc::clone(&progress);
        let begin = || Arc::clone(&self).bring_layer(part.clone(), Arc::clone(&origin), ours).boxed();
        let (work, ours) = self.layers.join(key, begin);
        match work.await {
            // Another image's credentials, or its connection.
            Err(_) if !ours => self.bring_layer(part, origin, progress).await,
            outcome => {
                if !ours {
                    progress.add(part.size);
                }
                outcome
            }
        }
    }

    async fn bring_layer(
        self: Arc<Self>,
        part: Part,
        origin: Arc<Origin>,
        progress: Arc<Progress>,
    ) -> Result<Arc<Pin>, Failure> {
        if let Some(pin) = self.pin(&part.content) {
            return Ok(pin);
        }
        let disk = self.disk()?;
        let scratch = match (&*origin, &part.place) {
            (Origin::Registry(session), Place::Blob(digest)) => {
                let slots = self.downloads(session.authority());
                let _permit = slots.acquire().await;
                let wanted = Wanted { digest, size: part.size };
                let came = |bytes| {
                    self.counters.bytes.inc_by(bytes);
                    progress.add(bytes);
                };
                Some(download(session, wanted, &disk.scratch(), (self.settings.stall, &came)).await?)
            }
            _ => None,
        };
        let _permit = self.unpacks.acquire().await;
        let stop = StopOnDrop::default();
        let stopped = Arc::clone(&stop.0);
        let inner = Arc::clone(&self);
        on_thread(move || {
            let made = Made(disk.scratch());
            let rootfs = made.0.join("rootfs");
            std::fs::create_dir_all(&rootfs).map_err(|error| Failure::store(&rootfs, &error))?;
            let limits = (inner.settings.max_size, Arc::clone(&stopped));
            match (&scratch, &*origin, &part.place) {
                (Some(Scratch(path)), ..) => {
                    let file = std::fs::File::open(path).map_err(|error| Failure::store(path, &error))?;
                    layer::unpack((file, part.size), &part.content, &rootfs, limits)?;
                }
                (None, Origin::Archive(archive), Place::File(file)) => {
                    layer::unpack(archive.open(file)?, &part.content, &rootfs, limits)?;
                }
                _ => {
                    return Err(Failure::new(
                        ErrorKind::Unusable,
                        "a layer of one kind in an image of another",
                    ));
                }
            }
            let pin = inner.keep(&disk, &made.0, &part.content)?;
            if stopped.load(Ordering::Relaxed) {
                // Nobody waits for it any more, and nobody else would let it go.
                drop(pin);
                inner.remove_now(&disk, State::sweep);
                return Err(Failure::new(ErrorKind::Unavailable, "nobody waits for it any more"));
            }
            Ok((pin, origin))
        })
        .await
        .map(|(pin, _)| pin)
    }

    /// An unpacked layer gets its place, unless it has come another way meanwhile.
    fn keep(self: &Arc<Self>, disk: &Disk, made: &Path, content: &Digest) -> Result<Arc<Pin>, Failure> {
        let size = crate::disk::usage(made);
        let mut state = self.state();
        if !state.pin(content) {
            disk.place(made, content)?;
            state.add(content.clone(), size);
        }
        drop(state);
        Ok(self.pinned(content))
    }

    /// The image is whole: it is written down.
    async fn enter(
        self: &Arc<Self>,
        name: &str,
        parts: Parts,
        pins: Vec<Arc<Pin>>,
    ) -> Result<Arc<Pulled>, Failure> {
        let (inner, name, disk) = (Arc::clone(self), name.to_owned(), self.disk()?);
        let layers: Vec<_> = parts.layers.iter().map(|part| part.content.clone()).collect();
        let settling = disk.settling(&layers);
        let entered = on_thread(move || {
            let mut state = inner.state();
            let layers: Vec<_> = topmost(parts.layers.into_iter().map(|part| part.content))
                .into_iter()
                .map(|digest| Layer { size: state.size(&digest), digest })
                .collect();
            let size = layers.iter().fold(0, |sum: u64, layer| sum.saturating_add(layer.size));
            if size > inner.settings.max_size {
                let reason =
                    format!("it unpacks to {size} bytes; this node takes {}", inner.settings.max_size);
                return Err(Failure::new(ErrorKind::TooLarge, reason));
            }
            let used = state.tick();
            let (version, digest, config) = (VERSION, parts.digest, parts.config);
            let record = Arc::new(Record { version, name, digest, config, layers, used });
            disk.write_image(&record)?;
            state.insert(Arc::clone(&record));
            Ok(Arc::new(Pulled { record, _pins: pins }))
        })
        .await;
        // Nobody waits for it.
        drop(tokio::task::spawn_blocking(settling));
        entered
    }
}

/// Waits, for a while, until threads that were unpacking layers beside the one that failed have noticed.
async fn unused(origin: &Arc<Origin>) {
    for _ in 0..1000 {
        if Arc::strong_count(origin) == 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A directory in the making, which goes unless it got its place.
struct Made(std::path::PathBuf);

impl Drop for Made {
    fn drop(&mut self) {
        if self.0.exists() {
            remove_all(&self.0);
        }
    }
}

impl Parts {
    fn new(
        digest: Digest,
        config: &[u8],
        layers: impl ExactSizeIterator<Item = (Place, u64)>,
    ) -> Result<Self, Failure> {
        let (config, contents) = manifest::configuration(config, layers.len())
            .map_err(|reason| Failure::new(ErrorKind::Refused, reason))?;
        let layers = layers.zip(contents).map(|((place, size), content)| Part { content, place, size });
        Ok(Self { digest, config, layers: layers.collect() })
    }
}

fn parts_of_archive(origin: &Origin, name: &super::name::Name) -> Result<Parts, Failure> {
    let Origin::Archive(archive) = origin else {
        return Err(Failure::new(ErrorKind::Unusable, "it is no archive"));
    };
    let found = archive.image(name)?;
    let mut layers = Vec::new();
    for file in found.layers {
        let (_, size) = archive.open(&file)?;
        layers.push((Place::File(file), size));
    }
    Parts::new(found.digest, &found.config, layers.into_iter())
}

/// Each layer once, where it is topmost: overlayfs takes none twice, and what a layer does, it does again further up.
fn topmost(layers: impl DoubleEndedIterator<Item = Digest>) -> Vec<Digest> {
    let mut kept: Vec<Digest> = Vec::new();
    for layer in layers.rev() {
        if !kept.contains(&layer) {
            kept.push(layer);
        }
    }
    kept.reverse();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_layer_is_mounted_twice() {
        let digests = [1_u8, 2, 1, 3, 3].map(|n| Digest::of(&[n]));
        let kept = topmost(digests.into_iter());
        assert_eq!(kept, [2_u8, 1, 3].map(|n| Digest::of(&[n])));
    }
}
