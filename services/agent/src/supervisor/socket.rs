//! The lock that makes a supervisor the only one of its directory, and the socket that it listens on.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::{fs::OpenOptionsExt, net::UnixListener},
    path::Path,
};

use nix::fcntl::{Flock, FlockArg};

use super::{Error, HANDOVER, SOCKET, sys};

/// Takes the lock, then the socket.
pub(super) fn bind(dir: &Path) -> Result<(UnixListener, Flock<File>), Error> {
    let failed = |what| move |source| Error::Io { what, dir: dir.display().to_string(), source };
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true).mode(0o600);
    let file = options.open(dir.join("lock")).map_err(failed("cannot open the lock"))?;
    let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|_| Error::Taken(dir.display().to_string()))?;
    // We hold the lock: what stands there belongs to a supervisor that died.
    let _ = fs::remove_file(dir.join(SOCKET));
    let listener =
        super::short_path(dir, |path| UnixListener::bind(path)).map_err(failed("cannot listen"))?;
    Ok((listener, lock))
}

/// Takes over what the program before this one left open.
pub(super) fn inherit(descriptors: &str) -> io::Result<(UnixListener, Flock<File>)> {
    let malformed = || io::Error::other(format!("{HANDOVER}={descriptors} is not '<fd>,<fd>'"));
    let (listener, lock) = descriptors.split_once(',').ok_or_else(malformed)?;
    let fd = |text: &str| text.parse().map_err(|_| malformed());
    let listener = UnixListener::from(sys::inherit(fd(listener)?)?);
    let file = File::from(sys::inherit(fd(lock)?)?);
    let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| error)?;
    Ok((listener, lock))
}
