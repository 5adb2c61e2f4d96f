//! Files below a directory that others may write to: no step ever follows a symbolic link, so nothing outside is
//! reached, whatever stands there or is put there meanwhile.

use std::{
    ffi::OsStr,
    fs::{File, Permissions},
    io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::fs::{PermissionsExt, fchown},
    },
    path::{Component, Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, open, openat, renameat},
    sys::stat::{Mode, mkdirat},
    unistd::{Gid, Uid, UnlinkatFlags, fchownat, linkat, symlinkat, unlinkat},
};

const DIRECTORY: OFlag =
    OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// A directory that files are made below.
#[derive(Debug)]
pub(crate) struct Beneath {
    root: OwnedFd,
    /// User and group of everything that is made; absent: the agent's own.
    owner: Option<(u32, u32)>,
}

impl Beneath {
    /// The directory must be there. Its path is absolute, and no step of it is a link: what lies above may be others'
    /// as well.
    pub(crate) fn open(root: &Path, owner: Option<(u32, u32)>) -> io::Result<Self> {
        let inside = root.strip_prefix("/").map_err(|_| Errno::EINVAL)?;
        let mut directory = open(Path::new("/"), DIRECTORY, Mode::empty())?;
        for component in inside.components() {
            let Component::Normal(name) = component else { return Err(Errno::EINVAL.into()) };
            directory = openat(&directory, name, DIRECTORY, Mode::empty())?;
        }
        Ok(Self { root: directory, owner })
    }

    /// The directory itself, whatever its name is now; good for as long as this lives.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.root.as_raw_fd()))
    }

    /// Makes the directories of a path that are not there; the last of them.
    pub(crate) fn directory(&self, path: &Path, mode: u32) -> io::Result<OwnedFd> {
        let mut directory = self.root.try_clone()?;
        for component in path.components() {
            let Component::Normal(name) = component else { return Err(Errno::EINVAL.into()) };
            match mkdirat(&directory, name, Mode::from_bits_truncate(mode | 0o700)) {
                Ok(()) => self.own_at(&directory, name)?,
                Err(Errno::EEXIST) => {}
                Err(error) => return Err(error.into()),
            }
            directory = openat(&directory, name, DIRECTORY, Mode::empty())?;
        }
        Ok(directory)
    }

    /// Makes an empty file in place of what stands there.
    pub(crate) fn create(&self, path: &Path, mode: u32) -> io::Result<File> {
        let (directory, name) = self.place(path)?;
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = File::from(openat(&directory, name, flags, Mode::from_bits_truncate(0o600))?);
        if let Some((uid, gid)) = self.owner {
            fchown(&file, Some(uid), Some(gid))?;
        }
        // After the owner: that change takes bits away. Never set-user-id.
        file.set_permissions(Permissions::from_mode(mode & 0o777))?;
        Ok(file)
    }

    /// Opens a file for reading that is there already.
    pub(crate) fn read(&self, path: &Path) -> io::Result<File> {
        self.open_file(path, OFlag::O_RDONLY)
    }

    /// Opens a file that is there already for reading and writing.
    pub(crate) fn write(&self, path: &Path) -> io::Result<File> {
        self.open_file(path, OFlag::O_RDWR)
    }

    fn open_file(&self, path: &Path, access: OFlag) -> io::Result<File> {
        let directory = self.parent(path, false)?;
        let flags = access | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = File::from(openat(&directory, name_of(path)?, flags, Mode::empty())?);
        match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(Errno::EINVAL.into()),
        }
    }

    /// Gives what is there, if anything, another name, in place of what had that name.
    pub(crate) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (old, new) = (self.parent(from, false)?, self.parent(to, false)?);
        match renameat(&old, name_of(from)?, &new, name_of(to)?) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a symbolic link in place of what stands there. Where it leads to is not looked at: nothing here follows it.
    pub(crate) fn symlink(&self, path: &Path, target: &Path) -> io::Result<()> {
        let (directory, name) = self.place(path)?;
        symlinkat(target, &directory, name)?;
        self.own_at(&directory, name)
    }

    /// Makes a second name for a file below the directory.
    pub(crate) fn hard_link(&self, path: &Path, existing: &Path) -> io::Result<()> {
        // Only what is there as a file: a second name of a link would be one more link.
        drop(self.read(existing)?);
        self.second_name(path, existing)
    }

    /// Makes a second name for what is there below the directory and is none itself; of a link: of the link.
    pub(crate) fn second_name(&self, path: &Path, existing: &Path) -> io::Result<()> {
        let from = self.parent(existing, false)?;
        let (directory, name) = self.place(path)?;
        Ok(linkat(&from, name_of(existing)?, &directory, name, AtFlags::empty())?)
    }

    /// The directory that a path lies in, with nothing under the path's name any more.
    pub(crate) fn place<'a>(&self, path: &'a Path) -> io::Result<(OwnedFd, &'a OsStr)> {
        let (directory, name) = (self.parent(path, true)?, name_of(path)?);
        match unlinkat(&directory, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok((directory, name)),
            Err(error) => Err(error.into()),
        }
    }

    /// The directory that a path lies in; made if need be.
    pub(crate) fn parent(&self, path: &Path, make: bool) -> io::Result<OwnedFd> {
        let parent = path.parent().unwrap_or(Path::new(""));
        if make {
            return self.directory(parent, 0o755);
        }
        let mut directory = self.root.try_clone()?;
        for component in parent.components() {
            let Component::Normal(name) = component else { return Err(Errno::EINVAL.into()) };
            directory = openat(&directory, name, DIRECTORY, Mode::empty())?;
        }
        Ok(directory)
    }

    fn own_at(&self, directory: impl AsFd, name: &OsStr) -> io::Result<()> {
        let Some((uid, gid)) = self.owner else { return Ok(()) };
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        Ok(fchownat(directory, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)?)
    }
}

