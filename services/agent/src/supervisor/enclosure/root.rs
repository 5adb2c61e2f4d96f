//! A root file system out of the layers of an image.

use std::{fmt::Write, os::fd::OwnedFd, path::Path};

use meshos_proto::meshos::agent::v1::{Enclosure, Root};
use nix::{
    errno::Errno,
    fcntl::{OFlag, open},
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::CloneFlags,
    sys::stat::Mode,
    unistd,
};

use super::{Step, devices, failed, kernel, mounts, path_of, propagate, syscalls, tree::Tree};

/// Puts the root together and makes it this process's own; nothing else can be reached afterwards.
pub(super) fn enter(
    root: &Root,
    enclosure: &Enclosure,
    (cgroups, made, terminal): (&[String], CloneFlags, bool),
) -> Step {
    propagate(MsFlags::MS_PRIVATE)?;
    layers(root)?;
    let tree = Tree::below_links(Path::new(&root.place))?;
    kernel::processes(&tree)?;
    devices::all(&tree, (enclosure.shm_size, made, terminal))?;
    kernel::system(&tree, cgroups, enclosure.unmasked)?;
    let sandbox = sandbox(&tree, enclosure)?;
    mounts::all(&enclosure.mounts, &tree, &sandbox, true)?;
    if !enclosure.unmasked {
        kernel::mask(&tree)?;
    }
    change(&tree)
}

/// Mounts the layers above each other. They are named by descriptors: the kernel takes one page of options, which
/// paths of a hundred layers would not fit into, and in which some characters have a meaning.
fn layers(root: &Root) -> Step {
    let mut options = String::from("lowerdir=");
    let lower: Vec<OwnedFd> = root.layers.iter().rev().map(|path| directory(path)).collect::<Step<_>>()?;
    for (number, layer) in lower.iter().enumerate() {
        let colon = if number == 0 { "" } else { ":" };
        // Writing to a text does not fail.
        let _ = write!(options, "{colon}{}", path_of(layer));
    }
    let (upper, work) = (directory(&root.upper)?, directory(&root.work)?);
    let _ = write!(options, ",upperdir={},workdir={}", path_of(&upper), path_of(&work));
    let mount = |options: &str| {
        mount(Some("overlay"), root.place.as_str(), Some("overlay"), MsFlags::MS_NODEV, Some(options))
    };
    // What is written is thrown away with the container: nothing has to reach the disk when it ends.
    let mounted = match mount(&format!("{options},volatile")) {
        Err(Errno::EINVAL) => mount(&options),
        mounted => mounted,
    };
    mounted.map_err(failed(format!("cannot mount {} layers with overlayfs", lower.len())))
}

fn directory(path: &str) -> Step<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(path, flags, Mode::empty()).map_err(failed(format!("cannot open {path}")))
}

fn sandbox(tree: &Tree, enclosure: &Enclosure) -> Step<Tree> {
    let place = Path::new(&enclosure.sandbox);
    let source = Tree::without_links(Path::new(&enclosure.sandbox_source))?;
    let attributes = syscalls::NO_DEVICES | syscalls::NO_SETUID;
    mounts::bind(source.root(), &tree.directory(place)?, attributes)
        .map_err(|reason| format!("sandbox: {reason}"))?;
    // Now it is what lies on top.
    tree.subtree(place)
}

fn change(tree: &Tree) -> Step {
    let change = || -> nix::Result<()> {
        unistd::fchdir(tree.root())?;
        // The old root lies over the new one for a moment, so no directory is needed for it.
        unistd::pivot_root(".", ".")?;
        umount2(".", MntFlags::MNT_DETACH)?;
        unistd::chdir("/")
    };
    change().map_err(failed("cannot change the root"))
}
