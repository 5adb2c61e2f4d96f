//! Output that grows without end: what a task wrote becomes `stdout.1`, `stdout.2`, …, and its file begins anew.
//!
//! The task has its file open, so the file stays the same: its content is copied, then cut off at its beginning. File
//! systems that can drop a range (ext4, xfs) lose nothing of what the task writes meanwhile; on others what is written
//! between the last look and the cut is lost, a matter of microseconds.

use std::{
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
    /// Looks after both files of a sandbox; whether one was rotated.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn apply(&self, sandbox: &Path) -> io::Result<bool> {
        let stdout = rotate(sandbox, "stdout", (self.max_stdout, self.keep_stdout))?;
        let stderr = rotate(sandbox, "stderr", (self.max_stderr, self.keep_stderr))?;
        Ok(stdout || stderr)
    }
}

fn rotate(sandbox: &Path, name: &str, (max, keep): (u64, u32)) -> io::Result<bool> {
    // The usual case costs one call.
    match sandbox.join(name).symlink_metadata() {
        Ok(metadata) if max > 0 && metadata.is_file() && metadata.len() > max => {}
        _ => return Ok(false),
    }
    let beneath = Beneath::open(sandbox, None)?;
    let file = beneath.write(Path::new(name))?;
    let metadata = file.metadata()?;
    // A second name of somebody else's file is not the task's to be cut.
    if metadata.nlink() != 1 {
        return Ok(false);
    }
    let beneath = Beneath::open(sandbox, Some((metadata.uid(), metadata.gid())))?;
    let old = |number: u32| PathBuf::from(format!("{name}.{number}"));
    for number in (1..keep).rev() {
        beneath.rename(&old(number), &old(number + 1))?;
    }
    let copy = if keep > 0 { Some(beneath.create(&old(1), 0o644)?) } else { None };
    cut(file, copy, metadata.blksize())?;
    Ok(true)
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
        assert!(!RULES.apply(dir).unwrap(), "it is small");
        written += &write(100..2000);
        assert!(RULES.apply(dir).unwrap());
        written += &write(2000..4000);
        assert!(RULES.apply(dir).unwrap());
        written += &write(4000..4010);
        assert_eq!(["stdout.2", "stdout.1", "stdout"].map(|name| read(dir, name)).concat(), written);
        assert!(read(dir, "stdout").len() < 10_000);
        written += &write(5000..7000);
        assert!(RULES.apply(dir).unwrap());
        assert!(!dir.join("stdout.3").exists(), "the oldest is gone");
        assert!(written.ends_with(&["stdout.2", "stdout.1", "stdout"].map(|name| read(dir, name)).concat()));
    }

    #[test]
    fn nothing_may_be_kept() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("stdout"), "x".repeat(20_000)).unwrap();
        assert!(Rotation { keep_stdout: 0, ..RULES }.apply(dir.path()).unwrap());
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
        assert!(!RULES.apply(&sandbox).unwrap());
        fs::remove_file(sandbox.join("stdout")).unwrap();
        fs::hard_link(&precious, sandbox.join("stdout")).unwrap();
        assert!(!RULES.apply(&sandbox).unwrap());
        fs::remove_file(sandbox.join("stdout")).unwrap();
        // Links in the way of the old files are replaced.
        fs::write(sandbox.join("stdout"), "x".repeat(20_000)).unwrap();
        symlink(&precious, sandbox.join("stdout.1")).unwrap();
        assert!(RULES.apply(&sandbox).unwrap());
        assert_eq!(fs::read_to_string(&precious).unwrap(), "p".repeat(20_000));
    }
}
