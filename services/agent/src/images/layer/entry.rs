//! One entry of a layer.

use std::{
    ffi::{OsStr, OsString},
    fs::{File, Permissions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            ffi::OsStrExt,
            fs::{PermissionsExt, fchown},
        },
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, openat},
    sys::{
        stat::{FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmodat, fstatat, mknodat, utimensat},
        time::TimeSpec,
    },
    unistd::{Gid, Uid, UnlinkatFlags, fchownat, unlinkat},
};
use rustix::fs::XattrFlags;

use super::is_full;
use crate::{
    beneath::{Beneath, name_of, relative},
    fetcher::archive::budget::Budget,
    images::{ErrorKind, failure::Failure},
    tarball::{Entry, EntryType, Sparse, Tarball},
};

const OPAQUE: &str = "trusted.overlay.opaque";
/// Before the name of what a layer deletes.
const WHITEOUT: &[u8] = b".wh.";
/// In a directory of which the layer deletes everything.
const WHITEOUT_ALL: &[u8] = b".wh..wh..opq";
/// Further marks, of a file system that nobody uses any more.
const MARKS: &[u8] = b".wh..wh.";
const CHUNK: usize = 64 * 1024;
/// Between two looks at how full the disk is.
const LOOK: u64 = 16 * 1024 * 1024;
/// Bytes of directories' names that are remembered until the end.
const REMEMBERED: usize = 128 * 1024 * 1024;

/// Writes entries into a layer's directory.
pub(super) struct Writer<'a> {
    into: &'a Beneath,
    root: &'a Path,
    budget: &'a Budget,
    /// Bytes that a file may have.
    most: u64,
    /// With their times, which change with all that is made in them.
    directories: Vec<(PathBuf, i64)>,
    remembered: usize,
    since_look: u64,
}

