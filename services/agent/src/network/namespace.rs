//! Network namespaces: made, kept by a mount, and used from outside.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    thread,
};

use crate::supervisor::loopback_up;
use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    sys::statfs::{NSFS_MAGIC, statfs},
};

/// The file that stands for the namespace of a directory.
pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join("namespace")
}

/// The namespace of a directory while it is there: it goes when the machine goes down.
pub(super) fn kept(dir: &Path) -> Option<PathBuf> {
    let path = path(dir);
    statfs(&path).is_ok_and(|system| system.filesystem_type() == NSFS_MAGIC).then_some(path)
}

/// Makes a namespace in which only the loopback interface is up.
pub(super) fn make(dir: &Path) -> Result<(), String> {
    let path = path(dir);
    let prepared = fs::create_dir_all(dir).and_then(|()| File::create(&path));
    prepared.map_err(|error| format!("cannot make {}: {error}", path.display()))?;
    let place = path.clone();
    let make = move || -> nix::Result<()> {
        unshare(CloneFlags::CLONE_NEWNET)?;
        loopback_up()?;
        mount(Some("/proc/thread-self/ns/net"), &place, None::<&str>, MsFlags::MS_BIND, None::<&str>)
    };
    in_own_thread(make)
        .and_then(|made| made.map_err(io::Error::from))
        .map_err(|error| format!("cannot make a network namespace at {}: {error}", path.display()))
}

/// Lets the namespace go, and the directory with it.
pub(super) fn remove(dir: &Path) -> Result<(), String> {
    let path = path(dir);
    loop {
        match umount2(&path, MntFlags::MNT_DETACH) {
            // Mounted more than once.
            Ok(()) => {}
            Err(Errno::EINVAL | Errno::ENOENT) => break,
            Err(error) => return Err(format!("cannot unmount {}: {}", path.display(), error.desc())),
        }
    }
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(format!("cannot remove {}: {error}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// A namespace is a thread's own: one that changed it does nothing else.
fn in_own_thread<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let worker = thread::Builder::new().name("namespace".to_owned()).spawn_scoped(scope, work)?;
        worker.join().map_err(|_| io::Error::other("an invariant failed"))
    })
}
