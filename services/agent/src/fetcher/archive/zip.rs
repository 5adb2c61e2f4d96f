//! Zip archives, entry by entry.

use std::{
    fs::File,
    io::{self, Read, Seek},
    path::{Path, PathBuf},
};

use zip::{ZipArchive, read::ZipFile, result::ZipError};

use super::{budget::Budget, cannot_make};
use crate::beneath::{Beneath, relative};

/// Longest target of a link.
const TARGET: u64 = 4096;

pub(super) fn unpack(archive: File, into: &Beneath, budget: &Budget) -> Result<(), String> {
    let mut archive = ZipArchive::new(archive).map_err(broken)?;
    for index in 0..archive.len() {
        budget.entry()?;
        one(archive.by_index(index).map_err(broken)?, into, budget)?;
    }
    Ok(())
}

fn one<R: Read + Seek>(mut entry: ZipFile<'_, R>, into: &Beneath, budget: &Budget) -> Result<(), String> {
    let name = entry.name().map_err(broken)?.into_owned();
    let path =
        relative(Path::new(&name)).map_err(|reason| format!("the archive's entry '{name}': {reason}"))?;
    if path.as_os_str().is_empty() {
        return Ok(());
    }
    let failed = |error: io::Error| cannot_make(&path, &error);
    let mode = entry.unix_mode();
    if entry.is_dir() {
        return into.directory(&path, mode.unwrap_or(0o755)).map(drop).map_err(failed);
    }
    if entry.is_symlink() {
        let mut target = String::new();
        entry.take(TARGET).read_to_string(&mut target).map_err(failed)?;
        return into.symlink(&path, &PathBuf::from(target)).map_err(failed);
    }
    // The upper bits say what it is; none of them: a file.
    if mode.is_some_and(|mode| !matches!(mode & 0o170_000, 0 | 0o100_000)) {
        return Err(format!(
            "the archive's entry '{name}' is a device or a pipe; only files, directories and links are unpacked"
        ));
    }
    let mode = mode.filter(|mode| mode & 0o777 != 0).unwrap_or(0o644);
    let mut file = into.create(&path, mode).map_err(failed)?;
    io::copy(&mut budget.content(&mut entry), &mut file).map(drop).map_err(failed)
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn broken(error: ZipError) -> String {
    format!("the archive cannot be read: {error}")
}
