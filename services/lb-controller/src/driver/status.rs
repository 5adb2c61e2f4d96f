//! What the controller tells of itself and of HAProxy.

use std::collections::{BTreeSet, VecDeque};

use meshos_proto::meshos::lb::v1::{Problem, Server, ServerState, Service, Status};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, warn};

use super::{Driver, Report, signed};
use crate::{
    core::{self, slots::Slot},
    haproxy::{
        files::Files,
        workers::{self, Sessions},
    },
};

/// Questions for statuses that are under way at once, and those that wait.
const MOST: usize = 8;
const LONGEST_QUEUE: usize = 256;

/// Who wants a status.
type Asker = oneshot::Sender<Status>;

/// What is under way, for who asked.
#[derive(Debug)]
pub(super) struct Found {
    app_id: String,
    asker: Asker,
    sessions: Sessions,
}

#[derive(Debug)]
pub(super) struct Statuses {
    found: (mpsc::Sender<Found>, mpsc::Receiver<Found>),
    under_way: usize,
    waiting: VecDeque<(String, Asker)>,
}

impl Default for Statuses {
    fn default() -> Self {
        Self { found: mpsc::channel(MOST), under_way: 0, waiting: VecDeque::new() }
    }
}

impl Statuses {
    pub(super) async fn found(&mut self) -> Option<Found> {
        self.found.1.recv().await
    }
}

/// Requests and connections under way by server, in the worker and in older ones that answer.
async fn sessions(files: &Files, numbers: Option<Vec<u32>>) -> Sessions {
    let mut all = workers::sessions(files, numbers.as_deref()).await.unwrap_or_default();
    let old = workers::processes(files).await.map(|found| found.old_workers).unwrap_or_default();
    for (server, count) in workers::sessions_of_old(files, &old).await.unwrap_or_default() {
        *all.entry(server).or_default() += count;
    }
    all
}

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

    /// Has HAProxy asked what is under way, beside the loop.
    pub(super) fn ask_for_status(&mut self, app_id: String, asker: Asker) {
        if self.statuses.under_way == MOST {
            // Without an answer the asker is told that there is none now.
            if self.statuses.waiting.len() < LONGEST_QUEUE {
                self.statuses.waiting.push_back((app_id, asker));
            }
            return;
        }
        self.statuses.under_way += 1;
        let numbers = (!app_id.is_empty()).then(|| {
            let services = self.core.services(&app_id);
            services.filter_map(|service| self.running.numbers.get(&service.backend)).copied().collect()
        });
        let (files, found) = (self.files.clone(), self.statuses.found.0.clone());
        self.env.tasks.spawn("lb-status", async move {
            let sessions = sessions(&files, numbers).await;
            // Nobody listens at the end.
            let _ = found.send(Found { app_id, asker, sessions }).await;
        });
    }

    pub(super) fn answer_status(&mut self, found: Found) {
        // Who has gone needs no answer.
        let _ = found.asker.send(self.status(&found.app_id, &found.sessions));
        self.statuses.under_way -= 1;
        if let Some((app_id, asker)) = self.statuses.waiting.pop_front() {
            self.ask_for_status(app_id, asker);
        }
    }

    /// Of one app, or of all.
    fn status(&self, app_id: &str, sessions: &Sessions) -> Status {
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
            changing: self.is_changing(),
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
        "changing": status.changing,
        "reloads": status.reloads,
        "failedReloads": status.failed_reloads,
        "repairs": status.repairs,
        "problems": status.problems.iter().map(problem).collect::<Vec<_>>(),
        "services": status.services.iter().map(service).collect::<Vec<_>>(),
    })
}
