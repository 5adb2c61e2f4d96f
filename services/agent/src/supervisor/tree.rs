//! Signals to everything that a task has started.

use std::{collections::BTreeSet, fs::OpenOptions, io::Write, path::Path};

use nix::{
    errno::Errno,
    sys::signal::{Signal, kill, killpg},
    unistd::{Pid, getpgid},
};

use crate::procfs::{self, Fate, descendants, pids_in};

/// What is killed while it goes on starting processes is looked at so often.
const PASSES: usize = 100;

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
    let members = cgroup_procs.first();
    others.extend(members.into_iter().flat_map(|members| pids_in(members)));
    let group = killpg(leader, signal);
    let mut reached = group.is_ok();
    for pid in &others {
        reached |= signal_outside(*pid, leader, signal);
    }
    if let Some(members) = members.filter(|_| signal == Signal::SIGKILL) {
        kill_all(members, others);
    }
    if reached { Ok(()) } else { group.map_err(|_| Errno::ESRCH) }
}

fn signal_outside(pid: i32, leader: Pid, signal: Signal) -> bool {
    let pid = Pid::from_raw(pid);
    getpgid(Some(pid)).is_ok_and(|group| group != leader) && kill(pid, signal).is_ok()
}

/// Members of a cgroup that were started meanwhile: the kernel kills all at once where it can (version 2 since Linux
/// 5.14), else until no new one is found.
fn kill_all(members: &str, mut seen: BTreeSet<i32>) {
    let at_once = OpenOptions::new().write(true).open(Path::new(members).with_file_name("cgroup.kill"));
    if at_once.and_then(|mut file| file.write_all(b"1")).is_ok() {
        return;
    }
    for _ in 0..PASSES {
        let new: Vec<_> = pids_in(members).into_iter().filter(|pid| seen.insert(*pid)).collect();
        if new.is_empty() {
            return;
        }
        for pid in new {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// The fate of a signal that ends a process that does nothing about it. The first process of a namespace is not ended
/// by the kernel; anywhere else the same program is.
pub(super) fn fate(leader: Pid, signal: i32) -> Fate {
    let harmless = [
        Signal::SIGCHLD,
        Signal::SIGCONT,
        Signal::SIGSTOP,
        Signal::SIGTSTP,
        Signal::SIGTTIN,
        Signal::SIGTTOU,
        Signal::SIGURG,
        Signal::SIGWINCH,
        Signal::SIGKILL,
    ];
    match Signal::try_from(signal) {
        Ok(number) if !harmless.contains(&number) => procfs::fate(leader.as_raw(), signal),
        _ => Fate::Heard,
    }
}
