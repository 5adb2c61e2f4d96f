//! From a request to a running program.

use meshos_proto::meshos::agent::v1::{Failed, SpawnRequest, Spawned, supervisor_response::Body};
use nix::{errno::Errno, unistd::Pid};

use super::{Server, Starting};
use crate::supervisor::{process, say, sys};

impl Server {
    /// Forks; the answer follows when the program runs or cannot.
    pub(super) fn spawn(&mut self, connection: u64, id: u64, request: SpawnRequest) -> Result<(), String> {
        let container_id = request.container_id.as_str();
        if container_id.is_empty() || self.table.get(container_id).is_some() {
            return Err(format!("container '{container_id}' exists already or has no id"));
        }
        let joined = self.joined(&request)?;
        let command = process::command(&request, joined)
            .map_err(|error| format!("container '{container_id}': {error}"))?;
        let cannot_fork = |error: Errno| format!("cannot fork: {}", error.desc());
        if request.transient {
            return self.transients.start((connection, id), request, &command).map_err(cannot_fork);
        }
        let (pid, pipe) = sys::start(&command).map_err(cannot_fork)?;
        // What is remembered ends with the container.
        let own_cgroups = if request.shares_cgroups { &[][..] } else { &request.cgroup_procs };
        if let Err(error) = self.table.started(container_id, pid.as_raw(), own_cgroups) {
            say(format_args!("journal: {error}"));
        }
        self.starting.insert(pid.as_raw(), Starting { request, pipe, connection, id });
        Ok(())
    }

    /// The first process of the container whose namespaces a process enters.
    fn joined(&self, request: &SpawnRequest) -> Result<Option<Pid>, String> {
        let joins = request.enclosure.as_ref().map_or("", |enclosure| enclosure.joins.as_str());
        if joins.is_empty() {
            return Ok(None);
        }
        let child = self.table.get(joins).filter(|child| child.wait_status.is_none());
        let child = child.ok_or_else(|| format!("container '{joins}' does not run"))?;
        match self.starting.contains_key(&child.pid) {
            true => Err(format!("container '{joins}' does not run yet")),
            false => Ok(Some(Pid::from_raw(child.pid))),
        }
    }

    pub(super) fn finish_start(&mut self, pid: i32) {
        let Some(starting) = self.starting.remove(&pid) else { return };
        let body = match sys::failure_from(&starting.pipe) {
            None => Body::Spawned(Spawned { pid }),
            Some(failure) => {
                // It never ran: there is no status to remember, and its agent hears of it here.
                let forgotten = self.table.forget(&starting.request.container_id);
                self.note(forgotten);
                Body::Failed(Failed { message: process::failure_text(&starting.request, failure) })
            }
        };
        self.send(starting.connection, starting.id, body);
    }
}
