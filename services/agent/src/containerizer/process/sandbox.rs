//! Sandboxes and the users that own them.

use std::{
    ffi::CString,
    fs::{self, File, Permissions},
    io,
    os::unix::fs::{MetadataExt, PermissionsExt, chown, fchown, symlink},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, openat, readlinkat},
    sys::stat::Mode,
    unistd::{User, getgrouplist, symlinkat},
};

use crate::{
    beneath::Beneath,
    containerizer::{ContainerSpec, TaskUser, Within},
};

/// Looks a user up. May ask a directory service, so it may block.
pub(super) fn find_user(name: &str) -> Result<TaskUser, String> {
    let user =
        User::from_name(name).map_err(|error| format!("cannot look up user '{name}': {}", error.desc()))?;
    let user = user.ok_or_else(|| format!("user '{name}' does not exist on this node"))?;
    let c_name = CString::new(name).map_err(|error| format!("user '{name}': {error}"))?;
    let groups = getgrouplist(&c_name, user.gid).unwrap_or_else(|_| vec![user.gid]);
    let groups = groups.into_iter().map(nix::unistd::Gid::as_raw).collect();
    Ok(TaskUser { name: name.to_owned(), uid: user.uid.as_raw(), gid: user.gid.as_raw(), groups })
}

/// Makes the sandbox with empty `stdout` and `stderr`, owned by the task's user, and points `latest` at it.
pub(super) fn make(sandbox: &Path, user: Option<&TaskUser>) -> io::Result<()> {
    // A task's user may own what lies above: no step follows a link.
    let inside = sandbox.strip_prefix("/").map_err(|_| Errno::EINVAL)?;
    let above = Beneath::open(Path::new("/"), None)?;
    // The directories above may be removed with an older sandbox at the same moment.
    let made = above.directory(inside, 0o755).or_else(|_| above.directory(inside, 0o755))?;
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let directory = File::from(openat(&made, ".", flags, Mode::empty())?);
    directory.set_permissions(Permissions::from_mode(0o750))?;
    for name in ["stdout", "stderr"] {
        make_output(&directory, name, user)?;
    }
    if let Some(user) = user {
        fchown(&directory, Some(user.uid), Some(user.gid))?;
    }
    point_latest_at(sandbox)
}

/// Makes a file for output, the user's. One that is there already must be a file, and of this one name.
fn make_output(directory: &File, name: &str, user: Option<&TaskUser>) -> io::Result<()> {
    let flags = OFlag::O_WRONLY
        | OFlag::O_APPEND
        | OFlag::O_CREAT
        | OFlag::O_NOFOLLOW
        | OFlag::O_NONBLOCK
        | OFlag::O_CLOEXEC;
    let file = File::from(openat(directory, name, flags, Mode::from_bits_truncate(0o644))?);
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.nlink() != 1 {
        return Err(Errno::EINVAL.into());
    }
    user.map_or(Ok(()), |user| fchown(&file, Some(user.uid), Some(user.gid)))
}

/// Makes a persistent volume appear at `place` in the sandbox; it belongs to the task's user.
pub(super) fn link_volume(
    sandbox: &Path,
    (volume, place): (&Path, &Path),
    user: Option<&TaskUser>,
) -> io::Result<()> {
    fs::metadata(volume)?;
    if let Some(user) = user {
        chown(volume, Some(user.uid), Some(user.gid))?;
    }
    let name = place.file_name().ok_or(Errno::EINVAL)?;
    // The task's user may write there, so no link is followed.
    let owner = user.map(|user| (user.uid, user.gid));
    let parent = Beneath::open(sandbox, owner)?.directory(place.parent().unwrap_or(Path::new("")), 0o755)?;
    match readlinkat(&parent, name) {
        Ok(target) if Path::new(&target) == volume => Ok(()),
        _ => Ok(symlinkat(volume, &parent, name)?),
    }
}

/// Makes a sandbox that several containers share, with a link in it to the one of `own`.
pub(super) fn make_within(within: &Within, own: &Path, user: Option<&TaskUser>) -> io::Result<()> {
    make(&within.sandbox, user)?;
    let owner = user.map(|user| (user.uid, user.gid));
    let beneath = Beneath::open(&within.sandbox, owner)?;
    if let Ok(inside) = own.strip_prefix(&within.sandbox) {
        beneath.directory(inside.parent().unwrap_or(Path::new("")), 0o755)?;
        let up: PathBuf = within.link.components().skip(1).map(|_| "..").collect();
        beneath.symlink(&within.link, &up.join(inside))?;
    }
    Ok(())
}

/// Makes a directory of the shared sandbox appear in the container's own.
pub(super) fn share(
    spec: &ContainerSpec,
    path: &Path,
    place: &Path,
    user: Option<&TaskUser>,
) -> io::Result<()> {
    let Some(within) = &spec.within else { return Ok(()) };
    let owner = user.map(|user| (user.uid, user.gid));
    Beneath::open(&within.sandbox, owner)?.directory(path, 0o755)?;
    Beneath::open(&spec.sandbox, owner)?.symlink(place, &within.sandbox.join(path))
}

