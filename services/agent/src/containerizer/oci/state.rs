//! What is kept of a container while it is there: a directory of its own, for the layer that it writes and for what the
//! next agent must know.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, DirBuilder},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::containerizer::TaskUser;

/// What looks into a container must know of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) has_image: bool,
    /// On the machine.
    pub(super) sandbox: PathBuf,
    /// As the container sees it.
    pub(super) sandbox_inside: PathBuf,
    pub(super) environment: BTreeMap<String, String>,
    /// User, group and all groups; none: the agent's.
    pub(super) user: Option<(u32, u32, Vec<u32>)>,
    pub(super) bounding_capabilities: Option<u64>,
    pub(super) ambient_capabilities: u64,
    pub(super) seccomp: bool,
    /// Of its own profile, in base64; none: the supervisor's filter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) seccomp_programs: Vec<String>,
    pub(super) no_new_privileges: bool,
    /// Whose network namespace it is in; none: the machine's.
    pub(super) network: Option<String>,
}

impl State {
    /// Keeps the programs of a profile, as it is when the container starts.
    pub(super) fn with_programs(self, programs: &[Bytes]) -> Self {
        let seccomp_programs = programs.iter().map(|program| STANDARD.encode(program)).collect();
        Self { seccomp_programs, ..self }
    }

    /// What was damaged since is empty: no process starts with it.
    pub(super) fn seccomp_programs(&self) -> Vec<Bytes> {
        let decode = |text: &String| STANDARD.decode(text).unwrap_or_default().into();
        self.seccomp_programs.iter().map(decode).collect()
    }

    pub(super) fn task_user(&self) -> Option<TaskUser> {
        let (uid, gid, groups) = self.user.clone()?;
        Some(TaskUser { name: uid.to_string(), uid, gid, groups })
    }

    /// Where in the container a path of the machine is seen.
    pub(super) fn inside(&self, path: &Path) -> Option<PathBuf> {
        if !self.has_image {
            return Some(path.to_owned());
        }
        // Joining nothing would leave a slash at the end.
        match path.strip_prefix(&self.sandbox).ok()? {
            rest if rest.as_os_str().is_empty() => Some(self.sandbox_inside.clone()),
            rest => Some(self.sandbox_inside.join(rest)),
        }
    }
}

/// The directories of all containers.
#[derive(Clone, Debug)]
pub(super) struct Directories {
    root: PathBuf,
}

impl Directories {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub(super) fn of(&self, container_id: &str) -> PathBuf {
        self.root.join(container_id)
    }

    /// Makes the directory of a container, with nothing in it.
    pub(super) fn make(&self, container_id: &str) -> Result<PathBuf, String> {
        let dir = self.of(container_id);
        let make = || -> io::Result<()> {
            // The task's user must not get to set-user-id programs of an image but through its container.
            DirBuilder::new().recursive(true).mode(0o700).create(&self.root)?;
            remove(&dir)?;
            fs::create_dir(&dir)
        };
        make().map_err(|error| format!("cannot make {}: {error}", dir.display()))?;
        Ok(dir)
    }

    pub(super) fn write(&self, container_id: &str, state: &State) -> Result<(), String> {
        let (path, new) = (self.file(container_id), self.of(container_id).join("state.new"));
        let write = || -> io::Result<()> {
            // Its variables may be secrets.
            let mut file =
                fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(&serde_json::to_vec(state)?)?;
            fs::rename(&new, &path)
        };
        write().map_err(|error| format!("cannot write {}: {error}", path.display()))
    }

    /// None: it is no container of this kind.
    pub(super) fn read(&self, container_id: &str) -> Option<State> {
        serde_json::from_slice(&fs::read(self.file(container_id)).ok()?).ok()
    }

    fn file(&self, container_id: &str) -> PathBuf {
        self.of(container_id).join("state")
    }

    pub(super) fn remove(&self, container_id: &str) -> Result<(), String> {
        let dir = self.of(container_id);
        remove(&dir).map_err(|error| format!("cannot remove {}: {error}", dir.display()))
    }

    /// Containers that have a directory.
    pub(super) fn all(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }
}

