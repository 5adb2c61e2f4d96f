//! Output that grows without end: what a task wrote becomes `stdout.1`, `stdout.2`, …, and its file begins anew.
//!
//! The task has its file open, so the file stays the same: its content is copied, then cut off at its beginning. File
//! systems that can drop a range (ext4, xfs) lose nothing of what the task writes meanwhile; on others what is written
//! between the last look and the cut is lost, a matter of microseconds.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{FallocateFlags, fallocate},
    libc::off_t,
};

use crate::beneath::Beneath;

/// A sandbox whose files stay as they are is looked at in every round whose number has so many zeros at its binary end.
const RAREST: u32 = 2;

/// Which files, and how large they may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Bytes; 0: never.
    pub max_stdout: u64,
    pub max_stderr: u64,
    /// How many old files of each are kept.
    pub keep_stdout: u32,
    pub keep_stderr: u32,
}

impl Rotation {
    /// Looks after both files of a sandbox; their sizes before.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn apply(&self, sandbox: &Path) -> io::Result<[u64; 2]> {
        let stdout = rotate(sandbox, "stdout", (self.max_stdout, self.keep_stdout))?;
        let stderr = rotate(sandbox, "stderr", (self.max_stderr, self.keep_stderr))?;
        Ok([stdout, stderr])
    }
}

/// Which sandboxes are worth a look: those whose files stay as they are, only now and then.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    round: u64,
    /// Sizes at the last look, and how often they were the same.
    seen: BTreeMap<PathBuf, ([u64; 2], u32)>,
}

impl Looks {
    /// The next round begins; others than these sandboxes are forgotten.
    pub(crate) fn begin(&mut self, live: &BTreeSet<&Path>) {
        self.round += 1;
        self.seen.retain(|sandbox, _| live.contains(sandbox.as_path()));
    }

    /// Lets the next round pass when it is nobody's turn, so that an agent whose tasks are quiet is not woken. A sandbox
    /// that came meanwhile has its first look with the others'.
    pub(crate) fn pass(&mut self) -> bool {
        let next = self.round + 1;
        let quiet = !self.seen.is_empty() && self.seen.values().all(|(_, quiet)| *quiet >= RAREST);
        let passes = quiet && !next.is_multiple_of(1 << RAREST);
        if passes {
            self.round = next;
        }
        passes
    }

    /// Whether it is this sandbox's turn: in each round, in every second, or in every fourth.
    pub(crate) fn is_due(&self, sandbox: &Path) -> bool {
        let quiet = self.seen.get(sandbox).map_or(0, |(_, quiet)| *quiet);
        self.round.is_multiple_of(1 << quiet.min(RAREST))
    }

    pub(crate) fn saw(&mut self, sandbox: &Path, sizes: [u64; 2]) {
        match self.seen.get_mut(sandbox) {
            Some((before, quiet)) if *before == sizes => *quiet += 1,
            Some(seen) => *seen = (sizes, 0),
            None => drop(self.seen.insert(sandbox.to_owned(), (sizes, 0))),
        }
    }
}

fn rotate(sandbox: &Path, name: &str, (max, keep): (u64, u32)) -> io::Result<u64> {
    // The usual case costs one call.
    let size = match sandbox.join(name).symlink_metadata() {
        Ok(metadata) if max > 0 && metadata.is_file() && metadata.len() > max => metadata.len(),
        Ok(metadata) => return Ok(metadata.len()),
        Err(_) => return Ok(0),
    };
    let beneath = Beneath::open(sandbox, None)?;
    let file = beneath.write(Path::new(name))?;
    let metadata = file.metadata()?;
    // A second name of somebody else's file is not the task's to be cut.
    if metadata.nlink() != 1 {
        return Ok(size);
    }
    let beneath = Beneath::open(sandbox, Some((metadata.uid(), metadata.gid())))?;
    let old = |number: u32| PathBuf::from(format!("{name}.{number}"));
    for number in (1..keep).rev() {
        beneath.rename(&old(number), &old(number + 1))?;
    }
    let copy = if keep > 0 { Some(beneath.create(&old(1), 0o644)?) } else { None };
    cut(file, copy, metadata.blksize())?;
    Ok(size)
}

/// Moves what is in a file to another one, or away.
fn cut(mut file: File, mut copy: Option<File>, block: u64) -> io::Result<()> {
    let size = file.metadata()?.len();
    // Only whole blocks can be dropped, and not the last one.
    let whole = size.saturating_sub(1) / block.max(1) * block.max(1);
    file.seek(SeekFrom::Start(0))?;
    take(&mut file, copy.as_mut(), whole)?;
    let length = off_t::try_from(whole).unwrap_or(0);
    if length > 0 && fallocate(&file, FallocateFlags::FALLOC_FL_COLLAPSE_RANGE, 0, length).is_ok() {
        return Ok(());
    }
    // The rest, up to where the task is now.
    loop {
        let at = file.stream_position()?;
        let end = file.metadata()?.len();
        if at >= end {
            return file.set_len(0);
        }
        take(&mut file, copy.as_mut(), end - at)?;
    }
}

