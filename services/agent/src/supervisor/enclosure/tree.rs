//! A file system tree that others filled: what is looked up in it stays in it.

use std::{
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat},
    sys::stat::{Mode, mkdirat},
};

use super::{Step, failed};

/// Links that lead to nothing, one to the next.
const LINKS: u32 = 16;

/// What is to be made when it is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File,
}

/// A directory as the root of all paths.
#[derive(Debug)]
pub(super) struct Tree {
    root: OwnedFd,
    how: ResolveFlag,
}

impl Tree {
    /// Links are followed as if the directory were `/`.
    pub(super) fn below_links(root: &Path) -> Step<Self> {
        let how = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        Self::open(root, (how, OpenHow::new()))
    }

    /// No link is followed, neither on the way to the directory nor below it.
    pub(super) fn without_links(root: &Path) -> Step<Self> {
        let how = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
        Self::open(root, (how, OpenHow::new().resolve(ResolveFlag::RESOLVE_NO_SYMLINKS)))
    }

    fn open(root: &Path, (how, open): (ResolveFlag, OpenHow)) -> Step<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = openat2(AT_FDCWD, root, open.flags(flags))
            .map_err(failed(format!("cannot open {}", root.display())))?;
        Ok(Self { root, how })
    }

    /// A subdirectory as the root of paths in which no link is followed.
    pub(super) fn subtree(&self, path: &Path) -> Step<Self> {
        let how = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
        Ok(Self { root: self.directory(path)?, how })
    }

    pub(super) fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// What is there, as what lies on top of it.
    pub(super) fn find(&self, path: &Path) -> nix::Result<OwnedFd> {
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        let inside = path.strip_prefix("/").unwrap_or(path);
        let inside = if inside.as_os_str().is_empty() { Path::new(".") } else { inside };
        openat2(self.root.as_fd(), inside, OpenHow::new().flags(flags).resolve(self.how))
    }

    /// The directory, made with those above it when it is not there.
    pub(super) fn directory(&self, path: &Path) -> Step<OwnedFd> {
        self.place(path, Kind::Directory)
    }

    /// A place to mount something at, made when it is not there.
    pub(super) fn place(&self, path: &Path, kind: Kind) -> Step<OwnedFd> {
        self.make(path, kind, LINKS)
            .map_err(failed(format!("cannot make {} in the container", path.display())))
    }

    fn make(&self, path: &Path, kind: Kind, links: u32) -> nix::Result<OwnedFd> {
        match self.find(path) {
            Err(Errno::ENOENT) => {}
            found => return found,
        }
        let (above, name) = path.parent().zip(path.file_name()).ok_or(Errno::EINVAL)?;
        let parent = self.make(above, Kind::Directory, links)?;
        let made = match kind {
            Kind::Directory => mkdirat(&parent, name, Mode::from_bits_truncate(0o755)),
            Kind::File => {
                let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
                openat(&parent, name, flags, Mode::from_bits_truncate(0o644)).map(drop)
            }
        };
        match made {
            // A link that leads to nothing: what it stands for is made.
            Err(Errno::EEXIST) if self.how.contains(ResolveFlag::RESOLVE_IN_ROOT) => {
                let links = links.checked_sub(1).ok_or(Errno::ELOOP)?;
                let target = PathBuf::from(readlinkat(&parent, name)?);
                self.make(&above.join(target), kind, links)
            }
            Err(error) => Err(error),
            Ok(()) => self.find(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn links_stay_inside() {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
        fs::create_dir(&root).unwrap();
        fs::create_dir(&outside).unwrap();
        symlink(&outside, root.join("absolute")).unwrap();
        symlink("../../../../outside", root.join("dots")).unwrap();
        symlink("/nowhere/deep/file", root.join("dangling")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let tree = Tree::below_links(&root).unwrap();
        for path in ["/absolute/a", "dots/b", "plain/c"] {
            tree.directory(Path::new(path)).unwrap();
        }
        tree.place(Path::new("dangling"), Kind::File).unwrap();
        assert!(root.join("nowhere/deep/file").is_file() && root.join("plain/c").is_dir());
        // The same paths, below the root.
        assert!(root.join(outside.strip_prefix("/").unwrap()).join("a").is_dir());
        assert!(root.join("outside/b").is_dir());
        assert!(tree.directory(Path::new("loop/x")).is_err());
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    }

    #[test]
    fn a_sandbox_has_no_links() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        symlink("/etc", root.join("trap")).unwrap();
        symlink("gone", root.join("dangling")).unwrap();
        let tree = Tree::without_links(&root).unwrap();
        for path in ["trap", "trap/x", "dangling", "../x", "a/../../x"] {
            assert!(tree.directory(Path::new(path)).is_err(), "{path}");
        }
        tree.directory(Path::new("some/where")).unwrap();
        assert!(root.join("some/where").is_dir());
        assert!(Tree::without_links(&root.join("trap")).is_err());
    }
}
