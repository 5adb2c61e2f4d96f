//! An append-only file of records, each with its length and a checksum.
//!
//! Records of tasks are written with a plain `write`, without `fsync`: what has been written survives the death of the
//! process, and after the death of the machine there is nothing left that the records could speak of, because
//! the tasks died with it. A record that was not written whole ends the file when it is read again.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

/// Length and checksum, four bytes each, big endian.
const HEADER: usize = 8;

/// An open file of records.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    length: u64,
}

/// What a journal held when it was opened.
#[derive(Debug)]
pub struct Contents {
    pub records: Vec<Vec<u8>>,
    /// Bytes at the end that were no whole record; they have been cut off.
    pub torn: u64,
    /// Bytes between whole records that are none: not a write that was cut short, but damage.
    pub damaged: u64,
}

impl Journal {
    /// Opens the file, or makes it, and reads it.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open(path: &Path) -> io::Result<(Self, Contents)> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let Split { records, end, damaged } = split(&bytes);
        let torn = (bytes.len() - end) as u64;
        let length = end as u64;
        if torn > 0 {
            file.set_len(length)?;
        }
        file.seek(SeekFrom::Start(length))?;
        Ok((Self { path: path.to_owned(), file, length }, Contents { records, torn, damaged }))
    }

    /// Adds records in one write. After a failure the file ends where it ended before.
    ///
    /// # Errors
    /// What the file system says.
    pub fn append<R: AsRef<[u8]>>(&mut self, records: &[R]) -> io::Result<()> {
        let bytes = join(records);
        if let Err(error) = self.file.write_all(&bytes) {
            // A part of a record would hide all that follow it.
            self.file.set_len(self.length)?;
            self.file.seek(SeekFrom::Start(self.length))?;
            return Err(error);
        }
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Replaces the file's content; a reader finds the old content or the new one.
    ///
    /// # Errors
    /// What the file system says; the old content stays.
    pub fn rewrite<R: AsRef<[u8]>>(&mut self, records: &[R]) -> io::Result<()> {
        let bytes = join(records);
        let next = self.path.with_extension("next");
        // What was written of it must not fill the disk further.
        self.file = replace(&next, &self.path, &bytes).inspect_err(|_| drop(std::fs::remove_file(&next)))?;
        self.length = bytes.len() as u64;
        Ok(())
    }

    /// Every write to the file fails from now on, as on a full disk.
    #[cfg(test)]
    pub(crate) fn fill_disk(&mut self) {
        self.file = File::open(&self.path).unwrap();
    }

    /// Waits until what was added is safe from the end of the machine.
    ///
    /// # Errors
    /// What the file system says.
    pub fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Size in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether there is no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }
}

/// Writes the bytes to `next`, which then takes the place of `path`.
fn replace(next: &Path, path: &Path, bytes: &[u8]) -> io::Result<File> {
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(next)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(next, path)?;
    Ok(file)
}

fn join<R: AsRef<[u8]>>(records: &[R]) -> Vec<u8> {
    let size = records.iter().map(|record| record.as_ref().len() + HEADER).sum();
    let mut bytes = Vec::with_capacity(size);
    for record in records {
        let record = record.as_ref();
        let length = u32::try_from(record.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&checksum(record).to_be_bytes());
        bytes.extend_from_slice(record);
    }
    bytes
}

/// A journal's bytes as records.
#[derive(Debug, Default)]
struct Split {
    records: Vec<Vec<u8>>,
    /// Where the last whole one ends.
    end: usize,
    damaged: u64,
}

/// All whole records; what lies between some of them is damage.
fn split(bytes: &[u8]) -> Split {
    let mut split = Split::default();
    let mut at = 0;
    // A length that was damaged says nothing about where the next record begins: it is looked for.
    while let Some(start) = (at..bytes.len()).find(|at| record_at(bytes, *at).is_some()) {
        let Some((record, next)) = record_at(bytes, start) else { break };
        split.damaged += (start - at) as u64;
        split.records.push(record.to_vec());
        (split.end, at) = (next, next);
    }
    split
}

fn record_at(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let length = u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize;
    let sum = u32::from_be_bytes(bytes.get(at + 4..at + HEADER)?.try_into().ok()?);
    let end = (at + HEADER).checked_add(length)?;
    let record = bytes.get(at + HEADER..end)?;
    (checksum(record) == sum).then_some((record, end))
}

/// FNV-1a: tells a torn record from a whole one, which is all that is asked of it. Not zero for an empty
/// record, so a hole of zeros is no record.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_with(records: &[&[u8]]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        Journal::open(&path).unwrap().0.append(records).unwrap();
        (dir, path)
    }

    #[test]
    fn records_come_back_in_order() {
        let (_dir, path) = file_with(&[b"one", b"", b"three"]);
        let (mut journal, contents) = Journal::open(&path).unwrap();
        assert_eq!((contents.records, contents.torn), (vec![b"one".to_vec(), vec![], b"three".to_vec()], 0));
        journal.rewrite(&[b"new"]).unwrap();
        journal.append(&[b"more"]).unwrap();
        assert_eq!(Journal::open(&path).unwrap().1.records, [b"new".to_vec(), b"more".to_vec()]);
    }

    #[test]
    fn a_file_torn_anywhere_keeps_the_whole_records_before() {
        let (_dir, path) = file_with(&[b"first", b"second"]);
        let bytes = std::fs::read(&path).unwrap();
        for end in 0..bytes.len() {
            std::fs::write(&path, &bytes[..end]).unwrap();
            let (mut journal, contents) = Journal::open(&path).unwrap();
            let whole = usize::from(end >= 13);
            assert_eq!(contents.records.len(), whole, "cut at {end}");
            journal.append(&[b"after"]).unwrap();
            assert_eq!(Journal::open(&path).unwrap().1.records.len(), whole + 1);
        }
    }

    #[test]
    fn damage_between_records_is_told_and_hides_none_of_the_others() {
        let (_dir, path) = file_with(&[b"first", b"second", b"third"]);
        let whole = std::fs::read(&path).unwrap();
        // In the header or in the record: 8 bytes and 6.
        for at in 13..27 {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x40;
            std::fs::write(&path, &bytes).unwrap();
            let (mut journal, contents) = Journal::open(&path).unwrap();
            assert_eq!(contents.records, [b"first".to_vec(), b"third".to_vec()], "byte {at}");
            assert_eq!((contents.damaged, contents.torn), (14, 0), "byte {at}");
            journal.append(&[b"more"]).unwrap();
            assert_eq!(Journal::open(&path).unwrap().1.records.len(), 3);
        }
    }

    #[test]
    fn a_changed_byte_or_a_hole_of_zeros_is_no_record() {
        let (_dir, path) = file_with(&[b"first"]);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend([0; 64]);
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(Journal::open(&path).unwrap().1.records.len(), 1);
        bytes.truncate(13);
        bytes[9] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(Journal::open(&path).unwrap().1.records.len(), 0);
    }
}
