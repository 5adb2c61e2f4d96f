//! The Mesos master's HTTP API: unversioned endpoints, v1 scheduler, v1 operator.
//!
//! Every path answers both bare and under `/master`.

mod about;
mod call;
mod constraints;
mod documents;
mod explain;
mod figures;
mod files;
mod forms;
mod gone;
mod help;
mod logging;
mod operator;
mod registry;
mod render;
mod roles;
mod routes;
mod scheduler;
mod settings;
mod snapshot;
mod system;
mod tasks;
mod validate;
mod writes;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, StatusCode, header};
use meshos_mesh::Env;
use meshos_proto::{
    meshos::allocator::v1::{TeardownRequest, operator_client::OperatorClient},
    mesos::v1::FrameworkId,
};
use prometheus::IntGauge;
use serde_json::json;
use tonic::Code;

use crate::{
    client::{CallError, Leader, Repeat},
    http::{Api, BodyError, Query, Reply, Request},
    metrics,
    replicas::Replicas,
    views::{Cluster, Shared},
};
pub(crate) use about::About;
use documents::{Asked, Documents};
use operator::Subscribers;
use routes::Route;
use scheduler::SchedulerCalls;

/// How long a write waits until the local view shows it.
const OWN_WRITE: Duration = Duration::from_secs(2);

/// The API's parts.
#[derive(Debug)]
pub(crate) struct Mesos {
    env: Env,
    allocator: Arc<Leader>,
    registry: Replicas,
    calls: SchedulerCalls,
    cluster: Shared<Cluster>,
    about: About,
    /// Requests that are being answered.
    requests: IntGauge,
    /// Open event streams.
    streams: IntGauge,
    /// Event streams of operators.
    subscribers: Subscribers,
    leader_metrics: figures::Kept,
    documents: Documents,
    logging: meshos_mesh::LoggingLevel,
    /// Unix time in milliseconds.
    started_ms: u64,
}

#[async_trait]
impl Api for Mesos {
    fn route(&self, request: &Request) -> String {
        Route::of(&request.path).map_or("unknown", Route::template).to_owned()
    }

    async fn handle(&self, request: Request) -> Reply {
        let Some(route) = Route::of(&request.path) else { return not_found() };
        let methods = route.methods();
        if !methods.is_empty() && !methods.contains(&request.verb().as_str()) {
            return method_not_allowed(methods, &request.method);
        }
        match route {
            // Boxed: a call is a large message.
            Route::Scheduler => Box::pin(self.scheduler(request)).await,
            Route::Operator => self.operator(request).await,
            Route::Teardown
            | Route::Reserve
            | Route::Unreserve
            | Route::CreateVolumes
            | Route::DestroyVolumes => self.form(route, &request).await,
            _ => with_jsonp(self.read_or_set(route, &request).await, &request.query),
        }
    }
}

impl Mesos {
    /// `requests` counts those that are being answered.
    pub(crate) fn new(
        env: &Env,
        (allocator, registry): (Arc<Leader>, Replicas),
        cluster: Shared<Cluster>,
        about: About,
        requests: IntGauge,
    ) -> Self {
        let subscribers = Subscribers::new(about.event_streams);
        Self {
            env: env.clone(),
            calls: SchedulerCalls::new(env, &allocator),
            allocator,
            registry,
            cluster,
            about,
            requests,
            streams: metrics::event_streams(env),
            subscribers,
            leader_metrics: figures::Kept::default(),
            documents: Documents::default(),
            logging: meshos_mesh::LoggingLevel::new(&env.tasks),
            started_ms: env.clock.unix_ms(),
        }
    }

    async fn read_or_set(&self, route: Route, request: &Request) -> Reply {
        let query = &request.query;
        match route {
            Route::Health => Reply::empty(StatusCode::OK),
            Route::Redirect => self.redirect(),
            Route::Metrics => self.metrics_snapshot(query).await,
            Route::Prometheus => self.prometheus().await,
            Route::Explain => self.explain(query).await,
            Route::Weights => self.weights(request).await,
            Route::Quota => self.quota(request).await,
            Route::LoggingToggle => logging::toggle(&self.logging, query),
            Route::Help => help::help(Route::help_topic(&request.path), query),
            Route::FilesBrowse | Route::FilesRead | Route::FilesDownload => self.files(route, query).await,
            Route::ProfilerStart | Route::ProfilerStop => no_profiler(),
            Route::MachineDown | Route::MachineUp => not_here("Maintenance of machines"),
            Route::MaintenanceSchedule if request.method == Method::POST => {
                not_here("A maintenance schedule")
            }
            _ => self.document(route, query).await,
        }
    }

    /// The JSON of an endpoint that only reads.
    async fn document(&self, route: Route, query: &Query) -> Reply {
        match route {
            Route::Version => Reply::json(&self.about.version()),
            Route::Flags => Reply::json(&json!({"flags": self.about.flags()})),
            Route::SystemStats => Reply::json(&system::stats()),
            Route::FilesDebug => self.attached(),
            // Actors of Mesos's library: there are none here.
            Route::Processes => Reply::json(&json!([])),
            // Nothing is planned and nothing drained.
            Route::MaintenanceStatus | Route::MaintenanceSchedule => {
                self.cluster.read(|_| Reply::json(&json!({}))).unwrap_or_else(no_leader)
            }
            _ => self.picture(route, query).await.map_or_else(no_leader, Reply::json_text),
        }
    }

