//! The supervisor becomes another program.

use std::{
    env,
    ffi::CString,
    os::{
        fd::{AsFd, AsRawFd},
        unix::ffi::OsStrExt,
    },
};

use meshos_proto::meshos::agent::v1::{Done, supervisor_response::Body};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, poll},
    sys::signal::{Signal, kill},
    unistd::{self, Pid},
};

use super::Server;
use crate::supervisor::{HANDOVER, say, sys};

/// For a process that has been forked to get to its program, in milliseconds.
const STARTED: u16 = 1000;

impl Server {
    /// Executes another program in this process: the children stay its children.
    pub(super) fn upgrade(&mut self, connection: u64, id: u64, program: &str) -> Result<(), String> {
        let failed = |error: Errno| format!("cannot execute '{program}': {}", error.desc());
        unistd::access(program, unistd::AccessFlags::X_OK).map_err(failed)?;
        self.transients.end_all();
        for pid in self.starting.keys().copied().collect::<Vec<_>>() {
            self.hurry(pid)?;
            self.finish_start(pid);
        }
        let keep = |keep| -> nix::Result<()> {
            sys::keep_over_exec(&self.listener, keep)?;
            sys::keep_over_exec(&*self.lock, keep)
        };
        keep(true).map_err(failed)?;
        self.send(connection, id, Body::Done(Done {}));
        let error = self.execute(program);
        // Still here: serve on as before.
        say(format_args!("upgrade failed: {}", failed(error)));
        let _ = sys::keep_over_exec(&self.listener, false);
        let _ = sys::keep_over_exec(&*self.lock, false);
        Ok(())
    }

    fn execute(&self, program: &str) -> Errno {
        let text = |text: &std::ffi::OsStr| CString::new(text.as_bytes()).unwrap_or_default();
        let arguments: Vec<_> = env::args_os().map(|argument| text(&argument)).collect();
        let handover = format!("{HANDOVER}={},{}", self.listener.as_raw_fd(), self.lock.as_raw_fd());
        let mut environment: Vec<_> = env::vars_os()
            .filter(|(name, _)| name != HANDOVER)
            .map(|(name, value)| text(&[name.as_os_str(), value.as_os_str()].join(std::ffi::OsStr::new("="))))
            .collect();
        environment.push(text(handover.as_ref()));
        let Err(error) = unistd::execve(&text(program.as_ref()), &arguments, &environment);
        error
    }

    /// One that does not get to its program, because it waits for the other end of a named pipe, is ended.
    fn hurry(&self, pid: i32) -> Result<(), String> {
        let Some(starting) = self.starting.get(&pid) else { return Ok(()) };
        let container_id = &starting.request.container_id;
        let mut fds = [PollFd::new(starting.pipe.as_fd(), PollFlags::POLLIN)];
        for _ in 0..2 {
            if !matches!(poll(&mut fds, STARTED), Ok(0)) {
                return Ok(());
            }
            say(format_args!("container {container_id} does not start, ending it"));
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        Err(format!("container '{container_id}' neither starts nor ends"))
    }
}
