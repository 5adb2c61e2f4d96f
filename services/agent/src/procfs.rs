//! What `/proc` tells about processes.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read},
};

/// Longer than any `/proc/<pid>/stat`: some fifty numbers.
const STAT: usize = 2048;

/// `/proc/<pid>/stat`.
struct Stat([u8; STAT], usize);

impl Stat {
    /// In one read, as the kernel gives it; many are read at once.
    fn read(pid: i32) -> Option<Self> {
        let mut bytes = [0; STAT];
        let length = File::open(format!("/proc/{pid}/stat")).ok()?.read(&mut bytes).ok()?;
        Some(Self(bytes, length))
    }

    /// From the third one on: the name before may hold anything, but ends with the last `)`.
    fn fields(&self) -> Option<impl Iterator<Item = &str>> {
        let text = self.0.get(..self.1)?;
        let after_name = text.iter().rposition(|byte| *byte == b')')? + 1;
        Some(str::from_utf8(text.get(after_name..)?).ok()?.split_ascii_whitespace())
    }

    fn field<T: std::str::FromStr>(&self, number: usize) -> Option<T> {
        self.fields()?.nth(number - 3)?.parse().ok()
    }
}

/// When the process started, in the kernel's ticks since boot.
pub(crate) fn start_time(pid: i32) -> Option<u64> {
    Stat::read(pid)?.field(22)
}

/// Process id of the parent.
pub(crate) fn parent(pid: i32) -> Option<i32> {
    Stat::read(pid)?.field(4)
}

/// What one process has used and uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProcessUsage {
    pub(crate) user_ticks: u64,
    pub(crate) system_ticks: u64,
    pub(crate) threads: u64,
    pub(crate) resident_pages: u64,
}

/// Of one process.
pub(crate) fn usage(pid: i32) -> Option<ProcessUsage> {
    let stat = Stat::read(pid)?;
    // Fields 14, 15, 20 and 24.
    let mut fields = stat.fields()?.skip(11);
    let mut next = |skipped: usize| fields.nth(skipped)?.parse().ok();
    Some(ProcessUsage {
        user_ticks: next(0)?,
        system_ticks: next(0)?,
        threads: next(4)?,
        resident_pages: next(3)?,
    })
}

/// Adds all processes below `pid`, as far as the kernel tells (`CONFIG_PROC_CHILDREN`).
pub(crate) fn descendants(pid: i32, found: &mut BTreeSet<i32>) {
    for child in children(pid, None) {
        if found.insert(child) {
            descendants(child, found);
        }
    }
}

/// The children of a process. Those of one that is known to have a single thread stand in one file.
pub(crate) fn children(pid: i32, threads: Option<u64>) -> Vec<i32> {
    if threads == Some(1) {
        return pids_in(&format!("/proc/{pid}/task/{pid}/children"));
    }
    let of_threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    of_threads.flat_map(|thread| pids_in(&thread.path().join("children").to_string_lossy())).collect()
}

/// The process ids that a file lists (`children`, `cgroup.procs`).
pub(crate) fn pids_in(path: &str) -> Vec<i32> {
    let text = read_whole(path).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Without asking for the size first, which no file of the kernel has.
fn read_whole(path: &str) -> io::Result<String> {
    let (mut file, mut text) = (File::open(path)?, Vec::new());
    let mut part = [0; 1024];
    loop {
        match file.read(&mut part)? {
            0 => return String::from_utf8(text).map_err(io::Error::other),
            count => text.extend_from_slice(part.get(..count).unwrap_or_default()),
        }
    }
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
    fn this_process_is_found_with_its_threads_and_children() {
        let own = i32::try_from(std::process::id()).unwrap();
        let (stop, wait) = std::sync::mpsc::channel::<()>();
        let (tell, told) = std::sync::mpsc::channel();
        // A child of another thread than the first.
        let thread = std::thread::spawn(move || {
            let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
            tell.send(i32::try_from(child.id()).unwrap()).unwrap();
            let _ = wait.recv();
            child.kill().unwrap();
            child.wait().unwrap();
        });
        let child = told.recv().unwrap();
        let usage = usage(own).unwrap();
        assert!(usage.threads > 1 && usage.resident_pages > 100, "{usage:?}");
        assert!(children(own, Some(usage.threads)).contains(&child));
        assert_eq!(parent(child), Some(own));
        assert_eq!(super::usage(child).map(|usage| usage.threads), Some(1));
        assert_eq!(children(child, Some(1)), Vec::<i32>::new());
        assert!(start_time(child) >= start_time(own));
        drop(stop);
        thread.join().unwrap();
        assert_eq!(super::usage(child), None);
    }

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
