//! The parent of all task processes of one agent: a process of its own that outlives the agent, starts
//! processes on request, and remembers how they ended until the agent has made that durable.
//!
//! Single-threaded, without an async runtime, and small, because it must run for as long as the longest task:
//! one loop over a Unix socket, a signal descriptor for ended children, and the start pipes of processes that
//! are on their way to `exec`. Everything that it must not lose stands in a journal beside the socket, so both
//! an upgrade (it executes the new program in its own place: same pid, same children) and a restart after a
//! crash begin by reading the journal.
//!
//! | file in its directory (0700) | content |
//! | --- | --- |
//! | `sock` | Unix socket; peers of another user are turned away |
//! | `lock` | held while it runs: there is one |
//! | `journal` | children and exit statuses |
//! | `log` | what it has to say |

mod connection;
mod enclosure;
mod process;
mod server;
mod socket;
pub(crate) mod sys;
mod table;
mod transient;
mod tree;

use std::{io, path::Path, process::ExitCode};

use std::io::Write;

pub(crate) use enclosure::loopback_up;
pub use table::UNKNOWN_STATUS;

/// Name of the socket in the supervisor's directory.
pub const SOCKET: &str = "sock";
/// Largest message either way.
pub const MAX_FRAME: usize = 16 * 1024 * 1024;
/// Carries the listening socket and the lock over an upgrade: `<fd>,<fd>`.
const HANDOVER: &str = "SUPERVISOR_HANDOVER";

/// Why a supervisor cannot run.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("another supervisor serves {0}")]
    Taken(String),
    #[error("{what} in {dir}: {source}")]
    Io { what: &'static str, dir: String, source: io::Error },
}

/// Runs a supervisor until it is told to stop, or nobody has needed it for ten minutes. Call it in a process
/// that has no other thread: it forks, and it blocks SIGCHLD.
#[must_use]
pub fn main(dir: &Path) -> ExitCode {
    match server::Server::open(dir).and_then(server::Server::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(format_args!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Calls `action` with a path of the socket that is short enough for a socket address (108 bytes), however
/// deep the directory lies.
pub(crate) fn short_path<T>(dir: &Path, action: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    use std::os::fd::AsRawFd;
    let handle = std::fs::File::open(dir)?;
    let path = format!("/proc/self/fd/{}/{SOCKET}", handle.as_raw_fd());
    action(Path::new(&path))
}

/// A line for the log file, which is the process's standard error.
fn say(line: std::fmt::Arguments<'_>) {
    // There is nobody to tell that the log cannot be written.
    let _ = writeln!(io::stderr(), "supervisor: {line}");
}