    /// The JSON of an endpoint that shows much of the cluster.
    async fn picture(&self, route: Route, query: &Query) -> Option<Bytes> {
        if route == Route::Tasks && tasks::is_short(query) {
            return self.cluster.read(|cluster| tasks::tasks(cluster, query).into());
        }
        let about = &self.about;
        let render = |cluster: &Cluster| match route {
            Route::StateSummary => render::summary(cluster, about),
            Route::Slaves => render::slaves(cluster, query.get("slave_id")),
            Route::Frameworks => render::frameworks(cluster, query.get("framework_id")),
            Route::Tasks => tasks::tasks(cluster, query),
            Route::Roles => roles::roles(cluster).to_string().into_bytes(),
            Route::OfferConstraints => constraints::debug(cluster),
            Route::Registry => registry::registry(cluster, about),
            _ => render::state(cluster, about),
        };
        self.documents.get(&self.cluster, Asked::Path(route, query.clone()), render).await
    }

    fn redirect(&self) -> Reply {
        if self.cluster.read(|_| ()).is_none() {
            return no_leader();
        }
        let location = format!("//{}", self.about.identity.authority());
        Reply::empty(StatusCode::TEMPORARY_REDIRECT).set(header::LOCATION, &location)
    }

    /// Removes a framework, and waits until the view shows it.
    async fn tear_down(&self, id: &str) -> Reply {
        let request = TeardownRequest { framework_id: Some(FrameworkId { value: id.to_owned() }) };
        let called = self.allocator.call(Repeat::Unsafe, |channel| {
            let request = request.clone();
            async move { OperatorClient::new(channel).teardown(request).await }
        });
        let written = called.await.map(|answer| (answer.get_ref().epoch, answer.get_ref().revision));
        self.written(written, StatusCode::OK).await
    }
}

/// What a failed call to the allocator is over HTTP; the refusal's message is Mesos's text.
fn refusal(error: &CallError) -> Reply {
    let status = match error {
        CallError::NoLeader { .. } => return no_leader(),
        CallError::Silent { .. } | CallError::Broken { .. } => StatusCode::SERVICE_UNAVAILABLE,
        CallError::Refused(status) => match status.code() {
            Code::InvalidArgument | Code::NotFound | Code::OutOfRange => StatusCode::BAD_REQUEST,
            Code::PermissionDenied => StatusCode::FORBIDDEN,
            Code::Unauthenticated => StatusCode::UNAUTHORIZED,
            Code::AlreadyExists | Code::Aborted | Code::FailedPrecondition => StatusCode::CONFLICT,
            Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
            Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
            Code::Internal | Code::Unknown | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        },
    };
    Reply::text(status, error.to_string())
}

fn not_found() -> Reply {
    Reply::text(StatusCode::NOT_FOUND, "404 Not Found.")
}

fn no_leader() -> Reply {
    Reply::text(StatusCode::SERVICE_UNAVAILABLE, "No leader elected")
}

fn method_not_allowed(allowed: &[&str], method: &Method) -> Reply {
    let expected = allowed.join("', '");
    let text =
        format!("405 Method Not Allowed. Expecting one of {{ '{expected}' }}, but received '{method}'.");
    Reply::text(StatusCode::METHOD_NOT_ALLOWED, text).set(header::ALLOW, &allowed.join(", "))
}

/// As a Mesos that was built without it.
fn no_profiler() -> Reply {
    const TEXT: &str =
        "Perftools is disabled. To enable perftools, configure libprocess with --enable-perftools.\n";
    Reply::text(StatusCode::BAD_REQUEST, TEXT)
}

fn not_here(what: &str) -> Reply {
    Reply::text(StatusCode::NOT_IMPLEMENTED, format!("{what} is not supported by this version of meshos"))
}

/// A body that did not come, or not whole.
fn bad_body(error: BodyError) -> Reply {
    match error {
        BodyError::TooLarge(limit) => Reply::text(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!(
                "The request's body is over the limit of {limit} bytes; raise --mesos-body-limit or send less"
            ),
        ),
        BodyError::Timeout => {
            Reply::text(StatusCode::REQUEST_TIMEOUT, "The request's body did not come in time")
        }
        BodyError::Broken => Reply::text(StatusCode::BAD_REQUEST, "The request's body broke off"),
    }
}

/// `fn(<json>)` when the query asks for it.
fn with_jsonp(reply: Reply, query: &Query) -> Reply {
    // Nothing but the name of a function, so that no page can be made to run other code from here.
    let name = |text: &&str| text.chars().all(|c| c.is_ascii_alphanumeric() || "_$.[]".contains(c));
    let function = query.get("jsonp").filter(name);
    let json = reply.headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    let (Some(function), true, StatusCode::OK) = (function, json, reply.status) else { return reply };
    let crate::http::reply::Body::Full(body) = &reply.body else { return reply };
    let mut text = Vec::with_capacity(body.len() + function.len() + 2);
    text.extend_from_slice(function.as_bytes());
    text.push(b'(');
    text.extend_from_slice(body);
    text.push(b')');
    Reply::bytes(StatusCode::OK, "text/javascript", text)
}