/// Removes a directory that a container wrote to. However deep it has nested others, each is taken to the top before it
/// goes: nothing grows with the depth here, neither stack nor open files nor paths.
fn remove(dir: &Path) -> io::Result<()> {
    let mut number = 0_u64;
    loop {
        let mut found = match fs::read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            found => found?.peekable(),
        };
        if found.peek().is_none() {
            return fs::remove_dir(dir);
        }
        for entry in found {
            let entry = entry?;
            if !entry.file_type()?.is_dir() {
                fs::remove_file(entry.path())?;
                continue;
            }
            for below in fs::read_dir(entry.path())? {
                let below = below?;
                match below.file_type()?.is_dir() {
                    false => fs::remove_file(below.path())?,
                    true => lift(&below.path(), dir, &mut number)?,
                }
            }
            fs::remove_dir(entry.path())?;
        }
    }
}

/// Gives a directory a name of its own at the top.
fn lift(path: &Path, top: &Path, number: &mut u64) -> io::Result<()> {
    loop {
        *number += 1;
        match fs::rename(path, top.join(format!(".removed-{number}"))) {
            // Left by an agent that was killed at this.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::DirectoryNotEmpty
                        | io::ErrorKind::AlreadyExists
                        | io::ErrorKind::NotADirectory
                ) => {}
            lifted => return lifted,
        }
    }
}

/// Whether an id may name a directory.
pub(super) fn check_id(container_id: &str) -> Result<(), String> {
    let dots = matches!(container_id, "" | "." | "..");
    match !dots && container_id.len() <= 255 && !container_id.contains(|c: char| c == '/' || c.is_control()) {
        true => Ok(()),
        false => Err(format!("'{container_id}' cannot be the id of a container with its own files")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_goes_with_the_container() {
        let dir = tempfile::tempdir().unwrap();
        let directories = Directories::new(dir.path().join("oci"));
        directories.make("c").unwrap();
        let state = State { has_image: true, network: Some("c".to_owned()), ..State::default() };
        directories.write("c", &state).unwrap();
        assert_eq!(directories.read("c"), Some(state));
        assert_eq!(directories.all(), BTreeSet::from(["c".to_owned()]));
        directories.make("c").unwrap();
        assert_eq!(directories.read("c"), None);
        directories.remove("c").unwrap();
        directories.remove("c").unwrap();
        assert!(directories.all().is_empty());
    }

    #[test]
    fn a_deep_tree_goes_as_any_other() {
        use nix::{
            fcntl::{OFlag, open, openat},
            sys::stat::{Mode, mkdirat},
        };
        let dir = tempfile::tempdir().unwrap();
        let directories = Directories::new(dir.path().join("oci"));
        let top = directories.make("deep").unwrap();
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut below = open(&top, flags, Mode::empty()).unwrap();
        for _ in 0..3_000 {
            // Names that are the same, and one that is used for those on their way out.
            mkdirat(&below, ".removed-1", Mode::S_IRWXU).unwrap();
            below = openat(&below, ".removed-1", flags, Mode::empty()).unwrap();
        }
        std::os::unix::fs::symlink("/", top.join("link")).unwrap();
        directories.remove("deep").unwrap();
        assert!(!top.exists());
    }

    #[test]
    fn ids_name_one_directory() {
        for bad in ["", ".", "..", "a/b", "a\0"] {
            assert!(check_id(bad).is_err(), "{bad}");
        }
        check_id("task-1.2_3:x.0a1b").unwrap();
    }

    #[test]
    fn paths_of_the_sandbox_are_seen_inside() {
        let state = State {
            has_image: true,
            sandbox: "/w/s".into(),
            sandbox_inside: "/mnt/mesos/sandbox".into(),
            ..State::default()
        };
        let inside = |path: &str| state.inside(Path::new(path));
        assert_eq!(inside("/w/s/containers/a"), Some("/mnt/mesos/sandbox/containers/a".into()));
        assert_eq!(inside("/w/s"), Some("/mnt/mesos/sandbox".into()));
        assert_eq!((inside("/w/sx"), inside("/etc")), (None, None));
        let machine = State { has_image: false, ..state.clone() };
        assert_eq!(machine.inside(Path::new("/etc")), Some("/etc".into()));
    }
}
