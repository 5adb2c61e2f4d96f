//! Which directories the files API shows, and how a path is opened without ever leaving them.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    path::{Component, Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2},
    sys::stat::Mode,
};
use serde_json::Value;

/// Why a path cannot be opened.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum OpenError {
    NotFound,
    /// It leads out of what is shown.
    Escapes,
    Other(String),
}

/// Attached directories by the paths that they are shown under; clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Sandboxes {
    root: PathBuf,
    attached: Arc<Mutex<BTreeMap<PathBuf, PathBuf>>>,
}

impl Sandboxes {
    /// Nothing attached yet; `root` is the agent's work directory.
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), attached: Arc::default() }
    }

    /// The agent's work directory.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PathBuf, PathBuf>> {
        self.attached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows a run's sandbox, also as the newest run of its executor.
    pub(crate) fn attach(&self, sandbox: &Path) {
        let mut attached = self.lock();
        for name in self.names(sandbox) {
            attached.insert(name, sandbox.to_owned());
        }
    }

    /// Shows a sandbox no longer.
    pub(crate) fn detach(&self, sandbox: &Path) {
        self.lock().retain(|_, real| real != sandbox);
    }

    /// `…/runs/<container>`, `…/runs/latest`, `/frameworks/<id>/executors/<id>/runs/latest`.
    fn names(&self, sandbox: &Path) -> Vec<PathBuf> {
        let mut names = vec![sandbox.to_owned()];
        let Some(runs) = sandbox.parent().filter(|runs| runs.ends_with("runs")) else { return names };
        names.push(runs.join("latest"));
        let below_agent = runs
            .strip_prefix(self.root.join("slaves"))
            .ok()
            .map(|path| path.iter().skip(1).collect::<PathBuf>());
        names.extend(below_agent.map(|path| Path::new("/").join(path).join("latest")));
        names
    }

    /// For `/files/debug`.
    pub(crate) fn debug(&self) -> Value {
        let text = |path: &Path| path.display().to_string();
        self.lock().iter().map(|(name, real)| (text(name), Value::from(text(real)))).collect()
    }

    /// Opens what a path of the API means, for reading; never blocks on a pipe.
    pub(crate) fn open(&self, path: &str) -> Result<File, OpenError> {
        let path = Path::new(path);
        let (root, rest) = self.resolve(path).ok_or(OpenError::NotFound)?;
        let root_dir = open(&root, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(explain)?;
        match open_beneath(&root_dir, &rest) {
            Ok(file) => Ok(file),
            // An absolute link that stays inside is none the worse: open what it leads to.
            Err(Errno::EXDEV) => {
                let real = std::fs::canonicalize(root.join(&rest)).map_err(|error| explain(errno(&error)))?;
                let root = std::fs::canonicalize(&root).map_err(|error| explain(errno(&error)))?;
                let rest = real.strip_prefix(&root).map_err(|_| OpenError::Escapes)?;
                open_beneath(&root_dir, rest).map_err(explain)
            }
            Err(error) => Err(explain(error)),
        }
    }

    /// The attached directory that the path lies in, and the rest. The longest name wins.
    fn resolve(&self, path: &Path) -> Option<(PathBuf, PathBuf)> {
        let attached = self.lock();
        let mut prefix = path;
        loop {
            if let Some(real) = attached.get(prefix) {
                let rest = path.strip_prefix(prefix).ok()?;
                return Some((real.clone(), rest.to_owned()));
            }
            // `a/..` has no prefix that may be looked up: the directories in between decide.
            prefix = match prefix.components().next_back()? {
                Component::RootDir => return None,
                _ => prefix.parent()?,
            };
        }
    }
}

/// Opens a path below a directory; the kernel sees to it that it stays below, whatever is renamed meanwhile.
fn open_beneath(root: &impl std::os::fd::AsFd, rest: &Path) -> nix::Result<File> {
    let rest = if rest.as_os_str().is_empty() { Path::new(".") } else { rest };
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    openat2(root, rest, OpenHow::new().flags(flags).resolve(resolve)).map(File::from)
}

fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

fn explain(error: Errno) -> OpenError {
    match error {
        Errno::ENOENT | Errno::ENOTDIR | Errno::ENAMETOOLONG | Errno::EINVAL | Errno::ENXIO => {
            OpenError::NotFound
        }
        Errno::EXDEV | Errno::ELOOP => OpenError::Escapes,
        other => OpenError::Other(other.desc().to_owned()),
    }
}
