//! Which directories the files API shows, and how a path is opened without ever leaving them.

use std::{
    collections::{BTreeMap, BTreeSet},
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

use crate::core::Shown;

const READ: OFlag = OFlag::O_RDONLY.union(OFlag::O_NONBLOCK).union(OFlag::O_NOCTTY).union(OFlag::O_CLOEXEC);

/// Why a path cannot be opened.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum OpenError {
    NotFound,
    /// It leads out of what is shown.
    Escapes,
    Other(String),
}

/// Something that is shown.
#[derive(Clone, Debug)]
struct Attached {
    real: PathBuf,
    /// Opened first. Tasks own what lies below it, so that `below` is opened without leaving it.
    root: PathBuf,
    below: PathBuf,
    /// With which sandbox it goes.
    sandbox: Arc<Path>,
}

#[derive(Debug, Default)]
struct Table {
    by_name: BTreeMap<PathBuf, Attached>,
    /// Names by the sandbox that they go with.
    names: BTreeMap<Arc<Path>, BTreeSet<PathBuf>>,
}

/// Attached directories by the paths that they are shown under; clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Sandboxes {
    root: PathBuf,
    attached: Arc<Mutex<Table>>,
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

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.attached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows a run's sandbox, also as the newest run of its executor, and the volumes in it.
    pub(crate) fn attach(&self, shown: &Shown) {
        let sandbox: Arc<Path> = Arc::from(shown.sandbox.as_path());
        let runs = self.names(&sandbox).into_iter().map(|name| (name, shown.sandbox.clone()));
        let table = &mut *self.lock();
        let names = table.names.entry(Arc::clone(&sandbox)).or_default();
        for (name, real) in runs.chain(shown.volumes.iter().cloned()) {
            names.insert(name.clone());
            let below = real.strip_prefix(&shown.sandbox).map(Path::to_owned);
            let (root, below) = match below {
                Ok(below) => (shown.sandbox.clone(), below),
                Err(_) => (real.clone(), PathBuf::new()),
            };
            let attached = Attached { real, root, below, sandbox: Arc::clone(&sandbox) };
            table.by_name.insert(name, attached);
        }
    }

    /// Shows a single file.
    pub(crate) fn attach_file(&self, name: &str, file: &Path) {
        let (real, below) = (file.to_owned(), PathBuf::new());
        let attached = Attached { root: real.clone(), real, below, sandbox: Arc::from(file) };
        self.lock().by_name.insert(PathBuf::from(name), attached);
    }

    /// Shows a sandbox no longer.
    pub(crate) fn detach(&self, sandbox: &Path) {
        let table = &mut *self.lock();
        for name in table.names.remove(sandbox).unwrap_or_default() {
            // The newest run is another one by now.
            if table.by_name.get(&name).is_some_and(|attached| *attached.sandbox == *sandbox) {
                table.by_name.remove(&name);
            }
        }
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
        let table = self.lock();
        let shown =
            table.by_name.iter().map(|(name, attached)| (text(name), Value::from(text(&attached.real))));
        shown.collect()
    }

    /// Opens what a path of the API means, for reading; never blocks on a pipe.
    pub(crate) fn open(&self, path: &str) -> Result<File, OpenError> {
        let path = Path::new(path);
        let (root, rest) = self.resolve(path).ok_or(OpenError::NotFound)?;
        let root_dir = match open(&root, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        {
            Ok(dir) => dir,
            Err(Errno::ENOTDIR) if rest.as_os_str().is_empty() => {
                return open(&root, READ, Mode::empty()).map(File::from).map_err(explain);
            }
            Err(error) => return Err(explain(error)),
        };
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
            if let Some(attached) = attached.by_name.get(prefix) {
                let rest = path.strip_prefix(prefix).ok()?;
                // No joining with nothing: a file must not get a slash at its end.
                let rest = match rest.as_os_str().is_empty() {
                    true => attached.below.clone(),
                    false => attached.below.join(rest),
                };
                return Some((attached.root.clone(), rest));
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
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    openat2(root, rest, OpenHow::new().flags(READ).resolve(resolve)).map(File::from)
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
