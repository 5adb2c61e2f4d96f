//! Commands beside containers: checks. Nobody needs to know of them later, so they are not written down; each is answered
//! once, when it has ended, and dies with what it belongs to.

use std::{collections::BTreeMap, os::fd::OwnedFd};

use meshos_proto::meshos::agent::v1::{Child, Failed, SpawnRequest, supervisor_response::Body};
use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};

use super::{
    process,
    sys::{self, Command},
};

/// A running one.
#[derive(Debug)]
struct Transient {
    request: SpawnRequest,
    pipe: OwnedFd,
    connection: u64,
    id: u64,
}

/// What one that ended leaves: whom to answer what.
pub(super) struct Answer {
    pub(super) connection: u64,
    pub(super) id: u64,
    pub(super) body: Body,
}

/// All that run, by process id.
#[derive(Debug, Default)]
pub(super) struct Transients(BTreeMap<i32, Transient>);

impl Transients {
    /// Starts one; whether its program runs is looked at when it has ended.
    pub(super) fn start(
        &mut self,
        (connection, id): (u64, u64),
        request: SpawnRequest,
        command: &Command,
    ) -> nix::Result<()> {
        let (pid, pipe) = sys::start(command)?;
        self.0.insert(pid.as_raw(), Transient { request, pipe, connection, id });
        Ok(())
    }

    /// One has ended and is not reaped yet: what it left running in its group goes, too.
    pub(super) fn has_ended(&self, pid: i32) -> bool {
        let known = self.0.contains_key(&pid);
        if known {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
        known
    }

    /// The answer for one that ended with this wait status.
    pub(super) fn end(&mut self, pid: i32, wait_status: i32) -> Option<Answer> {
        let Transient { request, pipe, connection, id } = self.0.remove(&pid)?;
        let body = match sys::failure_from(&pipe) {
            Some(failure) => Body::Failed(Failed { message: process::failure_text(&request, failure) }),
            None => {
                let container_id = request.container_id;
                Body::Exited(Child { container_id, pid, wait_status: Some(wait_status) })
            }
        };
        Some(Answer { connection, id, body })
    }

    /// Whether there was one of this name to signal.
    pub(super) fn signal(&self, container_id: &str, signal: Signal) -> bool {
        self.each(|transient| transient.request.container_id == container_id, signal)
    }

    /// The container that they belong to has ended.
    pub(super) fn end_beside(&self, container_id: &str) {
        self.each(|transient| transient.request.beside == container_id, Signal::SIGKILL);
    }

    /// Nobody is there any more who waits for them.
    pub(super) fn end_of(&self, connection: u64) {
        self.each(|transient| transient.connection == connection, Signal::SIGKILL);
    }

    pub(super) fn end_all(&self) {
        self.each(|_| true, Signal::SIGKILL);
    }

    fn each(&self, which: impl Fn(&Transient) -> bool, signal: Signal) -> bool {
        let mut any = false;
        for (pid, _) in self.0.iter().filter(|(_, transient)| which(transient)) {
            any = true;
            // Not reaped yet, so the number is its own; it may not have its own group yet.
            let pid = Pid::from_raw(*pid);
            let _ = kill(pid, signal);
            let _ = killpg(pid, signal);
        }
        any
    }
}
