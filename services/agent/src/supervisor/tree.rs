//! Signals to everything that a task has started.

use std::collections::BTreeSet;

use nix::{
    errno::Errno,
    sys::signal::{Signal, kill, killpg},
    unistd::{Pid, getpgid},
};

use crate::procfs::{descendants, pids_in};

/// Sends a signal to the process group of `leader`, to its descendants that left the group, and to the members
/// of its cgroup.
///
/// # Errors
/// EINVAL for a number that is no signal; ESRCH when nothing was there to receive it.
pub(super) fn signal(leader: Pid, cgroup_procs: &[String], signal: i32) -> nix::Result<()> {
    let signal = Signal::try_from(signal)?;
    let mut others = BTreeSet::new();
    descendants(leader.as_raw(), &mut others);
    // All of v1's hierarchies have the same members.
    if let Some(members) = cgroup_procs.first() {
        others.extend(pids_in(members));
    }
    let group = killpg(leader, signal);
    let mut reached = group.is_ok();
    for pid in others {
        let pid = Pid::from_raw(pid);
        if getpgid(Some(pid)).is_ok_and(|group| group != leader) {
            reached |= kill(pid, signal).is_ok();
        }
    }
    if reached { Ok(()) } else { group.map_err(|_| Errno::ESRCH) }
}
