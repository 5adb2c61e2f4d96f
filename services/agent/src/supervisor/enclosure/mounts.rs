//! What a container sees at paths beside its root.

use std::{os::fd::OwnedFd, path::Path};

use meshos_proto::meshos::agent::v1::EnclosedMount;
use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, OFlag, OpenHow, openat2},
    mount::{MsFlags, mount},
    sys::{
        stat::{SFlag, fstat},
        statfs::{PROC_SUPER_MAGIC, fstatfs},
    },
};

use super::{
    Step, failed, path_of,
    syscalls::{self, NO_DEVICES, NO_EXECUTION, NO_SETUID, READ_ONLY},
    tree::{Kind, Tree},
};

/// Permissions of a file system in memory, as of `/tmp`.
const EVERYBODYS: u32 = 0o1777;

/// Mounts everything in its order. Absolute targets lie in `tree`, and are made when `make` is true; relative ones lie
/// in the sandbox.
pub(super) fn all(mounts: &[EnclosedMount], tree: &Tree, sandbox: &Tree, make: bool) -> Step {
    for wanted in mounts {
        one(wanted, tree, sandbox, make).map_err(|reason| format!("volume {}: {reason}", wanted.target))?;
    }
    Ok(())
}

fn one(wanted: &EnclosedMount, tree: &Tree, sandbox: &Tree, make: bool) -> Step {
    let target = Path::new(&wanted.target);
    let source = (!wanted.source.is_empty() || !wanted.source_beneath.is_empty()).then(|| source(wanted));
    let source = source.transpose()?;
    let kind = source.as_ref().map_or(Ok(Kind::Directory), kind_of)?;
    let place = match (target.is_absolute(), make) {
        (true, true) => tree.place(target, kind)?,
        (true, false) => tree.find(target).map_err(failed("cannot be mounted there"))?,
        (false, _) => sandbox.place(target, kind)?,
    };
    refuse(&place, tree)?;
    match source {
        Some(source) => bind(&source, &place, attributes(wanted)),
        None => {
            let size = if wanted.size == 0 { String::new() } else { format!("size={},", wanted.size) };
            let mode = if wanted.mode == 0 { EVERYBODYS } else { wanted.mode };
            memory(&place, &format!("{size}mode={mode:o}"), wanted.read_only)
        }
    }
}

fn source(wanted: &EnclosedMount) -> Step<OwnedFd> {
    let source = Path::new(&wanted.source);
    let opened = match wanted.source_beneath.as_str() {
        // A path that the machine's administrator made: its links are his.
        "" => openat2(AT_FDCWD, source, OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC)),
        beneath => Tree::without_links(Path::new(beneath))?.find(source),
    };
    opened.map_err(failed(format!("cannot open {} on the machine", source.display())))
}

fn kind_of(source: &OwnedFd) -> Step<Kind> {
    let mode = fstat(source).map_err(failed("cannot look at the source"))?.st_mode;
    let kind = SFlag::from_bits_truncate(mode) & SFlag::S_IFMT;
    Ok(if kind == SFlag::S_IFDIR { Kind::Directory } else { Kind::File })
}

/// The container's root and what the kernel shows of processes must stay what they are.
fn refuse(place: &OwnedFd, tree: &Tree) -> Step {
    let in_proc = fstatfs(place).is_ok_and(|system| system.filesystem_type() == PROC_SUPER_MAGIC);
    let is_root = || -> nix::Result<bool> {
        let (place, root) = (fstat(place)?, fstat(tree.root())?);
        Ok((place.st_dev, place.st_ino) == (root.st_dev, root.st_ino))
    };
    if in_proc || is_root().map_err(failed("cannot look at the target"))? {
        return Err("nothing can be mounted over the root or in /proc".to_owned());
    }
    Ok(())
}

fn attributes(wanted: &EnclosedMount) -> u64 {
    let flags = MsFlags::from_bits_truncate(wanted.flags);
    let has = |flag, attribute| if flags.contains(flag) { attribute } else { 0 };
    has(MsFlags::MS_NODEV, NO_DEVICES)
        | has(MsFlags::MS_NOSUID, NO_SETUID)
        | has(MsFlags::MS_NOEXEC, NO_EXECUTION)
        | if wanted.read_only { READ_ONLY } else { 0 }
}

/// Makes `source`, and what is mounted below it, appear at `place`.
pub(super) fn bind(source: &OwnedFd, place: &OwnedFd, attributes: u64) -> Step {
    let bind = || -> nix::Result<()> {
        let copy = syscalls::copy_tree(source, true)?;
        syscalls::set_attributes(&copy, attributes)?;
        syscalls::attach(&copy, place)
    };
    bind().map_err(|error| match error {
        Errno::ENOSYS => "this kernel is too old: Linux 5.12 can do it".to_owned(),
        error => format!("cannot mount: {}", error.desc()),
    })
}

/// A file system in memory.
pub(super) fn memory(place: &OwnedFd, options: &str, read_only: bool) -> Step {
    let mut flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    flags.set(MsFlags::MS_RDONLY, read_only);
    kind("tmpfs", place, flags, options)
}

/// A file system of the kernel's.
pub(super) fn kind(name: &str, place: &OwnedFd, flags: MsFlags, options: &str) -> Step {
    mount(Some(name), path_of(place).as_str(), Some(name), flags, Some(options))
        .map_err(failed(format!("cannot mount {name}")))
}
