//! The agent's HTTP API: Mesos's unversioned endpoints, bare and under `/slave(1)`.

mod containers;
mod files;
mod metrics;
mod query;
mod reply;
mod sandboxes;
mod state;

use std::sync::Arc;

use meshos_mesh::{Clock, Env};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
};
use warp::{Filter, path::FullPath};

pub(crate) use sandboxes::Sandboxes;

use query::Query;
use reply::Reply;

use crate::{
    Config, MESOS_VERSION,
    containerizer::SharedContainerizer,
    core::View,
    detect::{self, Detected},
    runner::{Event, Identity},
};

/// What the handlers need.
#[derive(Debug)]
pub(crate) struct Api {
    clock: Clock,
    /// Unix time in seconds.
    started: f64,
    flags: Value,
    detected: Detected,
    identity: Identity,
    hostname: String,
    events: mpsc::Sender<Event>,
    sandboxes: Sandboxes,
    containerizer: SharedContainerizer,
}

impl Api {
    pub(crate) fn new(
        env: &Env,
        config: &Config,
        detected: Detected,
        (identity, hostname): (Identity, String),
        (events, sandboxes, containerizer): (mpsc::Sender<Event>, Sandboxes, SharedContainerizer),
    ) -> Arc<Self> {
        Arc::new(Self {
            clock: env.clock.clone(),
            started: env.clock.since_epoch().as_secs_f64(),
            flags: config.flags(),
            detected,
            identity,
            hostname,
            events,
            sandboxes,
            containerizer,
        })
    }

    fn now(&self) -> f64 {
        self.clock.since_epoch().as_secs_f64()
    }

    /// The present state; none while the agent ends.
    async fn view(&self) -> Option<View> {
        let (reply, view) = oneshot::channel();
        self.events.send(Event::View(reply)).await.ok()?;
        view.await.ok()
    }

    async fn answer(&self, path: &str, query: &Query) -> Reply {
        let path = query::decode(path, false);
        let path = path.strip_prefix("/slave(1)").unwrap_or(&path);
        let json = |value: Value| Reply::json(&value, query);
        match path {
            "/health" => Reply::empty(),
            "/version" => json(version()),
            "/flags" => json(json!({ "flags": self.flags })),
            "/system/stats.json" => json(system()),
            "/files/debug" => json(self.sandboxes.debug()),
            "/files/browse" => files::browse(&self.sandboxes, query).await,
            "/files/read" => files::read(&self.sandboxes, query).await,
            "/files/download" => files::download(&self.sandboxes, query).await,
            "/state" | "/metrics/snapshot" | "/containers" | "/monitor/statistics" => {
                let Some(view) = self.view().await else {
                    return Reply::unavailable("Agent has not finished recovery");
                };
                match path {
                    "/state" => json(state::state(self, &view)),
                    "/metrics/snapshot" => json(metrics::snapshot(self, &view)),
                    "/containers" => containers::containers(self, &view, query).await,
                    _ => json(containers::statistics(self, &view).await),
                }
            }
            _ => Reply::not_found(),
        }
    }
}

fn version() -> Value {
    json!({
        "build_date": "2026-01-01 00:00:00 UTC",
        "build_time": 1_767_225_600.0,
        "build_user": "meshos",
        "version": MESOS_VERSION,
    })
}

fn system() -> Value {
    let [one, five, fifteen] = detect::load();
    let (total, free) = detect::memory().unwrap_or_default();
    json!({
        "avg_load_15min": fifteen,
        "avg_load_1min": one,
        "avg_load_5min": five,
        "cpus_total": detect::cpus(),
        "mem_free_bytes": free,
        "mem_total_bytes": total,
    })
}

/// Serves until the environment's tasks stop.
pub(crate) fn serve(env: &Env, listener: TcpListener, api: Arc<Api>) {
    let raw_query = warp::query::raw().or(warp::any().map(String::new)).unify();
    // As in Mesos, reading endpoints do not look at the method.
    let answer = warp::path::full().and(raw_query).then(move |path: FullPath, raw: String| {
        let api = Arc::clone(&api);
        async move { api.answer(path.as_str(), &Query::parse(&raw)).await.into_response() }
    });
    env.tasks.spawn("agent-http", warp::serve(answer).incoming(listener).run());
}