impl<'a> Writer<'a> {
    pub(super) fn new(into: &'a Beneath, root: &'a Path, (budget, most): (&'a Budget, u64)) -> Self {
        Self { into, root, budget, most, directories: Vec::new(), remembered: 0, since_look: LOOK }
    }

    pub(super) fn entry<R: Read>(&mut self, entry: &Entry, content: &mut Tarball<R>) -> Result<(), Failure> {
        self.budget.entry().map_err(|reason| Failure::new(ErrorKind::TooLarge, reason))?;
        let given = Path::new(OsStr::from_bytes(&entry.name));
        let refused = |reason: &str| refused(given, reason);
        let path = relative(given).map_err(refused)?;
        let name = path.file_name().map_or(&b""[..], OsStrExt::as_bytes);
        let made = match name {
            WHITEOUT_ALL => self.hide_all(path.parent().unwrap_or(Path::new(""))),
            name if name.starts_with(MARKS) => Ok(()),
            name if name.starts_with(WHITEOUT) => {
                let hidden = OsString::from(OsStr::from_bytes(&name[WHITEOUT.len()..]));
                if matches!(hidden.as_bytes(), b"" | b"." | b"..") {
                    return Err(refused("it deletes a directory from within"));
                }
                self.hide(&path.with_file_name(hidden))
            }
            _ => return self.make(entry, &path, content),
        };
        made.map_err(|error| cannot_make(given, &error))
    }

    /// What remains to be done when all is there.
    pub(super) fn finish(self) -> Result<(), Failure> {
        for (path, modified) in self.directories.into_iter().rev() {
            let set = match path.as_os_str().is_empty() {
                true => File::open(self.root).and_then(|root| {
                    Ok(nix::sys::stat::futimens(&root, &TimeSpec::UTIME_OMIT, &TimeSpec::new(modified, 0))?)
                }),
                false => self.into.parent(&path, false).and_then(|parent| at(&parent, &path, modified)),
            };
            match set {
                // A later entry took its place.
                Err(error)
                    if matches!(error.raw_os_error(), Some(nix::libc::ENOENT | nix::libc::ENOTDIR)) => {}
                set => set.map_err(|error| cannot_make(&path, &error))?,
            }
        }
        Ok(())
    }

    fn make<R: Read>(&mut self, entry: &Entry, path: &Path, content: &mut Tarball<R>) -> Result<(), Failure> {
        let refused = |reason: &str| refused(path, reason);
        let link = || {
            let link = entry.link.as_deref().map(|link| Path::new(OsStr::from_bytes(link)));
            link.filter(|link| !link.as_os_str().is_empty()).ok_or_else(|| refused("it links to nothing"))
        };
        let kind = match entry.kind {
            // Old archives say by a slash that it is a directory.
            kind if kind.is_file() && entry.name.ends_with(b"/") => EntryType::Directory,
            kind => kind,
        };
        if path.as_os_str().is_empty() && kind != EntryType::Directory {
            return Err(refused("it is to be the root of the image, and is no directory"));
        }
        let owner = owner(entry).ok_or_else(|| refused("its owner has an impossible number"))?;
        let made = match kind {
            EntryType::Directory => {
                self.remember(path, entry.modified)?;
                self.directory(entry, path, owner)
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                return self.file(entry, (path, owner), content);
            }
            EntryType::Symlink => {
                let target = link()?;
                self.into.symlink(path, target).and_then(|()| self.own_link(entry, path, owner))
            }
            EntryType::Link => {
                let target =
                    relative(link()?).map_err(|reason| refused(&format!("of what it links to, {reason}")))?;
                self.into.second_name(path, &target)
            }
            EntryType::Fifo => self.pipe(entry, path, owner),
            // A container's /dev is made by the agent.
            EntryType::Char | EntryType::Block if path.starts_with("dev") => Ok(()),
            EntryType::Char | EntryType::Block => {
                return Err(refused(
                    "it is a device; images may have devices in /dev only, where they are left out",
                ));
            }
            _ => return Err(refused("it is of a kind that is not known")),
        };
        made.map_err(|error| cannot_make(path, &error))
    }

    fn directory(&self, entry: &Entry, path: &Path, (uid, gid): (u32, u32)) -> io::Result<()> {
        if path.as_os_str().is_empty() {
            let root = File::open(self.root)?;
            fchown(&root, Some(uid), Some(gid))?;
            root.set_permissions(Permissions::from_mode(entry.mode & 0o7777))?;
            return attributes(&root, entry);
        }
        let (parent, name) = (self.into.parent(path, true)?, name_of(path)?);
        let was_hidden = stands(&parent, name)? == Some(Stands::Whiteout);
        if was_hidden {
            unlinkat(&parent, name, UnlinkatFlags::NoRemoveDir)?;
        }
        drop(self.into.directory(path, 0o700)?);
        let directory = open_directory(&parent, name)?;
        if was_hidden {
            opaque(&directory)?;
        }
        fchown(&directory, Some(uid), Some(gid))?;
        directory.set_permissions(Permissions::from_mode(entry.mode & 0o7777))?;
        attributes(&directory, entry)
    }

    fn file<R: Read>(
        &mut self,
        entry: &Entry,
        (path, (uid, gid)): (&Path, (u32, u32)),
        content: &mut Tarball<R>,
    ) -> Result<(), Failure> {
        let failed = |error: io::Error| cannot_make(path, &error);
        if entry.sparse.as_ref().is_some_and(|sparse| sparse.size > self.most) {
            return Err(Failure::new(ErrorKind::TooLarge, "a layer has a file larger than this node takes"));
        }
        let mut file = self.into.create(path, 0o600).map_err(failed)?;
        self.content(entry.sparse.as_ref(), content, &mut file).map_err(|error| {
            if error.raw_os_error().is_some() { failed(error) } else { super::broken(error) }
        })?;
        let finish = || {
            fchown(&file, Some(uid), Some(gid))?;
            // After the owner, whose change takes them away.
            attributes(&file, entry)?;
            file.set_permissions(Permissions::from_mode(entry.mode & 0o7777))?;
            let modified = TimeSpec::new(entry.modified, 0);
            Ok(nix::sys::stat::futimens(&file, &TimeSpec::UTIME_OMIT, &modified)?)
        };
        finish().map_err(failed)?;
        match self.since_look >= LOOK && is_full(self.root) {
            true => Err(full()),
            false => Ok(()),
        }
    }

    fn content<R: Read>(
        &mut self,
        sparse: Option<&Sparse>,
        content: &mut Tarball<R>,
        file: &mut File,
    ) -> io::Result<()> {
        let mut content = self.budget.content(content);
        let Some(sparse) = sparse else {
            let size = self.copy(&mut content, file)?;
            return file.set_len(size);
        };
        for (offset, length) in &sparse.pieces {
            file.seek(SeekFrom::Start(*offset))?;
            self.copy(&mut content.by_ref().take(*length), file)?;
        }
        file.set_len(sparse.size)
    }

    /// Copies all there is; where there is nothing but zeros, the file gets a hole. How many bytes.
    fn copy(&mut self, content: &mut impl Read, file: &mut File) -> io::Result<u64> {
        let mut chunk = vec![0; CHUNK];
        let mut copied = 0;
        loop {
            let count = fill(content, &mut chunk)?;
            if count == 0 {
                return Ok(copied);
            }
            copied += count as u64;
            if chunk[..count].iter().all(|byte| *byte == 0) {
                file.seek(SeekFrom::Current(i64::try_from(count).unwrap_or_default()))?;
                continue;
            }
            file.write_all(&chunk[..count])?;
            self.since_look += count as u64;
            if self.since_look >= 2 * LOOK {
                self.since_look = 0;
                if is_full(self.root) {
                    return Err(Errno::ENOSPC.into());
                }
            }
        }
    }

    fn own_link(&self, entry: &Entry, path: &Path, (uid, gid): (u32, u32)) -> io::Result<()> {
        let parent = self.into.parent(path, false)?;
        let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        fchownat(&parent, name_of(path)?, owner.0, owner.1, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        at(&parent, path, entry.modified)
    }

    fn pipe(&self, entry: &Entry, path: &Path, owner: (u32, u32)) -> io::Result<()> {
        let (parent, name) = self.into.place(path)?;
        mknodat(&parent, name, SFlag::S_IFIFO, Mode::from_bits_truncate(0o600), 0)?;
        self.own_link(entry, path, owner)?;
        // Made just now, by us, in a directory that is ours alone: no link.
        let mode = Mode::from_bits_truncate(entry.mode & 0o7777);
        Ok(fchmodat(&parent, name, mode, FchmodatFlags::FollowSymlink)?)
    }

    /// Hides what layers below have at a path; what this one has there stays.
    fn hide(&self, path: &Path) -> io::Result<()> {
        let (parent, name) = (self.into.parent(path, true)?, name_of(path)?);
        match stands(&parent, name)? {
            None => Ok(mknodat(&parent, name, SFlag::S_IFCHR, Mode::empty(), 0)?),
            Some(Stands::Directory) => opaque(&open_directory(&parent, name)?),
            Some(Stands::Whiteout | Stands::Other) => Ok(()),
        }
    }

    /// Hides everything that layers below have in a directory.
    fn hide_all(&self, path: &Path) -> io::Result<()> {
        if path.as_os_str().is_empty() {
            return opaque(&File::open(self.root)?);
        }
        let (parent, name) = (self.into.parent(path, true)?, name_of(path)?);
        if stands(&parent, name)? == Some(Stands::Whiteout) {
            unlinkat(&parent, name, UnlinkatFlags::NoRemoveDir)?;
        }
        drop(self.into.directory(path, 0o755)?);
        opaque(&open_directory(&parent, name)?)
    }

    fn remember(&mut self, path: &Path, modified: i64) -> Result<(), Failure> {
        self.remembered += path.as_os_str().len() + size_of::<(PathBuf, i64)>();
        self.directories.push((path.to_owned(), modified));
        match self.remembered <= REMEMBERED {
            true => Ok(()),
            false => Err(Failure::new(ErrorKind::TooLarge, "a layer has too many directories")),
        }
    }
}

/// What stands under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stands {
    Directory,
    Whiteout,
    Other,
}

fn stands(parent: &OwnedFd, name: &OsStr) -> io::Result<Option<Stands>> {
    let stat = match fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::ENOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    Ok(Some(match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFDIR => Stands::Directory,
        SFlag::S_IFCHR if stat.st_rdev == 0 => Stands::Whiteout,
        _ => Stands::Other,
    }))
}

