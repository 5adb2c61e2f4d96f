//! Unpacks a layer, which may be hostile, into a directory of its own: with owners, modes, times and attributes as they
//! are in it, and what it deletes from the layers below written as overlayfs wants it.

mod entry;

use std::{
    io::{self, BufRead, BufReader, Read},
    path::Path,
    sync::{Arc, atomic::AtomicBool},
};

use nix::sys::statvfs::statvfs;

use super::{
    ErrorKind,
    digest::{Digest, Hasher, Hashing},
    failure::Failure,
};
use crate::{
    beneath::Beneath,
    fetcher::archive::{
        Compression,
        budget::{Bounded, Budget, Limits},
        decoder,
    },
    tarball::Tarball,
};
use entry::Writer;

/// Entries that one layer may have.
const MOST_ENTRIES: u64 = 2_000_000;
/// So many bytes may come out of each byte of the archive, beyond those that may come out of any.
const RATIO: u64 = 250;
const FREE: u64 = 1024 * 1024 * 1024;
/// Part of the disk that unpacking leaves to others, and the most that this is in bytes.
const RESERVE: (u64, u64) = (20, 1024 * 1024 * 1024);
const BUFFER: usize = 256 * 1024;

/// Unpacks an archive, compressed or not, into an empty directory.
pub(super) fn unpack(
    (archive, packed): (impl Read + 'static, u64),
    content: &Digest,
    into: &Path,
    (most, stop): (u64, Arc<AtomicBool>),
) -> Result<(), Failure> {
    let limits = Limits { bytes: most, entries: MOST_ENTRIES, ratio: RATIO, free: FREE };
    let budget = Budget::new(limits, packed, stop);
    let beneath = Beneath::open(into, None).map_err(|error| Failure::store(into, &error))?;
    let archive = BufReader::with_capacity(BUFFER, archive);
    let mut hasher = Hasher::default();
    let (plain, compression) = sniff(archive).map_err(broken)?;
    let hashing = Hashing { reader: decoder(plain, compression), hasher: &mut hasher };
    let mut tarball = Tarball::new(BufReader::with_capacity(BUFFER, Bounded::new(hashing, budget.clone())));
    let mut writer = Writer::new(&beneath, into, (&budget, most));
    while let Some(entry) = tarball.next().map_err(broken)? {
        writer.entry(&entry, &mut tarball)?;
    }
    tarball.finish().map_err(broken)?;
    drop(tarball);
    let found = hasher.finish();
    if found != *content {
        let reason = format!("a layer unpacks to {found}, and the image promises {content}");
        return Err(Failure::new(ErrorKind::Refused, reason));
    }
    writer.finish()
}

/// How an archive is compressed is seen by its beginning; what is said of it may be wrong.
fn sniff<R: BufRead>(mut archive: R) -> io::Result<(R, Compression)> {
    let compression = match archive.fill_buf()? {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
        _ => Compression::None,
    };
    Ok((archive, compression))
}

/// Whether so little of the disk is left that it is others'.
fn is_full(directory: &Path) -> bool {
    let (part, most) = RESERVE;
    statvfs(directory).is_ok_and(|stat| {
        let reserve = (stat.blocks() * stat.fragment_size() / part).min(most);
        stat.blocks_available() * stat.fragment_size() < reserve
    })
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn broken(error: io::Error) -> Failure {
    let text = error.to_string();
    match text.contains("unpacks to more") {
        true => Failure::new(ErrorKind::TooLarge, "a layer unpacks to more than this node takes"),
        false => Failure::new(ErrorKind::Refused, format!("a layer cannot be read: {text}")),
    }
}

#[cfg(test)]
mod tests;
