//! The Python environment with clients from PyPI, unmodified.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// Its interpreter; made once.
pub(crate) fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/python-clients");
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python-clients");
        let made = Command::new(script).arg(&dir).output().unwrap();
        let said = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "no Python environment with the clients: {said}");
        dir.join("bin/python")
    })
}
