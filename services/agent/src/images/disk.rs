//! The store's directory. What is in it is whole: everything is made elsewhere in it and renamed. Nobody waits for the
//! disk: a layer says during which run of the machine it was made until it is known to be on the disk, and one that was
//! not when the machine went down is made anew.
//!
//! ```text
//! images/<digest of the name>.json   which image a name stands for, and its layers
//! held/<digest of the id>.json       what a container runs on
//! layers/<digest>/rootfs             an unpacked layer
//! layers/<digest>/boot               the run of the machine that it was made in
//! layers/<digest>/synced             it is on the disk
//! scratch/                           what is being made or removed; emptied at the start
//! ```

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use nix::{
    fcntl::{Flock, FlockArg, OFlag, openat},
    sys::stat::Mode,
    unistd::syncfs,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tracing::warn;

use super::{
    ErrorKind,
    digest::Digest,
    failure::Failure,
    state::{Record, Removed, State, VERSION},
};
use crate::procfs::boot_id;

const SYNCED: &str = "synced";

/// The directory of one agent's images.
#[derive(Debug)]
pub(super) struct Disk {
    /// Absolute, and no step of it a link.
    dir: PathBuf,
    /// Of this run of the machine.
    boot: String,
    counter: AtomicU64,
    _lock: Flock<File>,
}

/// What a container runs on, as it is written down.
#[derive(Serialize, Deserialize)]
struct Held {
    container: String,
    image: Record,
}

impl Disk {
    /// Makes the directory, or takes the one that an agent before left: half-made things go, the rest is read.
    pub(super) fn open(dir: &Path) -> Result<(Self, State), Failure> {
        let failed = |error: io::Error| Failure::store(dir, &error);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        // Programs of any owner lie in there.
        fs::set_permissions(dir, Permissions::from_mode(0o700)).map_err(failed)?;
        let dir = fs::canonicalize(dir).map_err(failed)?;
        let mut options = OpenOptions::new();
        let file = options.create(true).truncate(false).write(true).mode(0o600).open(dir.join("lock"));
        let lock = Flock::lock(file.map_err(failed)?, FlockArg::LockExclusiveNonblock).map_err(|_| {
            let reason =
                format!("{} is used by another agent: each needs its own --docker_store_dir", dir.display());
            Failure::new(ErrorKind::Store, reason)
        })?;
        let disk = Self { dir, boot: boot_id(), counter: AtomicU64::new(0), _lock: lock };
        remove_all(&disk.dir.join("scratch"));
        for name in ["images", "held", "layers", "scratch"] {
            fs::create_dir_all(disk.dir.join(name)).map_err(failed)?;
        }
        let state = disk.read();
        Ok((disk, state))
    }

    fn read(&self) -> State {
        let layers = entries(&self.dir.join("layers"));
        let digest = |path: &PathBuf| Digest::parse(&format!("sha256:{}", path.file_name()?.to_str()?)).ok();
        let whole = |path: &&PathBuf| {
            let made = fs::read_to_string(path.join("boot"));
            path.join(SYNCED).exists() || made.is_ok_and(|boot| !boot.is_empty() && boot == self.boot)
        };
        let present: BTreeSet<_> = layers.iter().filter(whole).filter_map(digest).collect();
        let mut state = State::default();
        for path in entries(&self.dir.join("images")) {
            let record = read_json(&path)
                .filter(|record: &Record| record.version == VERSION && path == self.image_path(&record.name));
            if !record.is_some_and(|record| state.restore(record, &present)) {
                drop_broken(&path);
            }
        }
        for path in entries(&self.dir.join("held")) {
            let held = read_json(&path).filter(|held: &Held| path == self.held_path(&held.container));
            if !held.is_some_and(|held| state.restore_hold(held.container, held.image, &present)) {
                drop_broken(&path);
            }
        }
        for path in layers {
            let known =
                digest(&path).is_some_and(|layer| state.pin(&layer).then(|| state.unpin(&layer)).is_some());
            if !known {
                remove_all(&path);
            }
        }
        state
    }

    pub(super) fn path(&self) -> &Path {
        &self.dir
    }

    /// A path of no file yet, for something to be made.
    pub(super) fn scratch(&self) -> PathBuf {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        self.dir.join("scratch").join(number.to_string())
    }

    fn layer_path(&self, layer: &Digest) -> PathBuf {
        self.dir.join("layers").join(layer.hex())
    }

    pub(super) fn rootfs(&self, layer: &Digest) -> PathBuf {
        self.layer_path(layer).join("rootfs")
    }

    fn image_path(&self, name: &str) -> PathBuf {
        self.dir.join("images").join(format!("{}.json", Digest::of(name.as_bytes()).hex()))
    }

    fn held_path(&self, container: &str) -> PathBuf {
        self.dir.join("held").join(format!("{}.json", Digest::of(container.as_bytes()).hex()))
    }

    /// A layer that was made elsewhere gets its place.
    pub(super) fn place(&self, made: &Path, layer: &Digest) -> Result<(), Failure> {
        let place = self.layer_path(layer);
        let placed = fs::write(made.join("boot"), &self.boot).and_then(|()| fs::rename(made, &place));
        placed.map_err(|error| Failure::store(&place, &error))
    }

    /// What brings layers to the disk, which may take its time.
    pub(super) fn settling(&self, layers: &[Digest]) -> impl FnOnce() + Send + 'static {
        let open = |layer: &Digest| {
            let path = self.layer_path(layer);
            (!path.join(SYNCED).exists()).then(|| File::open(path).ok()).flatten()
        };
        let layers: Vec<_> = layers.iter().filter_map(open).collect();
        move || {
            let Some(any) = layers.first() else { return };
            if let Err(error) = syncfs(any) {
                warn!(%error, "layers cannot be brought to the disk");
                return;
            }
            for layer in &layers {
                // One that was let go meanwhile has no place for it.
                let flags = OFlag::O_CREAT | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
                let _ = openat(layer, SYNCED, flags, Mode::from_bits_truncate(0o600));
            }
        }
    }

    pub(super) fn write_image(&self, record: &Record) -> Result<(), Failure> {
        let path = self.image_path(&record.name);
        self.write(&path, record).map_err(|error| Failure::store(&path, &error))
    }

    pub(super) fn write_held(&self, container: &str, image: &Record) -> Result<(), Failure> {
        let path = self.held_path(container);
        let held = Held { container: container.to_owned(), image: image.clone() };
        self.write(&path, &held).map_err(|error| Failure::store(&path, &error))
    }

    pub(super) fn remove_held(&self, container: &str) {
        let _ = fs::remove_file(self.held_path(container));
    }

    /// What is torn when the machine goes down cannot be read later, and is dropped.
    fn write<T: Serialize>(&self, path: &Path, value: &T) -> io::Result<()> {
        let scratch = self.scratch();
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&scratch)?;
        file.write_all(&serde_json::to_vec(value)?)?;
        fs::rename(scratch, path)
    }

    /// Takes out of their places what was let go; what is then to be removed with [`remove_all`].
    pub(super) fn take_out(&self, removed: &Removed) -> Vec<PathBuf> {
        for name in &removed.images {
            let _ = fs::remove_file(self.image_path(name));
        }
        let out = |layer: &Digest| {
            let scratch = self.scratch();
            let path = self.layer_path(layer);
            let renamed = fs::rename(&path, &scratch);
            renamed
                .map(|()| scratch)
                .inspect_err(|error| warn!(%layer, %error, "layer cannot be removed"))
                .ok()
        };
        removed.layers.iter().filter_map(out).collect()
    }
}

/// Removes a directory and everything in it. Something may just be written there; not twice.
pub(super) fn remove_all(path: &Path) {
    let remove = || match path.is_dir() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    };
    match remove().or_else(|_| remove()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            warn!(path = %path.display(), %error, "cannot be removed");
        }
        _ => {}
    }
}

fn drop_broken(path: &Path) {
    warn!(path = %path.display(), "image of an earlier agent is not whole and is dropped");
    let _ = fs::remove_file(path);
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}
