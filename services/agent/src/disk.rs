//! How much disk a directory takes, as `du` counts.

use std::{
    collections::HashSet,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use nix::sys::statvfs::statvfs;

/// Bytes in blocks that the directory and all below it take. No link is followed, no other file system entered; a file
/// with several names counts once.
pub(crate) fn usage(directory: &Path) -> u64 {
    let Ok(root) = directory.symlink_metadata() else { return 0 };
    let mut seen = HashSet::new();
    let mut sum = root.blocks() * 512;
    let mut left: Vec<PathBuf> = vec![directory.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            // Of the entry itself. It may be gone by now.
            let Ok(metadata) = entry.metadata() else { continue };
            let again = metadata.nlink() > 1 && !metadata.is_dir() && !seen.insert(metadata.ino());
            if again || metadata.dev() != root.dev() {
                continue;
            }
            sum += metadata.blocks() * 512;
            if metadata.is_dir() {
                left.push(entry.path());
            }
        }
    }
    sum
}

/// Which part of the file system of a directory is used; what cannot be told counts as empty.
#[allow(clippy::cast_precision_loss, reason = "a part of a whole")]
pub(crate) fn used_part(directory: &Path) -> f64 {
    let Ok(stat) = statvfs(directory) else { return 0.0 };
    let (all, free) = (stat.blocks() as f64, stat.blocks_available() as f64);
    if all > 0.0 { 1.0 - free / all } else { 0.0 }
}

/// Bytes that are missing for a part of the file system of a directory to be free; 0 when it is.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a part of a whole"
)]
pub(crate) fn missing(directory: &Path, part: f64) -> u64 {
    let Ok(stat) = statvfs(directory) else { return 0 };
    let wanted = (stat.blocks() as f64 * part.clamp(0.0, 1.0)) as u64;
    wanted.saturating_sub(stat.blocks_available()) * stat.fragment_size()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_is_written_counts_once() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("d");
        fs::create_dir_all(root.join("deep")).unwrap();
        let before = usage(&root);
        fs::write(root.join("deep/file"), vec![1; 1 << 20]).unwrap();
        fs::write(dir.path().join("outside"), vec![1; 1 << 20]).unwrap();
        fs::hard_link(root.join("deep/file"), root.join("again")).unwrap();
        symlink(dir.path().join("outside"), root.join("link")).unwrap();
        symlink(dir.path(), root.join("loop")).unwrap();
        let taken = usage(&root) - before;
        assert!((1 << 20..(1 << 20) + 64 * 1024).contains(&taken), "{taken}");
        assert_eq!(usage(Path::new("/no/such/directory")), 0);
        assert!((0.0..=1.0).contains(&used_part(&root)));
        assert_eq!((missing(&root, 0.0), missing(Path::new("/no/such/directory"), 1.0)), (0, 0));
        assert!(missing(&root, 1.0) > 0);
    }
}