/// `runs/latest` leads to the newest run.
fn point_latest_at(sandbox: &Path) -> io::Result<()> {
    let (Some(runs), Some(name)) = (sandbox.parent(), sandbox.file_name()) else { return Ok(()) };
    if !runs.ends_with("runs") {
        return Ok(());
    }
    // Containers that share a sandbox come here at the same time.
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let new = runs.join(format!("latest.{}.{number}", name.to_string_lossy()));
    // Left behind by an agent before this one.
    let _ = fs::remove_file(&new);
    symlink(name, &new)?;
    fs::rename(&new, runs.join("latest"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latest_leads_to_the_newest_run() {
        let dir = tempfile::tempdir().unwrap();
        let runs = dir.path().join("executors/e/runs");
        for run in ["one", "two"] {
            make(&runs.join(run), None).unwrap();
            assert_eq!(
                fs::canonicalize(runs.join("latest")).unwrap(),
                fs::canonicalize(runs.join(run)).unwrap()
            );
        }
        assert_eq!(fs::metadata(runs.join("two")).unwrap().permissions().mode() & 0o777, 0o750);
        assert!(runs.join("two/stdout").exists() && runs.join("two/stderr").exists());
    }

    #[test]
    fn containers_that_share_a_sandbox_make_it_at_the_same_time() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("executors/e/runs/one");
        std::thread::scope(|scope| {
            let makers: Vec<_> =
                (0..4).map(|_| scope.spawn(|| (0..200).try_for_each(|_| make(&run, None)))).collect();
            makers.into_iter().for_each(|maker| maker.join().unwrap().unwrap());
        });
        assert_eq!(fs::read_dir(run.parent().unwrap()).unwrap().count(), 2);
    }

    #[test]
    fn what_a_tasks_user_put_in_the_way_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (sandbox, outside) = (dir.path().join("sandbox"), dir.path().join("outside"));
        for path in [&sandbox, &outside] {
            fs::create_dir(path).unwrap();
            fs::set_permissions(path, Permissions::from_mode(0o700)).unwrap();
        }
        let precious = outside.join("precious");
        fs::write(&precious, "as it was").unwrap();
        symlink(&outside, sandbox.join("containers")).unwrap();
        assert!(make(&sandbox.join("containers/deeper"), None).is_err());
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        symlink(&precious, sandbox.join("stdout")).unwrap();
        assert!(make(&sandbox, None).is_err());
        fs::remove_file(sandbox.join("stdout")).unwrap();
        fs::hard_link(&precious, sandbox.join("stdout")).unwrap();
        assert!(make(&sandbox, None).is_err());
        fs::remove_file(sandbox.join("stdout")).unwrap();
        nix::unistd::mkfifo(&sandbox.join("stdout"), Mode::S_IRWXU).unwrap();
        assert!(make(&sandbox, None).is_err());
        assert_eq!(fs::read_to_string(precious).unwrap(), "as it was");
        assert_eq!(fs::metadata(outside).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_volume_appears_in_the_sandbox_and_no_link_leads_out_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let (sandbox, volume, outside) =
            (dir.path().join("sandbox"), dir.path().join("volume"), dir.path().join("outside"));
        for path in [&sandbox, &volume, &outside] {
            fs::create_dir(path).unwrap();
        }
        for _ in 0..2 {
            link_volume(&sandbox, (&volume, Path::new("some/where/data")), None).unwrap();
        }
        assert_eq!(fs::read_link(sandbox.join("some/where/data")).unwrap(), volume);
        assert!(link_volume(&sandbox, (&outside, Path::new("some/where/data")), None).is_err());
        symlink(&outside, sandbox.join("trap")).unwrap();
        for place in ["trap/data", "trap/deeper/data", "some/../data", "/outside/data", ""] {
            assert!(link_volume(&sandbox, (&volume, Path::new(place)), None).is_err(), "{place}");
        }
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    }

    #[test]
    fn containers_share_a_sandbox_and_what_lies_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let shared = dir.path().join("runs/pod");
        for name in ["a", "b"] {
            let sandbox = shared.join("containers").join(name);
            let within = Within {
                sandbox: shared.clone(),
                link: Path::new("tasks").join(name),
                shared: vec![(PathBuf::from("common/data"), PathBuf::from("shared"))],
            };
            let spec = ContainerSpec {
                sandbox: sandbox.clone(),
                within: Some(within.clone()),
                ..Default::default()
            };
            make_within(&within, &sandbox, None).unwrap();
            make(&sandbox, None).unwrap();
            for (path, place) in &within.shared {
                share(&spec, path, place, None).unwrap();
            }
            fs::write(sandbox.join("shared").join(name), "mine").unwrap();
        }
        for path in ["tasks/a/shared/b", "containers/b/shared/a", "common/data/a", "tasks/b/stdout"] {
            assert!(shared.join(path).is_file(), "{path}");
        }
        assert_eq!(
            fs::canonicalize(dir.path().join("runs/latest")).unwrap(),
            fs::canonicalize(&shared).unwrap()
        );
    }

    #[test]
    fn an_unknown_user_is_named() {
        assert_eq!(find_user("no-such-user").unwrap_err(), "user 'no-such-user' does not exist on this node");
        assert_eq!(find_user("root").unwrap().uid, 0);
    }
}
