//! The agent's HTTP API: Mesos's unversioned endpoints, bare and under `/slave(1)`.

mod api;
mod containers;
mod executor;
mod files;
mod firewall;
mod help;
mod metrics;
mod query;
mod reply;
mod request;
mod running;
mod sandboxes;
mod state;

use std::{path::PathBuf, sync::Arc, time::Duration};

use meshos_mesh::{Clock, Env, LoggingLevel, Tasks};
use meshos_proto::meshos::registry::v1::Leader;
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot, watch},
};
use warp::{Filter, http::StatusCode, path::FullPath};

pub(crate) use firewall::Firewall;
pub(crate) use sandboxes::Sandboxes;

use query::Query;
use reply::Reply;
use request::Request;

use crate::{
    Config, MESOS_VERSION,
    console::Consoles,
    containerizer::SharedContainerizer,
    core::View,
    detect,
    housekeeping::Past,
    runner::{Event, Identity},
    token::Secret,
};

/// What the handlers need.
#[derive(Debug)]
pub(crate) struct Api {
    clock: Clock,
    tasks: Tasks,
    /// Unix time in seconds.
    started: f64,
    flags: Value,
    identity: Identity,
    hostname: String,
    events: mpsc::Sender<Event>,
    sandboxes: Sandboxes,
    containerizer: SharedContainerizer,
    past: Past,
    recovery: Duration,
    leader: watch::Receiver<Option<Leader>>,
    /// What executors' tokens are signed with; absent: they need none.
    executor_secret: Option<Secret>,
    logging: LoggingLevel,
    consoles: Consoles,
    /// Where the pipes of attached containers are.
    io: PathBuf,
    /// Between heartbeats on the streams of attached containers.
    heartbeat: Duration,
    firewall: Firewall,
    /// Files of logs by the names that `/state` gives them.
    logs: Vec<(&'static str, String)>,
}

/// What the start of the agent found out.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) executor_secret: Option<Secret>,
    pub(crate) firewall: Firewall,
    /// How long finding everything again took.
    pub(crate) recovery: Duration,
    /// The leading allocator.
    pub(crate) leader: watch::Receiver<Option<Leader>>,
}

impl Api {
    pub(crate) fn new(
        env: &Env,
        config: &Config,
        (identity, hostname, facts): (Identity, String, Facts),
        (events, sandboxes, containerizer, past): (mpsc::Sender<Event>, Sandboxes, SharedContainerizer, Past),
    ) -> Arc<Self> {
        let io = config.work_dir.join("io");
        // Pipes of an agent process before this one, which nobody reads any more.
        let _ = std::fs::remove_dir_all(&io);
        Arc::new(Self {
            clock: env.clock.clone(),
            tasks: env.tasks.clone(),
            started: env.clock.since_epoch().as_secs_f64(),
            flags: config.flags(),
            identity,
            hostname,
            events,
            sandboxes,
            containerizer,
            past,
            recovery: facts.recovery,
            leader: facts.leader,
            executor_secret: facts.executor_secret,
            firewall: facts.firewall,
            logs: config.shown_logs(),
            logging: LoggingLevel::new(&env.tasks),
            consoles: Consoles::default(),
            io,
            heartbeat: config.http_heartbeat_interval,
        })
    }

    /// Where a container's pipes are made.
    fn io_directory(&self, path: &str) -> PathBuf {
        self.io.join(path)
    }

    /// Host of the leading allocator.
    fn master(&self) -> Option<String> {
        let leader = self.leader.borrow();
        let address = leader.as_ref()?.address.as_str();
        Some(address.rsplit_once(':').map_or(address, |(host, _)| host).to_owned())
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

    async fn answer(&self, request: Request) -> Reply {
        if self.firewall.closes(&request.path) {
            return Reply::text(StatusCode::FORBIDDEN, format!("Endpoint '{}' is disabled", request.path));
        }
        match request.path.as_str() {
            "/api/v1/executor" => return executor::handle(self, request).await,
            "/api/v1" => return api::handle(self, request).await,
            _ => {}
        }
        let (path, query) = (request.path.as_str(), &request.query);
        let json = |value: Value| Reply::json(&value, query);
        match path {
            "/health" => Reply::empty(),
            "/version" => json(version()),
            "/flags" => json(json!({ "flags": self.flags })),
            "/system/stats.json" => json(system()),
            "/logging/toggle" => match self.logging.toggle(query.get("level"), query.get("duration")) {
                Ok(text) if text.is_empty() => Reply::empty(),
                Ok(text) => Reply::text(StatusCode::OK, text),
                Err(why) => Reply::bad_request(why),
            },
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
            path => match path.strip_prefix("/help") {
                Some(rest) if rest.is_empty() || rest.starts_with('/') => help::help(rest, query),
                _ => Reply::not_found(),
            },
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
    let handle = move |method, path: FullPath, raw: String, headers, body| {
        let api = Arc::clone(&api);
        async move {
            let path = query::decode(path.as_str(), false);
            let path = path.strip_prefix("/slave(1)").unwrap_or(&path).to_owned();
            let query = Query::parse(&raw);
            api.answer(Request { method, path, query, headers, body }).await.into_response()
        }
    };
    // As in Mesos, reading endpoints do not look at the method.
    let answer = warp::method()
        .and(warp::path::full())
        .and(raw_query)
        .and(warp::header::headers_cloned())
        .and(warp::body::stream().map(request::body_stream))
        .then(handle);
    env.tasks.spawn("agent-http", warp::serve(answer).incoming(listener).run());
}
