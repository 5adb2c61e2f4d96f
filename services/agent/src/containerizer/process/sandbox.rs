//! Sandboxes and the users that own them.

use std::{
    ffi::CString,
    fs::{self, OpenOptions, Permissions},
    io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt, chown, symlink},
    path::Path,
};

use nix::unistd::{User, getgrouplist};

use crate::containerizer::output_paths;

/// A user of this machine.
#[derive(Clone, Debug)]
pub(super) struct TaskUser {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
}

/// Looks a user up. May ask a directory service, so it may block.
pub(super) fn find_user(name: &str) -> Result<TaskUser, String> {
    let user =
        User::from_name(name).map_err(|error| format!("cannot look up user '{name}': {}", error.desc()))?;
    let user = user.ok_or_else(|| format!("user '{name}' does not exist on this node"))?;
    let c_name = CString::new(name).map_err(|error| format!("user '{name}': {error}"))?;
    let groups = getgrouplist(&c_name, user.gid).unwrap_or_else(|_| vec![user.gid]);
    let groups = groups.into_iter().map(nix::unistd::Gid::as_raw).collect();
    Ok(TaskUser { uid: user.uid.as_raw(), gid: user.gid.as_raw(), groups })
}

/// Makes the sandbox with empty `stdout` and `stderr`, owned by the task's user, and points `latest` at it.
pub(super) fn make(sandbox: &Path, user: Option<&TaskUser>) -> io::Result<()> {
    fs::create_dir_all(sandbox)?;
    fs::set_permissions(sandbox, Permissions::from_mode(0o750))?;
    let (stdout, stderr) = output_paths(sandbox);
    for path in [&stdout, &stderr] {
        OpenOptions::new().create(true).append(true).mode(0o644).open(path)?;
    }
    if let Some(user) = user {
        for path in [sandbox, &stdout, &stderr] {
            chown(path, Some(user.uid), Some(user.gid))?;
        }
    }
    point_latest_at(sandbox)
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
    let link = sandbox.join(place);
    if let Some(parent) = link.parent() {
        fs::create_dir_all(parent)?;
    }
    match fs::read_link(&link) {
        Ok(target) if target == volume => Ok(()),
        _ => symlink(volume, link),
    }
}

/// `runs/latest` leads to the newest run.
fn point_latest_at(sandbox: &Path) -> io::Result<()> {
    let (Some(runs), Some(name)) = (sandbox.parent(), sandbox.file_name()) else { return Ok(()) };
    if !runs.ends_with("runs") {
        return Ok(());
    }
    let new = runs.join(format!("latest.{}", name.to_string_lossy()));
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
    fn an_unknown_user_is_named() {
        assert_eq!(find_user("no-such-user").unwrap_err(), "user 'no-such-user' does not exist on this node");
        assert_eq!(find_user("root").unwrap().uid, 0);
    }
}
