//! What a container may not execute: the program of this process, which is the machine's. `/proc/self/exe` leads to it
//! until the execution, so an image that names it, or a script's interpreter that does, would get hold of a file of the
//! machine, which it might write to once nobody runs it.

use std::{
    ffi::{CStr, OsStr},
    fs::File,
    io::Read,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2},
};

/// As many scripts may be each other's interpreters.
const SCRIPTS: u32 = 6;
/// What the kernel reads of a script.
const HEAD: u64 = 256;

/// Whether a program is one of the container's own.
pub(in crate::supervisor) fn check(program: &CStr) -> nix::Result<()> {
    let mut path = PathBuf::from(OsStr::from_bytes(program.to_bytes()));
    for _ in 0..SCRIPTS {
        open(&path, OFlag::O_PATH)?;
        match open(&path, OFlag::O_RDONLY | OFlag::O_NONBLOCK).ok().and_then(interpreter) {
            Some(next) => path = next,
            None => return Ok(()),
        }
    }
    Err(Errno::ELOOP)
}

/// No step may be a link of `/proc` that leads anywhere in the kernel.
fn open(path: &Path, flags: OFlag) -> nix::Result<File> {
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS);
    openat2(AT_FDCWD, path, how).map(File::from)
}

fn interpreter(script: File) -> Option<PathBuf> {
    if !script.metadata().ok()?.is_file() {
        return None;
    }
    let mut head = Vec::new();
    script.take(HEAD).read_to_end(&mut head).ok()?;
    let line = head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let line = line.trim_ascii_start();
    let name = line.split(|byte| matches!(byte, b' ' | b'\t')).next()?;
    Some(PathBuf::from(OsStr::from_bytes(name)))
}

#[cfg(test)]
mod tests {
    use std::{ffi::CString, fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn the_program_of_this_process_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let ok = |path: &Path| check(&CString::new(path.as_os_str().as_bytes()).unwrap());
        symlink("/proc/self/exe", path("link")).unwrap();
        fs::write(path("script"), "#! /proc/self/exe -x\n").unwrap();
        fs::write(path("linked"), format!("#!{} -x\n", path("link").display())).unwrap();
        fs::write(path("nested"), format!("#!{}", path("script").display())).unwrap();
        fs::write(path("loop"), format!("#!{}", path("loop").display())).unwrap();
        fs::write(path("good"), "#!/bin/sh\n").unwrap();
        for bad in ["link", "script", "linked", "nested", "loop"] {
            assert_eq!(ok(&path(bad)), Err(Errno::ELOOP), "{bad}");
        }
        assert_eq!(ok(Path::new("/proc/self/exe")), Err(Errno::ELOOP));
        assert_eq!(ok(&path("good")), Ok(()));
        assert_eq!(ok(Path::new("/bin/sh")), Ok(()));
        assert_eq!(ok(&path("none")), Err(Errno::ENOENT));
    }
}
