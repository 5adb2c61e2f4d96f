//! `/dev` of a container: what every program expects there, and nothing of the machine.

use std::{os::fd::OwnedFd, path::Path};

use nix::{
    errno::Errno,
    mount::MsFlags,
    sched::CloneFlags,
    sys::stat::{Mode, SFlag, makedev, mknodat},
    unistd::symlinkat,
};

use super::{
    Step, failed, mounts,
    tree::{Kind, Tree},
};

/// Name, major and minor number.
const NODES: [(&str, u64, u64); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];
/// Docker's.
const SHM: u64 = 64 * 1024 * 1024;

const QUIET: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NOEXEC);

/// Makes `/dev`. With a terminal, that is the console.
pub(super) fn all(tree: &Tree, (shm_size, made, terminal): (u64, CloneFlags, bool)) -> Step {
    let place = tree.directory(Path::new("/dev"))?;
    mounts::kind("tmpfs", &place, MsFlags::MS_NOSUID, "mode=755,size=65536k")?;
    let dev = tree.find(Path::new("/dev")).map_err(failed("cannot open /dev"))?;
    for (name, major, minor) in NODES {
        node(tree, &dev, name, makedev(major, minor))?;
    }
    for (name, target) in LINKS {
        symlinkat(target, &dev, name).map_err(failed(format!("cannot make /dev/{name}")))?;
    }
    let pts = tree.directory(Path::new("/dev/pts"))?;
    mounts::kind("devpts", &pts, QUIET, "newinstance,ptmxmode=0666,mode=0620,gid=5")?;
    if made.contains(CloneFlags::CLONE_NEWIPC) {
        let queues = tree.directory(Path::new("/dev/mqueue"))?;
        mounts::kind("mqueue", &queues, QUIET | MsFlags::MS_NODEV, "")?;
        shared_memory(tree, shm_size)?;
    } else {
        let place = tree.directory(Path::new("/dev/shm"))?;
        machines(&place, "/dev/shm")?;
    }
    match terminal {
        true => machines(&tree.place(Path::new("/dev/console"), Kind::File)?, "/proc/self/fd/0"),
        false => Ok(()),
    }
}

/// A `/dev/shm` of its own.
pub(super) fn shared_memory(tree: &Tree, size: u64) -> Step {
    let place = tree.directory(Path::new("/dev/shm"))?;
    let size = if size == 0 { SHM } else { size };
    let options = format!("mode=1777,size={size}");
    mounts::kind("tmpfs", &place, QUIET | MsFlags::MS_NODEV, &options)
}

fn node(tree: &Tree, dev: &OwnedFd, name: &str, number: u64) -> Step {
    match mknodat(dev, name, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), number) {
        // An agent in a container may not make devices, but has these.
        Err(Errno::EPERM) => {
            let place = tree.place(&Path::new("/dev").join(name), Kind::File)?;
            machines(&place, &format!("/dev/{name}"))
        }
        made => made.map_err(failed(format!("cannot make /dev/{name}"))),
    }
}

/// Makes what the machine has at a path appear at a place.
pub(super) fn machines(place: &OwnedFd, path: &str) -> Step {
    use nix::fcntl::{OFlag, open};
    let source = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(failed(format!("cannot open {path}")))?;
    mounts::bind(&source, place, 0)
}
