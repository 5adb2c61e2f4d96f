//! Files that tasks asked to be kept: one download for all who ask at the same time, the longest unused go first.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

/// A file is kept for each user: what one may read is not another's.
pub(super) type Key = (Option<String>, String);

/// How a download went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Kept,
    /// It cannot be kept: everybody fetches it for himself.
    Unkept,
    Failed(String),
}

/// What the cache knows of a file.
#[derive(Debug)]
pub(super) enum Found {
    Here(File),
    /// Somebody fetches it: ends with the outcome, or without one when he gave up.
    OnItsWay(watch::Receiver<Option<Outcome>>),
    /// It is for the caller to fetch it.
    Absent(Loading),
}

#[derive(Debug)]
enum Slot {
    Loading(watch::Receiver<Option<Outcome>>),
    Kept { path: PathBuf, size: u64, used: u64 },
}

/// What is where, and how much it takes. Bytes of downloads under way count as used.
#[derive(Debug)]
struct Index {
    slots: BTreeMap<Key, Slot>,
    limit: u64,
    used: u64,
    /// Counts uses, and names files.
    clock: u64,
}

impl Index {
    /// Makes room by dropping what was not used for longest; the files to remove, or none when there is no room.
    fn reserve(&mut self, size: u64) -> Option<Vec<PathBuf>> {
        let mut kept: Vec<_> = self
            .slots
            .iter()
            .filter_map(|(key, slot)| match slot {
                Slot::Kept { size, used, .. } => Some((*used, *size, key.clone())),
                Slot::Loading(_) => None,
            })
            .collect();
        kept.sort_unstable();
        let droppable: u64 = kept.iter().map(|(_, size, _)| size).sum();
        // The size is what a server said.
        if size > self.limit.saturating_sub(self.used - droppable) {
            return None;
        }
        let mut dropped = Vec::new();
        for (_, freed, key) in kept {
            if self.used + size <= self.limit {
                break;
            }
            if let Some(Slot::Kept { path, .. }) = self.slots.remove(&key) {
                dropped.push(path);
            }
            self.used -= freed;
        }
        self.used += size;
        Some(dropped)
    }
}

/// The cache of one agent.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    dir: PathBuf,
    index: Arc<Mutex<Index>>,
}

impl Cache {
    /// Begins with an empty directory: what lies there is of an agent before.
    pub(super) fn open(dir: &Path, limit: u64) -> io::Result<Self> {
        match fs::remove_dir_all(dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?,
        }
        let index = Index { slots: BTreeMap::new(), limit, used: 0, clock: 0 };
        Ok(Self { dir: dir.to_owned(), index: Arc::new(Mutex::new(index)) })
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of what is kept and of what is on its way.
    pub(super) fn used(&self) -> u64 {
        self.lock().used
    }

    /// Finds a file, or makes the caller the one who fetches it.
    pub(super) fn find(&self, key: &Key) -> Found {
        let mut index = self.lock();
        index.clock += 1;
        let now = index.clock;
        match index.slots.get_mut(key) {
            Some(Slot::Kept { path, used, size }) => match File::open(&*path) {
                Ok(file) => {
                    *used = now;
                    return Found::Here(file);
                }
                // Somebody tidied the directory up.
                Err(_) => {
                    let size = *size;
                    index.slots.remove(key);
                    index.used -= size;
                }
            },
            Some(Slot::Loading(outcome)) => return Found::OnItsWay(outcome.clone()),
            None => {}
        }
        let (sender, receiver) = watch::channel(None);
        index.slots.insert(key.clone(), Slot::Loading(receiver));
        let path = self.dir.join(format!("{now:08}"));
        Found::Absent(Loading {
            cache: self.clone(),
            key: key.clone(),
            path,
            reserved: 0,
            outcome: sender,
            kept: false,
        })
    }
}

/// A download into the cache. Dropped before it is finished, it leaves nothing behind.
#[derive(Debug)]
pub(super) struct Loading {
    cache: Cache,
    key: Key,
    path: PathBuf,
    reserved: u64,
    outcome: watch::Sender<Option<Outcome>>,
    kept: bool,
}

impl Loading {
    /// The file to write, if there is room for so many bytes.
    pub(super) fn begin(&mut self, size: u64) -> io::Result<Option<File>> {
        let Some(dropped) = self.cache.lock().reserve(size) else { return Ok(None) };
        self.reserved = size;
        for path in dropped {
            // Whoever reads it has it open.
            let _ = fs::remove_file(path);
        }
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600).open(&self.path).map(Some)
    }

    /// The file is whole: it is everybody's from now on.
    pub(super) fn finish(mut self) -> io::Result<File> {
        let file = File::open(&self.path)?;
        let mut index = self.cache.lock();
        index.clock += 1;
        let slot = Slot::Kept { path: self.path.clone(), size: self.reserved, used: index.clock };
        index.slots.insert(self.key.clone(), slot);
        drop(index);
        self.kept = true;
        self.outcome.send_replace(Some(Outcome::Kept));
        Ok(file)
    }

    /// It will not be in the cache.
    pub(super) fn end(self, outcome: Outcome) {
        self.outcome.send_replace(Some(outcome));
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let mut index = self.cache.lock();
        index.slots.remove(&self.key);
        index.used -= self.reserved;
        drop(index);
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn key(uri: &str) -> Key {
        (Some("root".to_owned()), uri.to_owned())
    }

    fn load(cache: &Cache, uri: &str, size: usize) -> bool {
        let Found::Absent(mut loading) = cache.find(&key(uri)) else { panic!("{uri} is there") };
        let Some(mut file) = loading.begin(size as u64).unwrap() else { return false };
        file.write_all(&vec![b'x'; size]).unwrap();
        loading.finish().unwrap();
        true
    }

    #[test]
    fn the_longest_unused_goes_first_and_nothing_is_kept_beyond_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("cache");
        let cache = Cache::open(&dir, 100).unwrap();
        assert!(load(&cache, "a", 40) && load(&cache, "b", 40));
        assert!(matches!(cache.find(&key("a")), Found::Here(_)));
        assert!(load(&cache, "c", 50));
        assert!(matches!(cache.find(&key("a")), Found::Here(_)));
        assert!(matches!(cache.find(&key("b")), Found::Absent(_)));
        assert!(!load(&cache, "d", 101), "larger than the whole cache");
        let Found::Absent(mut boundless) = cache.find(&key("e")) else { panic!() };
        assert!(boundless.begin(u64::MAX).unwrap().is_none(), "whatever a server says");
        drop(boundless);
        assert!(matches!(cache.find(&key("a")), Found::Here(_)), "nothing was dropped for it");
        assert_eq!((cache.lock().used, fs::read_dir(&dir).unwrap().count()), (90, 2));
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 2);
        drop(Cache::open(&dir, 100).unwrap());
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0, "emptied at the start");
    }

    #[test]
    fn who_gives_up_leaves_nothing_and_lets_the_next_one_try() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path(), 100).unwrap();
        let Found::Absent(mut loading) = cache.find(&key("a")) else { panic!() };
        loading.begin(60).unwrap().unwrap();
        let Found::OnItsWay(waiting) = cache.find(&key("a")) else { panic!() };
        assert!(!load(&cache, "b", 50), "the bytes on their way count");
        drop(loading);
        assert!(waiting.has_changed().is_err(), "the waiting ones notice");
        assert!(matches!(cache.find(&key("a")), Found::Absent(_)));
        assert_eq!((cache.lock().used, fs::read_dir(dir.path()).unwrap().count()), (0, 0));
    }
}
