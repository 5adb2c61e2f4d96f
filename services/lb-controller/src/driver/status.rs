//! What the controller tells of itself and of HAProxy.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use meshos_proto::meshos::lb::v1::{Problem, Server, ServerState, Service, Status};
use serde_json::{Value, json};
use tokio::time::timeout;
use tracing::{debug, warn};

use super::{Driver, Report, signed};
use crate::{
    core::{self, slots::Slot},
    haproxy::socket,
};

/// An old worker that does not answer holds up the loop no longer: what it has is left out.
const PATIENCE: Duration = Duration::from_millis(300);

impl Driver {
    pub(super) fn seen(&self) -> Report {
        Report {
            revision: self.source.revision,
            apps: self.source.apps() as u64,
            instances: self.source.instances() as u64,
        }
    }

    /// Tells readers, metrics and the log what the table is like now.
    pub(super) async fn report(&mut self) {
        self.serving.ready().await;
        self.metrics.apps.set(signed(self.source.apps()));
        self.metrics.instances.set(signed(self.source.instances()));
        self.feed.publish(self.seen());
    }

    /// Names problems that are new.
    pub(super) fn name_problems(&mut self) {
        let problems: BTreeSet<core::model::Problem> =
            self.core.problems().into_iter().chain(self.own_problems.values().cloned()).collect();
        for problem in problems.difference(&self.known_problems) {
            let core::model::Problem { app_id, label, message } = problem;
            warn!(app_id, label, message, "cannot be published as asked for");
        }
        for problem in self.known_problems.difference(&problems) {
            debug!(app_id = problem.app_id, label = problem.label, "is published as asked for now");
        }
        self.metrics.problems.set(signed(problems.len()));
        self.known_problems = problems;
    }

    /// Requests and connections under way by server, in the worker and in older ones.
    async fn sessions(&self) -> BTreeMap<(String, String), u32> {
        let answer = socket::ask(&self.files.stats_socket(), "show stat -1 4 -1").await;
        let mut sessions = socket::sessions(&answer.unwrap_or_default());
        let old = self.process.processes().await.map(|found| found.old_workers).unwrap_or_default();
        for pid in old {
            let command = format!("@!{pid} show stat -1 4 -1; quit");
            let socket = self.files.master_socket();
            let asked = timeout(PATIENCE, socket::ask(&socket, &command)).await;
            let answer = asked.ok().and_then(Result::ok).unwrap_or_default();
            for (server, count) in socket::sessions(&answer) {
                *sessions.entry(server).or_default() += count;
            }
        }
        sessions
    }

    /// Of one app, or of all.
    pub(super) async fn status(&self, app_id: &str) -> Status {
        let sessions = self.sessions().await;
        let service = |service: &core::service::Service| {
            let slots = self.core.slots(&service.backend);
            let room = self.running.applied.get(&service.backend).map_or(0, Vec::len);
            let places = slots.into_iter().flat_map(core::slots::Slots::iter).enumerate();
            let server = |(index, slot): (usize, &Slot)| {
                let name = format!("s{}", index + 1);
                let count = sessions.get(&(service.backend.clone(), name.clone())).copied().unwrap_or(0);
                let state = match (&slot.task, slot.ready) {
                    (Some(_), true) if index < room => ServerState::Ready,
                    (Some(_), true) => ServerState::Waiting,
                    (None, _) if count == 0 => return None,
                    _ => ServerState::Draining,
                };
                Some(Server {
                    name,
                    instance_id: slot.task.clone().unwrap_or_default(),
                    address: slot
                        .endpoint
                        .map(|endpoint| std::net::SocketAddr::new(endpoint.ip, endpoint.port).to_string())
                        .unwrap_or_default(),
                    state: state.into(),
                    sessions: count,
                })
            };
            Service {
                app_id: service.app_id.clone(),
                index: u32::try_from(service.index).unwrap_or(u32::MAX),
                backend: service.backend.clone(),
                port: service.port.into(),
                vhosts: service.labels.vhosts.clone(),
                servers: places.filter_map(server).collect(),
            }
        };
        let problem = |problem: &core::model::Problem| Problem {
            app_id: problem.app_id.clone(),
            label: problem.label.clone(),
            message: problem.message.clone(),
        };
        Status {
            revision: self.source.revision,
            following: self.following,
            stale_since_ms: self.stale_since_ms,
            worker_pid: self.running.worker,
            reloads: self.metrics.reloads.get(),
            failed_reloads: self.failed_reloads,
            repairs: self.repairs,
            problems: self
                .known_problems
                .iter()
                .filter(|p| app_id.is_empty() || p.app_id == app_id)
                .map(problem)
                .collect(),
            services: self.core.services(app_id).map(service).collect(),
        }
    }
}

/// For scripts.
pub(crate) fn json(status: &Status) -> Value {
    let server = |server: &Server| {
        json!({
            "name": server.name,
            "instance": server.instance_id,
            "address": server.address,
            "state": match server.state() {
                ServerState::Ready => "ready",
                ServerState::Draining => "draining",
                ServerState::Waiting => "waiting",
                ServerState::Unspecified => "unknown",
            },
            "sessions": server.sessions,
        })
    };
    let service = |service: &Service| {
        json!({
            "app": service.app_id,
            "index": service.index,
            "backend": service.backend,
            "port": service.port,
            "vhosts": service.vhosts,
            "servers": service.servers.iter().map(server).collect::<Vec<_>>(),
        })
    };
    let problem = |problem: &Problem| json!({"app": problem.app_id, "label": problem.label, "message": problem.message});
    json!({
        "revision": status.revision,
        "following": status.following,
        "staleSince": status.stale_since_ms,
        "workerPid": status.worker_pid,
        "reloads": status.reloads,
        "failedReloads": status.failed_reloads,
        "repairs": status.repairs,
        "problems": status.problems.iter().map(problem).collect::<Vec<_>>(),
        "services": status.services.iter().map(service).collect::<Vec<_>>(),
    })
}
