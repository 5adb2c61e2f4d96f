//! What the controller tells of itself and of HAProxy.

use meshos_proto::meshos::lb::v1::{Problem, Server, ServerState, Service, Status};
use serde_json::{Value, json};

use super::Driver;
use crate::{
    core::{self, slots::Slot},
    haproxy::socket,
};

impl Driver {
    /// Of one app, or of all.
    pub(super) async fn status(&self, app_id: &str) -> Status {
        let answer = socket::ask(&self.files.stats_socket(), "show stat -1 4 -1").await;
        let sessions = socket::sessions(&answer.unwrap_or_default());
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
