//! The agent's directory: made, locked, and where what lies.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use nix::fcntl::{Flock, FlockArg};

use crate::Error;

/// A directory that this agent alone uses while it lives.
#[derive(Debug)]
pub(crate) struct WorkDir {
    /// Absolute.
    pub(crate) path: PathBuf,
    _lock: Flock<File>,
}

impl WorkDir {
    /// Makes the directory and takes it.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let failed = |what| move |source| Error::WorkDir { dir: path.to_owned(), what, source };
        fs::create_dir_all(path.join("meta")).map_err(failed("be made"))?;
        // Variables of tasks are written down there.
        fs::set_permissions(path.join("meta"), fs::Permissions::from_mode(0o700))
            .map_err(failed("be closed to others"))?;
        let path = fs::canonicalize(path).map_err(failed("be found"))?;
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true);
        let lock_path = path.join("meta/lock");
        let file = options.open(&lock_path).map_err(|source| Error::WorkDir {
            dir: path.clone(),
            what: "be written",
            source,
        })?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Self { path, _lock: lock }),
            Err(_) => Err(Error::WorkDirTaken(path)),
        }
    }

    pub(crate) fn checkpoint(&self) -> PathBuf {
        self.path.join("meta/agent.journal")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_work_directory_has_one_agent() {
        let dir = tempfile::tempdir().unwrap();
        let first = WorkDir::open(dir.path()).unwrap();
        assert!(WorkDir::open(dir.path()).unwrap_err().to_string().contains("used by another agent"));
        drop(first);
        WorkDir::open(dir.path()).unwrap();
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let error = WorkDir::open(Path::new("/dev/null/agent")).unwrap_err().to_string();
        assert!(error.contains("/dev/null/agent"), "{error}");
    }
}
