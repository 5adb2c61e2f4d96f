//! How much an archive may unpack to.

use std::{
    cell::Cell,
    io::{self, Read},
    rc::Rc,
    sync::{Arc, atomic::AtomicBool},
};

use super::stopped;

/// What unpacking may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of all files.
    pub(crate) bytes: u64,
    /// Files, directories and links.
    pub(crate) entries: u64,
    /// So many bytes may come out of each byte of the archive,
    pub(crate) ratio: u64,
    /// beyond these, which may come out of any.
    pub(crate) free: u64,
}

impl Limits {
    /// Bounds that no honest archive meets; `space`: bytes that are left on the disk.
    pub(crate) fn for_disk(space: u64) -> Self {
        Self { bytes: space / 10 * 9, entries: 2_000_000, ratio: 250, free: 1024 * 1024 * 1024 }
    }
}

/// What is left of the limits; shared between what unpacks and what it reads from.
#[derive(Clone, Debug)]
pub(crate) struct Budget(Rc<Left>);

#[derive(Debug)]
struct Left {
    read: Cell<u64>,
    written: Cell<u64>,
    entries: Cell<u64>,
    stop: Arc<AtomicBool>,
}

impl Budget {
    pub(crate) fn new(limits: Limits, packed: u64, stop: Arc<AtomicBool>) -> Self {
        let bytes = limits.bytes.min(packed.saturating_mul(limits.ratio).saturating_add(limits.free));
        let left = Left {
            read: Cell::new(bytes),
            written: Cell::new(bytes),
            entries: Cell::new(limits.entries),
            stop,
        };
        Self(Rc::new(left))
    }

    /// One more entry.
    pub(crate) fn entry(&self) -> Result<(), String> {
        if stopped(&self.0.stop) {
            return Err("the task was killed".to_owned());
        }
        let left = self.0.entries.get().checked_sub(1);
        self.0.entries.set(left.ok_or("the archive has too many entries")?);
        Ok(())
    }

    /// A reader of one entry's content.
    pub(crate) fn content<R: Read>(&self, reader: R) -> Content<R> {
        Content { reader, budget: self.clone() }
    }

    fn take(&self, left: &Cell<u64>, count: usize) -> io::Result<()> {
        if stopped(&self.0.stop) {
            return Err(io::Error::other("the task was killed"));
        }
        let rest = left.get().checked_sub(count as u64);
        left.set(rest.ok_or_else(|| io::Error::other("the archive unpacks to more than this node takes"))?);
        Ok(())
    }
}

/// What comes out of a decoder, as far as it may.
#[derive(Debug)]
pub(crate) struct Bounded<R> {
    reader: R,
    budget: Budget,
}

impl<R> Bounded<R> {
    pub(crate) fn new(reader: R, budget: Budget) -> Self {
        Self { reader, budget }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.budget.take(&self.budget.0.read, count)?;
        Ok(count)
    }
}

/// What is written into files, as far as it may.
#[derive(Debug)]
pub(crate) struct Content<R> {
    reader: R,
    budget: Budget,
}

impl<R: Read> Read for Content<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.budget.take(&self.budget.0.written, count)?;
        Ok(count)
    }
}
