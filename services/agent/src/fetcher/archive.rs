//! Unpacking what may be hostile: nothing lands outside the sandbox, and nothing grows without end.

pub(crate) mod budget;
mod tar;
mod zip;
mod zstd;

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::beneath::Beneath;
pub(super) use budget::Limits;
use budget::{Bounded, Budget};

/// Dictionaries of a compressed file may take so many KiB of memory.
const DICTIONARY_KIB: u32 = 256 * 1024;

/// Kinds of archives, told by the end of the file's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Tar(Compression),
    Zip,
    /// One compressed file.
    Gzip,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Bzip2,
    Xz,
    Zstd,
}

const KINDS: [(&str, Kind); 11] = [
    (".tar", Kind::Tar(Compression::None)),
    (".tar.gz", Kind::Tar(Compression::Gzip)),
    (".tgz", Kind::Tar(Compression::Gzip)),
    (".tar.bz2", Kind::Tar(Compression::Bzip2)),
    (".tbz2", Kind::Tar(Compression::Bzip2)),
    (".tar.xz", Kind::Tar(Compression::Xz)),
    (".txz", Kind::Tar(Compression::Xz)),
    (".tar.zst", Kind::Tar(Compression::Zstd)),
    (".tzst", Kind::Tar(Compression::Zstd)),
    (".zip", Kind::Zip),
    (".gz", Kind::Gzip),
];

/// What kind of archive a file is; none: none.
pub(super) fn kind(path: &Path) -> Option<Kind> {
    let name = path.file_name()?.to_str()?;
    KINDS.iter().find(|(end, _)| name.ends_with(end)).map(|(_, kind)| *kind)
}

/// Unpacks an archive into a directory.
pub(super) fn unpack(
    (archive, path): (File, &Path),
    kind: Kind,
    into: &Beneath,
    (limits, stop): (Limits, Arc<AtomicBool>),
) -> Result<(), String> {
    let packed = archive.metadata().map_err(|error| error.to_string())?.len();
    let budget = Budget::new(limits, packed, stop);
    match kind {
        Kind::Zip => zip::unpack(archive, into, &budget),
        Kind::Tar(compression) => {
            let reader = Bounded::new(decoder(BufReader::new(archive), compression), budget.clone());
            tar::unpack(reader, into, &budget)
        }
        Kind::Gzip => {
            let mut reader = Bounded::new(decoder(BufReader::new(archive), Compression::Gzip), budget);
            let name = path.with_extension("");
            let mut file = into.create(&name, 0o644).map_err(|error| cannot_make(&name, &error))?;
            io::copy(&mut reader, &mut file).map(drop).map_err(|error| error.to_string())
        }
    }
}

pub(crate) fn decoder(packed: impl BufRead + 'static, compression: Compression) -> Box<dyn Read> {
    match compression {
        Compression::None => Box::new(packed),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(packed)),
        Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(packed)),
        Compression::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(packed, true, DICTIONARY_KIB)),
        Compression::Zstd => Box::new(zstd::Frames::new(packed)),
    }
}

fn cannot_make(path: &Path, error: &io::Error) -> String {
    let hint = match error.raw_os_error() {
        // A link stands where a directory should be.
        Some(nix::libc::ELOOP | nix::libc::ENOTDIR) => " (it would lead through a link or a file)",
        _ => "",
    };
    format!("cannot make '{}' in the sandbox: {error}{hint}", path.display())
}

fn stopped(stop: &AtomicBool) -> bool {
    stop.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests;
