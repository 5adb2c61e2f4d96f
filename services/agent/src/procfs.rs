//! What `/proc` tells about processes.

use std::collections::BTreeSet;

/// Fields of `/proc/<pid>/stat` from the third on: the name before may hold anything, but ends with the last `)`.
fn stat_fields(pid: i32) -> Option<Vec<String>> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}

fn field<T: std::str::FromStr>(fields: &[String], number: usize) -> Option<T> {
    fields.get(number - 3)?.parse().ok()
}

/// When the process started, in the kernel's ticks since boot.
pub(crate) fn start_time(pid: i32) -> Option<u64> {
    field(&stat_fields(pid)?, 22)
}

/// Process id of the parent.
pub(crate) fn parent(pid: i32) -> Option<i32> {
    field(&stat_fields(pid)?, 4)
}

/// User ticks, system ticks and resident pages of one process.
pub(crate) fn usage(pid: i32) -> Option<(u64, u64, u64)> {
    let fields = stat_fields(pid)?;
    Some((field(&fields, 14)?, field(&fields, 15)?, field(&fields, 24)?))
}

/// Adds all processes below `pid`, as far as the kernel tells (`CONFIG_PROC_CHILDREN`).
pub(crate) fn descendants(pid: i32, found: &mut BTreeSet<i32>) {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return };
    for thread in threads.flatten() {
        for child in pids_in(&thread.path().join("children").to_string_lossy()) {
            if found.insert(child) {
                descendants(child, found);
            }
        }
    }
}

/// The process ids that a file lists (`children`, `cgroup.procs`).
pub(crate) fn pids_in(path: &str) -> Vec<i32> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Changes with every boot of the machine.
pub(crate) fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// What became of a signal that was sent to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The process handles or ignores it, or does not live; or the kernel carries it out.
    Heard,
    /// The process blocks it for now.
    Waits,
    /// The kernel threw it away: the first process of a namespace gets only what it handles.
    Lost,
}

/// The fate of a signal that was sent just now, or a while ago.
pub(crate) fn fate(pid: i32, signal: i32) -> Fate {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    fate_by(&status, signal)
}

fn fate_by(status: &str, signal: i32) -> Fate {
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
    let bit = u32::try_from(signal - 1).ok().and_then(|bit| 1_u64.checked_shl(bit)).unwrap_or_default();
    let is_in = |set: &str| u64::from_str_radix(field(set), 16).unwrap_or_default() & bit != 0;
    let pids: Vec<_> = field("NSpid:").split_whitespace().collect();
    let is_first = pids.len() > 1 && pids.last() == Some(&"1");
    if !is_first || is_in("SigIgn:") || is_in("SigCgt:") {
        return Fate::Heard;
    }
    // Blocked and not pending: the process has waited for it, or blocks it since the kernel threw it away. One that waits
    // for signals blocks them for good.
    if is_in("SigBlk:") { Fate::Waits } else { Fate::Lost }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_process_of_a_namespace_loses_what_it_does_not_handle() {
        let status = |pids: &str, blocked: &str, caught: &str| {
            format!("NSpid:\t{pids}\nSigBlk:\t{blocked}\nSigIgn:\t0\nSigCgt:\t{caught}\n")
        };
        let fate = |status: String| fate_by(&status, 15);
        assert_eq!(fate(status("812\t1", "0", "0000000000000002")), Fate::Lost);
        assert_eq!(fate(status("812\t1", "0", "0000000000004002")), Fate::Heard);
        assert_eq!(fate(status("812\t1", "4000", "0")), Fate::Waits);
        assert_eq!(fate(status("1", "0", "0")), Fate::Heard);
        assert_eq!(fate(status("9\t4", "0", "0")), Fate::Heard);
        assert_eq!(fate(String::new()), Fate::Heard);
    }
}
