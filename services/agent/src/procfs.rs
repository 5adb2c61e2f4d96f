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