fn open_directory(parent: &OwnedFd, name: &OsStr) -> io::Result<File> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(openat(parent, name, flags, Mode::empty())?.into())
}

fn opaque(directory: &File) -> io::Result<()> {
    Ok(rustix::fs::fsetxattr(directory, OPAQUE, b"y", XattrFlags::empty())?)
}

/// Sets what attributes an image may have: capabilities of programs and users' own. Not overlayfs's, which would lead out
/// of the layer, nor labels and access lists of another machine.
fn attributes(file: impl AsFd, entry: &Entry) -> io::Result<()> {
    for (name, value) in &entry.attributes {
        let own = name.starts_with(b"user.") && !name.starts_with(b"user.overlay.");
        if own || name == b"security.capability" {
            rustix::fs::fsetxattr(&file, &name[..], value, XattrFlags::empty())?;
        }
    }
    Ok(())
}

/// Sets the time of what may be a link.
fn at(parent: &OwnedFd, path: &Path, modified: i64) -> io::Result<()> {
    let (accessed, modified) = (TimeSpec::UTIME_OMIT, TimeSpec::new(modified, 0));
    Ok(utimensat(parent, name_of(path)?, &accessed, &modified, UtimensatFlags::NoFollowSymlink)?)
}

/// Reads until the buffer is full, or nothing comes any more.
fn fill(content: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match content.read(&mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

fn owner(entry: &Entry) -> Option<(u32, u32)> {
    let number = |number: u64| u32::try_from(number).ok().filter(|number| *number != u32::MAX);
    Some((number(entry.owner.0)?, number(entry.owner.1)?))
}

fn refused(path: &Path, reason: &str) -> Failure {
    let path = crate::images::digest::short(&path.to_string_lossy());
    Failure::new(ErrorKind::Refused, format!("a layer's entry '{path}' is refused: {reason}"))
}

fn full() -> Failure {
    Failure::new(
        ErrorKind::Store,
        "the disk of the image store is nearly full: let images go, or make it larger",
    )
}

fn cannot_make(path: &Path, error: &io::Error) -> Failure {
    match error.raw_os_error() {
        // A link stands where a directory should be.
        Some(nix::libc::ELOOP | nix::libc::ENOTDIR) => {
            refused(path, "it would lead through a link or a file")
        }
        Some(nix::libc::EISDIR) => refused(path, "a directory stands there"),
        Some(nix::libc::ENOENT) => refused(path, "what it links to is not in the layer"),
        Some(nix::libc::ENAMETOOLONG) => refused(path, "its name is too long"),
        Some(nix::libc::ENOSPC) => full(),
        Some(nix::libc::EPERM | nix::libc::EACCES) => Failure::new(
            ErrorKind::Store,
            format!(
                "cannot make '{}' of a layer: {error}; images need an agent that is root",
                path.display()
            ),
        ),
        _ => Failure::new(ErrorKind::Store, format!("cannot make '{}' of a layer: {error}", path.display())),
    }
}
