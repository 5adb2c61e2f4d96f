//! The sandbox's files, and how much got there.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
};

use super::{
    Source,
    place::{Entry, Place, Skip},
};
use crate::beneath::Beneath;

/// Time, count, bytes after them, length of the file, length of what is written: eight bytes each.
const RECORD: usize = 40;

/// Both files of a sandbox.
#[derive(Debug)]
pub(super) struct Sink {
    pub(super) stdout: Stream,
    pub(super) stderr: Stream,
}

impl Sink {
    pub(super) fn open(source: &Source) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let journal = options.read(true).write(true).create(true).truncate(false).open(&source.journal)?;
        let stdout = Stream::open(source, "stdout", (journal.try_clone()?, 0))?;
        let stderr = Stream::open(source, "stderr", (journal, RECORD as u64))?;
        Ok(Self { stdout, stderr })
    }

    /// From when on the log is to be read, in seconds.
    pub(super) fn since(&self) -> i32 {
        let oldest = self.stdout.place.time.min(self.stderr.place.time) / 1_000_000_000;
        i32::try_from(oldest).unwrap_or_default()
    }
}

#[derive(Debug)]
pub(super) struct Stream {
    file: File,
    journal: File,
    /// Where its record is in the journal.
    at: u64,
    place: Place,
    skip: Skip,
    terminal: bool,
}

impl Stream {
    fn open(source: &Source, name: &str, (journal, at): (File, u64)) -> io::Result<Self> {
        let file = open_output(&source.sandbox, name)?;
        let record = Record::read(&journal, at)?;
        let (place, skip) = record.place.resume(record.written(file.metadata()?.len()), source.terminal);
        Ok(Self { file, journal, at, place, skip, terminal: source.terminal })
    }

    /// Bytes in the file that lie after the place.
    fn behind(&self) -> u64 {
        // A terminal's place is exact.
        if self.terminal { 0 } else { self.skip.bytes() }
    }

    /// Writes what is new of these entries.
    pub(super) fn take(&mut self, entries: Vec<Entry>) -> io::Result<()> {
        let mut text = Vec::new();
        let (mut after, behind) = (self.place, self.behind());
        for entry in entries {
            if let Some(rest) = self.skip.rest(entry) {
                text.extend_from_slice(&rest.text);
                after.pass(&rest);
            }
        }
        if text.is_empty() {
            self.place = after;
            return Ok(());
        }
        let length = self.file.metadata()?.len();
        let record = Record { place: self.place, behind, length, more: text.len() as u64 };
        record.write(&self.journal, self.at)?;
        self.file.write_all(&text)?;
        self.place = after;
        Ok(())
    }
}

/// What is about to be written, and where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Record {
    place: Place,
    /// So much of what comes after the place was written before: within an entry, when that was cut short.
    behind: u64,
    /// Of the file before.
    length: u64,
    more: u64,
}

impl Record {
    fn read(journal: &File, at: u64) -> io::Result<Self> {
        let mut bytes = [0; RECORD];
        match journal.read_exact_at(&mut bytes, at) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Self::default()),
            Err(error) => return Err(error),
        }
        let mut numbers = bytes.chunks_exact(8).map(|chunk| chunk.try_into().map_or(0, u64::from_be_bytes));
        let mut next = || numbers.next().unwrap_or_default();
        Ok(Self {
            place: Place { time: next(), count: next() },
            behind: next(),
            length: next(),
            more: next(),
        })
    }

    /// At once as far as the end of this process is concerned: it is less than a page.
    fn write(&self, journal: &File, at: u64) -> io::Result<()> {
        let numbers = [self.place.time, self.place.count, self.behind, self.length, self.more];
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
        journal.write_all_at(&bytes, at)
    }

    /// How much of what comes after the place is in the file, which is so long now.
    fn written(&self, length: u64) -> u64 {
        match length.checked_sub(self.length) {
            Some(more) => self.behind + more.min(self.more),
            // It was cut since, which happens only to files that are far longer than what is written at once.
            None => self.behind + self.more,
        }
    }
}

/// The container's own user may have put anything in the file's place.
fn open_output(sandbox: &Path, name: &str) -> io::Result<File> {
    let file = Beneath::open(sandbox, None)?.write(Path::new(name))?;
    if file.metadata()?.nlink() != 1 {
        return Err(Errno::EINVAL.into());
    }
    fcntl(&file, FcntlArg::F_SETFL(OFlag::O_APPEND))?;
    Ok(file)
}

#[cfg(test)]
mod tests;
