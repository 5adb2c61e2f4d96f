//! Tar archives, entry by entry. Long names and links are read here, so that none takes more memory than a path may.

use std::{
    ffi::OsStr,
    io::{self, Read},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use tar::{Archive, Entry, EntryType, PaxExtensions};

use super::{budget::Budget, cannot_make};
use crate::beneath::{Beneath, relative};

/// Longest header that describes the next entry.
const DESCRIPTION: u64 = 64 * 1024;

/// What headers said about the entry that follows them.
#[derive(Debug, Default)]
struct Described {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

pub(super) fn unpack(reader: impl Read, into: &Beneath, budget: &Budget) -> Result<(), String> {
    let mut archive = Archive::new(reader);
    let mut described = Described::default();
    for entry in archive.entries().map_err(broken)?.raw(true) {
        let mut entry = entry.map_err(broken)?;
        budget.entry()?;
        match entry.header().entry_type() {
            EntryType::GNULongName => described.name = Some(text(&mut entry)?),
            EntryType::GNULongLink => described.link = Some(text(&mut entry)?),
            EntryType::XHeader => describe(&mut entry, &mut described)?,
            EntryType::XGlobalHeader => {}
            kind => one(kind, &mut entry, std::mem::take(&mut described), (into, budget))?,
        }
    }
    // What follows tells whether the archive is whole.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map(drop).map_err(broken)
}

fn one<R: Read>(
    kind: EntryType,
    entry: &mut Entry<'_, R>,
    described: Described,
    (into, budget): (&Beneath, &Budget),
) -> Result<(), String> {
    let name = described.name.unwrap_or_else(|| entry.header().path_bytes().into_owned());
    let given = PathBuf::from(OsStr::from_bytes(&name));
    let path =
        relative(&given).map_err(|reason| format!("the archive's entry '{}': {reason}", given.display()))?;
    if path.as_os_str().is_empty() {
        return Ok(());
    }
    let failed = |error: io::Error| cannot_make(&path, &error);
    let mode = entry.header().mode().unwrap_or(0o644);
    let link = || {
        let link = described.link.or_else(|| entry.header().link_name_bytes().map(|link| link.into_owned()));
        link.map(|link| PathBuf::from(OsStr::from_bytes(&link)))
            .ok_or_else(|| format!("the archive's entry '{}' is a link to nothing", path.display()))
    };
    match kind {
        // Old archives say by a slash that it is a directory.
        _ if kind.is_dir() || (kind.is_file() && name.ends_with(b"/")) => {
            into.directory(&path, mode).map(drop).map_err(failed)
        }
        EntryType::Symlink => into.symlink(&path, &link()?).map_err(failed),
        EntryType::Link => {
            let target = link()?;
            let target = relative(&target).map_err(|reason| {
                format!("the archive links '{}' to '{}': {reason}", path.display(), target.display())
            })?;
            into.hard_link(&path, &target).map_err(failed)
        }
        EntryType::Regular | EntryType::Continuous => {
            let mut file = into.create(&path, mode).map_err(failed)?;
            let copied = io::copy(&mut budget.content(&mut *entry), &mut file).map_err(failed)?;
            match copied == entry.size() {
                true => Ok(()),
                false => Err(format!("the archive ends in the middle of '{}'", path.display())),
            }
        }
        EntryType::GNUSparse => Err(unwanted(&path, "a sparse file")),
        EntryType::Block | EntryType::Char => Err(unwanted(&path, "a device")),
        EntryType::Fifo => Err(unwanted(&path, "a named pipe")),
        _ => Err(unwanted(&path, "of a kind that is not known")),
    }
}

fn unwanted(path: &Path, what: &str) -> String {
    format!(
        "the archive's entry '{}' is {what}; only files, directories and links are unpacked",
        path.display()
    )
}

/// The text of a header, which may end with a zero.
fn text<R: Read>(entry: &mut Entry<'_, R>) -> Result<Vec<u8>, String> {
    if entry.size() > DESCRIPTION {
        return Err(format!("the archive has a header of {} bytes", entry.size()));
    }
    let mut text = Vec::new();
    entry.read_to_end(&mut text).map_err(broken)?;
    if text.last() == Some(&0) {
        text.pop();
    }
    Ok(text)
}

fn describe<R: Read>(entry: &mut Entry<'_, R>, described: &mut Described) -> Result<(), String> {
    let header = text(entry)?;
    for extension in PaxExtensions::new(&header) {
        let extension = extension.map_err(broken)?;
        match extension.key_bytes() {
            b"path" => described.name = Some(extension.value_bytes().to_vec()),
            b"linkpath" => described.link = Some(extension.value_bytes().to_vec()),
            // The reader goes by the size in the entry's own header.
            b"size" => {
                return Err("the archive has a file of 8 GB or more in pax form; use the GNU form".to_owned());
            }
            _ => {}
        }
    }
    Ok(())
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn broken(error: io::Error) -> String {
    format!("the archive cannot be read: {error}")
}
