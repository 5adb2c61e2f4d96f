//! What follows when a child has ended.

use meshos_proto::meshos::agent::v1::supervisor_response::Body;
use nix::{
    sys::{
        signal::Signal,
        wait::{Id, WaitPidFlag, WaitStatus, waitid},
    },
    unistd::Pid,
};

use super::Server;
use crate::supervisor::{sys, transient::Answer, tree};

impl Server {
    /// Takes notice of all children that ended.
    pub(super) fn reap(&mut self) {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        while let Ok(status) = waitid(Id::All, flags) {
            let pid = match status {
                WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..) => pid,
                _ => return,
            };
            if self.starting.contains_key(&pid.as_raw()) {
                self.finish_start(pid.as_raw());
            }
            if self.transients.has_ended(pid.as_raw()) {
                let Ok(status) = sys::reap(pid) else { return };
                if let Some(Answer { connection, id, body }) = self.transients.end(pid.as_raw(), status) {
                    self.send(connection, id, body);
                }
                continue;
            }
            let container_id = self.table.by_pid(pid.as_raw()).map(|child| child.container_id.clone());
            // While the child is not reaped its number, and so its group, cannot be another's.
            if let Some(container_id) = &container_id {
                self.clean_up_after(container_id);
            }
            let Ok(status) = sys::reap(pid) else { return };
            // Others are orphans of a task that fell to us.
            if let Some(container_id) = container_id {
                let instead = self.in_place_of.remove(&container_id);
                let killed = status & 0x7f == Signal::SIGKILL as i32;
                self.end(&container_id, instead.filter(|_| killed).unwrap_or(status));
            }
        }
    }

    /// Kills what a container's first process left behind.
    pub(super) fn clean_up_after(&self, container_id: &str) {
        if let Some(child) = self.table.get(container_id) {
            // Nothing left is the usual case.
            let _ = tree::signal(Pid::from_raw(child.pid), &child.cgroup_procs, Signal::SIGKILL as i32);
        }
    }

    pub(super) fn end(&mut self, container_id: &str, wait_status: i32) {
        self.transients.end_beside(container_id);
        let written = self.table.ended(container_id, wait_status).map(drop);
        self.note(written);
        // What cannot be written down is told all the same.
        let ended = self.table.get(container_id).filter(|child| child.wait_status.is_some());
        let Some(child) = ended.map(|child| child.to_proto()) else { return };
        for connection in self.connections.values_mut() {
            connection.send(0, Body::Exited(child.clone()));
        }
    }
}