fn take(from: &mut File, to: Option<&mut File>, count: u64) -> io::Result<()> {
    match to {
        Some(to) => io::copy(&mut from.take(count), to).map(drop),
        None => from.seek_relative(i64::try_from(count).unwrap_or(i64::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, OpenOptions},
        io::Write,
        os::unix::fs::symlink,
    };

    use super::*;

    const RULES: Rotation = Rotation { max_stdout: 10_000, max_stderr: 0, keep_stdout: 2, keep_stderr: 2 };

    fn read(dir: &Path, name: &str) -> String {
        fs::read_to_string(dir.join(name)).unwrap_or_default()
    }

    /// Whether `stdout` was shorter afterwards.
    fn rotated(dir: &Path, rules: Rotation) -> bool {
        let before = rules.apply(dir).unwrap()[0];
        fs::metadata(dir.join("stdout")).unwrap().len() < before
    }

    #[test]
    fn what_stays_as_it_is_is_looked_at_less_often() {
        let (busy, quiet) = (Path::new("/busy"), Path::new("/quiet"));
        let mut looks = Looks::default();
        let (mut at_busy, mut at_quiet) = (vec![], vec![]);
        for round in 1..=16_u64 {
            looks.begin(&BTreeSet::from([busy, quiet]));
            if looks.is_due(busy) {
                looks.saw(busy, [round, 0]);
                at_busy.push(round);
            }
            if looks.is_due(quiet) {
                // It writes once, late.
                looks.saw(quiet, [u64::from(round >= 12), 0]);
                at_quiet.push(round);
            }
        }
        assert_eq!(at_busy, (1..=16).collect::<Vec<_>>());
        assert_eq!(at_quiet, [1, 2, 4, 8, 12, 13, 14, 16]);
        looks.begin(&BTreeSet::from([busy]));
        assert_eq!(looks.seen.len(), 1);
    }

    #[test]
    fn rounds_pass_while_all_are_quiet_and_not_before() {
        let (old, new) = (Path::new("/old"), Path::new("/new"));
        let (mut looks, mut passed) = (Looks::default(), vec![]);
        for round in 1..=16_u64 {
            if looks.pass() {
                passed.push(round);
                continue;
            }
            // Another one comes in the thirteenth round, and writes ever after.
            let live: BTreeSet<_> = if round < 13 { [old].into() } else { [old, new].into() };
            looks.begin(&live);
            for sandbox in live.into_iter().filter(|sandbox| looks.is_due(sandbox)).collect::<Vec<_>>() {
                looks.saw(sandbox, [if sandbox == new { round } else { 0 }, 0]);
            }
        }
        assert_eq!(passed, [5, 6, 7, 9, 10, 11, 13, 14, 15]);
        assert!(!looks.pass(), "one of them writes");
        assert!(!Looks::default().pass(), "the first task is seen at once");
    }

    #[test]
    fn nothing_is_lost_while_enough_files_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        // As the task has it.
        let mut stdout = OpenOptions::new().create(true).append(true).open(dir.join("stdout")).unwrap();
        let mut written = String::new();
        let mut write = |lines: std::ops::Range<u32>| {
            let text: String = lines.map(|line| format!("line {line}\n")).collect();
            stdout.write_all(text.as_bytes()).unwrap();
            text
        };
        written += &write(0..100);
        assert!(!rotated(dir, RULES), "it is small");
        written += &write(100..2000);
        assert!(rotated(dir, RULES));
        written += &write(2000..4000);
        assert!(rotated(dir, RULES));
        written += &write(4000..4010);
        assert_eq!(["stdout.2", "stdout.1", "stdout"].map(|name| read(dir, name)).concat(), written);
        assert!(read(dir, "stdout").len() < 10_000);
        written += &write(5000..7000);
        assert!(rotated(dir, RULES));
        assert!(!dir.join("stdout.3").exists(), "the oldest is gone");
        assert!(written.ends_with(&["stdout.2", "stdout.1", "stdout"].map(|name| read(dir, name)).concat()));
    }

    #[test]
    fn nothing_may_be_kept() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("stdout"), "x".repeat(20_000)).unwrap();
        assert!(rotated(dir.path(), Rotation { keep_stdout: 0, ..RULES }));
        assert!(read(dir.path(), "stdout").len() <= 4096);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn files_of_others_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let precious = dir.path().join("precious");
        let sandbox = dir.path().join("sandbox");
        fs::create_dir(&sandbox).unwrap();
        fs::write(&precious, "p".repeat(20_000)).unwrap();
        symlink(&precious, sandbox.join("stdout")).unwrap();
        assert!(!rotated(&sandbox, RULES));
        fs::remove_file(sandbox.join("stdout")).unwrap();
        fs::hard_link(&precious, sandbox.join("stdout")).unwrap();
        assert!(!rotated(&sandbox, RULES));
        fs::remove_file(sandbox.join("stdout")).unwrap();
        // Links in the way of the old files are replaced.
        fs::write(sandbox.join("stdout"), "x".repeat(20_000)).unwrap();
        symlink(&precious, sandbox.join("stdout.1")).unwrap();
        assert!(rotated(&sandbox, RULES));
        assert_eq!(fs::read_to_string(&precious).unwrap(), "p".repeat(20_000));
    }
}
