//! The agent's end of a pseudo-terminal.
#![allow(unsafe_code, reason = "setting a terminal's size and waiting for its descriptor have no safe form")]

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::PathBuf,
};

use bytes::Bytes;
use nix::{
    errno::Errno,
    fcntl::{OFlag, open},
    libc,
    pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt},
    sys::stat::Mode,
    unistd,
};
use tokio::io::unix::AsyncFd;

#[derive(Debug)]
pub(super) struct Terminal(AsyncFd<PtyMaster>);

impl Terminal {
    /// A new terminal; its other end, open, and where that is found.
    pub(super) fn open() -> io::Result<(Self, OwnedFd, PathBuf)> {
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let master = posix_openpt(flags)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let path = PathBuf::from(ptsname_r(&master)?);
        let slave = open(&path, OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC, Mode::empty())?;
        // SAFETY: the descriptor belongs to what is registered, and nobody else closes it or puts another in its place.
        let master = unsafe { AsyncFd::register(master) }?;
        Ok((Self(master), slave, path))
    }

    /// The next piece of output; an error at its end.
    pub(super) async fn read(&self, limit: usize) -> io::Result<Bytes> {
        let mut buffer = vec![0; limit];
        loop {
            let mut ready = self.0.readable().await?;
            let read = ready.try_io(|fd| Ok(unistd::read(fd.get_ref(), &mut buffer)?));
            match read {
                Ok(Ok(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(Ok(count)) => {
                    buffer.truncate(count);
                    return Ok(buffer.into());
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => {}
            }
        }
    }

    /// Writes all of it.
    pub(super) async fn write(&self, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            let mut ready = self.0.writable().await?;
            match ready.try_io(|fd| Ok(unistd::write(fd.get_ref(), data)?)) {
                Ok(Ok(count)) => data = data.get(count..).unwrap_or_default(),
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => {}
            }
        }
        Ok(())
    }

    /// Sets the window's size; the processes in it are told.
    pub(super) fn resize(&self, rows: u16, columns: u16) -> io::Result<()> {
        let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: reads `size`, which outlives the call; the descriptor is open for as long as `self` lives.
        Errno::result(unsafe {
            libc::ioctl(self.0.get_ref().as_raw_fd(), libc::TIOCSWINSZ, &raw const size)
        })?;
        Ok(())
    }
}
