//! Profiles of system calls that the operator keeps in a directory (`--seccomp_config_dir`), in the form of Docker's.

mod profile;

use std::{fs::File, io::Read, path::Path};

use bytes::Bytes;
use nix::sys::utsname::uname;
use seccompiler::sock_filter;

use profile::{Machine, Profile};

/// Docker's own has 15 KB.
const LARGEST: u64 = 1024 * 1024;

/// The programs that make the kernel obey a profile, for a container with these capabilities (none: with all).
///
/// # Errors
/// A file that is not there, or is no profile.
pub(crate) fn read(path: &Path, capabilities: Option<u64>) -> Result<Vec<Bytes>, String> {
    let failed = |reason: String| format!("the seccomp profile {} cannot be used: {reason}", path.display());
    let mut text = String::new();
    let file = File::open(path).map_err(|error| failed(error.to_string()))?;
    let count =
        file.take(LARGEST + 1).read_to_string(&mut text).map_err(|error| failed(error.to_string()))?;
    if count as u64 > LARGEST {
        return Err(failed("it is larger than 1 MB".to_owned()));
    }
    let release = uname().map(|names| names.release().to_string_lossy().into_owned()).unwrap_or_default();
    let machine = Machine { capabilities, kernel: profile::version(&release) };
    let profile = Profile::parse(&text).map_err(failed)?;
    let programs = profile.programs(&machine).map_err(failed)?;
    Ok(programs.iter().map(|program| bytes(program)).collect())
}

/// As the kernel has instructions in memory.
fn bytes(program: &[sock_filter]) -> Bytes {
    let instruction = |one: &sock_filter| {
        let ([a, b], [c, d, e, f]) = (one.code.to_ne_bytes(), one.k.to_ne_bytes());
        [a, b, one.jt, one.jf, c, d, e, f]
    };
    program.iter().flat_map(instruction).collect()
}