/// The last part of a path.
pub(crate) fn name_of(path: &Path) -> io::Result<&OsStr> {
    path.file_name().ok_or_else(|| Errno::EINVAL.into())
}

/// A path as an archive or a user gives it, as one below a directory: a leading `/` and `.` are dropped.
///
/// # Errors
/// `..`, which could lead out, and a path without any name.
pub(crate) fn relative(path: &Path) -> Result<PathBuf, &'static str> {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err("it has '..' in it"),
        }
    }
    Ok(clean)
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn no_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
        for path in [&root, &outside] {
            fs::create_dir(path).unwrap();
        }
        fs::write(outside.join("precious"), "as it was").unwrap();
        symlink(&outside, root.join("trap")).unwrap();
        symlink(outside.join("precious"), root.join("file")).unwrap();
        let beneath = Beneath::open(&root, None).unwrap();
        assert!(beneath.create(Path::new("trap/new"), 0o644).is_err());
        assert!(beneath.directory(Path::new("trap/deep"), 0o755).is_err());
        assert!(beneath.read(Path::new("trap/precious")).is_err());
        assert!(beneath.read(Path::new("file")).is_err());
        assert!(beneath.hard_link(Path::new("mine"), Path::new("file")).is_err());
        // What is made takes the link's place.
        beneath.create(Path::new("file"), 0o4755).unwrap().write_all(b"new").unwrap();
        assert_eq!(fs::read_to_string(root.join("file")).unwrap(), "new");
        assert_eq!(fs::metadata(root.join("file")).unwrap().permissions().mode() & 0o7777, 0o755);
        assert_eq!(fs::read_to_string(outside.join("precious")).unwrap(), "as it was");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    }

    #[test]
    fn paths_are_made_relative_or_refused() {
        assert_eq!(relative(Path::new("/etc/./passwd")).unwrap(), Path::new("etc/passwd"));
        assert!(relative(Path::new("a/../../b")).is_err());
    }
}
