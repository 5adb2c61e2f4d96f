//! Removes persistent volumes.

use std::path::{Path, PathBuf};

use tracing::warn;

use super::Runner;
use crate::beneath::Beneath;

impl Runner {
    /// Moved away at once, so that the place is free; deleted in the background.
    pub(super) fn remove_volume(&self, path: PathBuf, is_mount: bool) {
        let mut held = None;
        let doomed = match is_mount {
            true => std::fs::read_dir(&path).into_iter().flatten().flatten().map(|e| e.path()).collect(),
            false => {
                let name = format!(".{}.destroyed", self.env.rng.uuid());
                match set_aside(&path, &name, self.sandboxes.root()) {
                    Ok((parent, aside)) => {
                        held = parent;
                        vec![aside]
                    }
                    Err(error) => {
                        warn!(path = %path.display(), %error, "volume cannot be removed");
                        return;
                    }
                }
            }
        };
        self.env.tasks.spawn("remove-volume", async move {
            let _held = held;
            for path in doomed {
                let removed = match path.is_dir() && !path.is_symlink() {
                    true => tokio::fs::remove_dir_all(&path).await,
                    false => tokio::fs::remove_file(&path).await,
                };
                if let Err(error) = removed {
                    warn!(path = %path.display(), %error, "content of a destroyed volume is left behind");
                }
            }
        });
    }
}

/// Gives a directory another name beside. A task's user may own what lies above it in the work directory, so its
/// parent is held open and no link is followed; an operator's own disk may lie behind one.
fn set_aside(path: &Path, name: &str, work_dir: &Path) -> std::io::Result<(Option<Beneath>, PathBuf)> {
    let (Some(parent), Some(old)) = (path.parent(), path.file_name()) else {
        return Err(std::io::ErrorKind::InvalidInput.into());
    };
    if !path.starts_with(work_dir) {
        let aside = path.with_file_name(name);
        std::fs::rename(path, &aside)?;
        return Ok((None, aside));
    }
    let parent = Beneath::open(parent, None)?;
    parent.rename(Path::new(old), Path::new(name))?;
    let aside = parent.path().join(name);
    Ok((Some(parent), aside))
}
