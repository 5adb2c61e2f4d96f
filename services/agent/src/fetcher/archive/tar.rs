//! Tar archives, entry by entry.

use std::{
    ffi::OsStr,
    io::{self, Read},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use super::{budget::Budget, cannot_make};
use crate::{
    beneath::{Beneath, relative},
    tarball::{Entry, EntryType, Tarball},
};

pub(super) fn unpack(reader: impl Read, into: &Beneath, budget: &Budget) -> Result<(), String> {
    let mut tarball = Tarball::new(reader);
    while let Some(entry) = tarball.next().map_err(broken)? {
        budget.entry()?;
        one(entry, &mut tarball, (into, budget))?;
    }
    // What follows tells whether the archive is whole.
    tarball.finish().map_err(broken)
}

fn one<R: Read>(
    entry: Entry,
    content: &mut Tarball<R>,
    (into, budget): (&Beneath, &Budget),
) -> Result<(), String> {
    let given = Path::new(OsStr::from_bytes(&entry.name));
    let path =
        relative(given).map_err(|reason| format!("the archive's entry '{}': {reason}", given.display()))?;
    if path.as_os_str().is_empty() {
        return Ok(());
    }
    let failed = |error: io::Error| cannot_make(&path, &error);
    let link = || {
        let link = entry.link.as_deref().map(|link| PathBuf::from(OsStr::from_bytes(link)));
        link.ok_or_else(|| format!("the archive's entry '{}' is a link to nothing", path.display()))
    };
    match entry.kind {
        _ if entry.sparse.is_some() => Err(unwanted(&path, "a sparse file")),
        // Old archives say by a slash that it is a directory.
        kind if kind.is_dir() || (kind.is_file() && entry.name.ends_with(b"/")) => {
            into.directory(&path, entry.mode).map(drop).map_err(failed)
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
            let mut file = into.create(&path, entry.mode).map_err(failed)?;
            let copied = io::copy(&mut budget.content(content), &mut file);
            copied.map(drop).map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => {
                    format!("the archive ends in the middle of '{}'", path.display())
                }
                _ => failed(error),
            })
        }
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

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn broken(error: io::Error) -> String {
    format!("the archive cannot be read: {error}")
}
