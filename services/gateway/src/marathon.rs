//! Marathon's HTTP API.

mod apps;
mod cors;
mod crowd;
mod deployments;
mod error;
mod events;
mod groups;
mod info;
mod leaving;
mod logging;
mod page;
mod read;
mod render;
mod routes;
mod selector;
mod tasks;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use meshos_mesh::{
    Env, InstanceInfo, LoggingLevel, MAX_MESSAGE_BYTES, MeshChannel, follow_instances, register_instance,
};
use meshos_proto::meshos::apps::v1::{
    ChangeResponse, ListUnusedOffersRequest, ResetDelayRequest, app_scheduler_client::AppSchedulerClient,
};
use meshos_store::SharedStore;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{
    client::{Leader, Repeat},
    http::{Api, Reply, Request},
    service::Identity,
    views::{Apps, Shared},
};
use cors::Cors;
use crowd::Crowd;
use error::ApiError;
pub(crate) use events::Hub;
pub(crate) use leaving::{Leaving, Named};
use page::Page;
use render::timestamp;
use routes::Route;

/// How long a write waits until the local view contains it.
const OWN_WRITE: Duration = Duration::from_secs(5);

/// What gateways are listed as.
const FRONTS: &str = "marathon";
/// A gateway that is gone is not named any longer after this time.
const FRONT_TTL: Duration = Duration::from_secs(5);

const DEPLOYMENT_ID: HeaderName = HeaderName::from_static("marathon-deployment-id");
const LEADER: HeaderName = HeaderName::from_static("x-marathon-leader");

/// On every reply.
const HEADERS: [(HeaderName, &str); 5] = [
    (header::CACHE_CONTROL, "no-cache, no-store, must-revalidate"),
    (header::PRAGMA, "no-cache"),
    (header::EXPIRES, "0"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::X_XSS_PROTECTION, "1; mode=block"),
];

type Answer = Result<Reply, ApiError>;

/// What is configured.
#[derive(Clone, Debug)]
pub(crate) struct About {
    pub(crate) mesos_url: String,
    /// Origins whose pages may read.
    pub(crate) allow_origin: Option<String>,
    /// Requests that may be answered at a time; none: any number.
    pub(crate) most_requests: Option<usize>,
    /// From [`fronts`].
    pub(crate) fronts: watch::Receiver<Vec<InstanceInfo>>,
}

/// Tells the other gateways of this one's Marathon API, and follows those that there are.
pub(crate) fn fronts(
    env: &Env,
    store: &SharedStore,
    identity: &Identity,
) -> watch::Receiver<Vec<InstanceInfo>> {
    let address = identity.authority();
    let info = InstanceInfo { instance: address.clone(), address };
    // Whether it is listed matters to nobody: it serves all the same.
    let _ = register_instance(env, store, FRONTS, info, FRONT_TTL);
    follow_instances(env, store, FRONTS)
}

/// The API's parts.
#[derive(Debug)]
pub(crate) struct Marathon {
    env: Env,
    leader: Arc<Leader>,
    apps: Shared<Apps>,
    identity: Identity,
    mesos_url: String,
    cors: Cors,
    logging: logging::Logging,
    crowd: Crowd,
    /// All gateways.
    fronts: watch::Receiver<Vec<InstanceInfo>>,
    /// Unix time in milliseconds.
    started_ms: u64,
}

#[async_trait]
impl Api for Marathon {
    fn route(&self, request: &Request) -> String {
        Route::of(&request.path).map_or("unknown", |route| route.template()).to_owned()
    }

    async fn handle(&self, request: Request) -> Reply {
        let mut reply = match self.cors.preflight(&request) {
            Some(reply) => reply,
            None => self.admit(&request).await.unwrap_or_else(|error| error.reply()),
        };
        reply = self.cors.allow(reply, &request);
        for (name, value) in HEADERS {
            reply.headers.insert(name, HeaderValue::from_static(value));
        }
        if self.apps.read(|_| ()).is_some() {
            reply = reply.set(LEADER, &format!("http://{}", self.leading_address()));
        }
        reply
    }
}

impl Marathon {
    pub(crate) fn new(
        env: &Env,
        leader: Arc<Leader>,
        apps: Shared<Apps>,
        identity: Identity,
        about: About,
    ) -> Self {
        let About { mesos_url, allow_origin, most_requests, fronts } = about;
        let (env, started_ms) = (env.clone(), env.clock.unix_ms());
        let cors = Cors::new(allow_origin);
        let logging = logging::Logging::new(LoggingLevel::new(&env.tasks));
        let crowd = Crowd::new(most_requests);
        let marathon =
            Self { env, leader, apps, identity, mesos_url, cors, logging, crowd, fronts, started_ms };
        marathon.introduce();
        marathon
    }

    /// `host:port` of the gateway that all gateways name as the leader. Each answers as it would.
    fn leading_address(&self) -> String {
        let first = self.fronts.borrow().first().map(|front| front.address.clone());
        first.unwrap_or_else(|| self.identity.authority())
    }

    /// Answers if there is room for one more.
    async fn admit(&self, request: &Request) -> Answer {
        // Whether this gateway lives is asked for by machines, often just when it is busy.
        let _room = match Route::of(&request.path) {
            Some(Route::Ping) => None,
            // Load balancers that cannot say that they let go of a task lose requests; they have limits of their own.
            Some(Route::Leaving | Route::LetGo(_)) => None,
            _ => self.crowd.enter()?,
        };
        self.answer(request).await
    }

    async fn answer(&self, request: &Request) -> Answer {
        let Some(route) = Route::of(&request.path) else {
            return Err(ApiError::not_found("URI not found"));
        };
        let text = matches!(route, Route::Tasks | Route::AppTasks(_)) && tasks::wants_text(request);
        if !text && !matches!(route, Route::Ping | Route::Prometheus | Route::Events | Route::Leaving) {
            check_accept(request)?;
        }
        match route {
            Route::Ping => info::ping(request),
            Route::Help => Ok(Reply::empty(StatusCode::FOUND).set(header::LOCATION, "/v2/openapi.json")),
            Route::Logging => self.logging.answer(request),
            Route::Config => self.read(request, |apps| Ok(self.flags(apps))),
            Route::Metrics => self.read(request, |apps| Ok(self.metrics(apps))),
            Route::Prometheus => self.prometheus(request),
            Route::Apps
            | Route::App(_)
            | Route::GroupApps(_)
            | Route::Restart(_)
            | Route::Versions(_)
            | Route::Version { .. } => self.answer_apps(&route, request).await,
            Route::AppTasks(_)
            | Route::GroupTasks(_)
            | Route::AppTask { .. }
            | Route::Tasks
            | Route::TasksDelete => self.answer_tasks(&route, request).await,
            Route::Deployments | Route::FinishedDeployments | Route::Deployment(_) => {
                self.answer_deployments(&route, request).await
            }
            Route::Queue => self.queue(request).await,
            Route::OpenApi => openapi(request),
            Route::QueueDelay(id) => self.reset_delay(id, request).await,
            Route::Group(_) | Route::GroupVersions(_) | Route::GroupVersion { .. } => {
                self.answer_groups(&route, request).await
            }
            Route::Root => Ok(Reply::empty(StatusCode::FOUND).set(header::LOCATION, "/ui/")),
            Route::Info => self.read(request, |apps| Ok(self.info(apps))),
            Route::Leader if request.method == Method::DELETE => self.abdicate(request).await,
            Route::Leader => self.show_leader(request),
            Route::Plugins => self.read(request, |_| Ok(json!({"plugins": []}))),
            Route::Plugin(id) => Err(ApiError::not_found(format!("No plugin with this pluginId: {id}"))),
            Route::Events => self.events(request).await,
            Route::Leaving => self.leaving(request).await,
            Route::LetGo(id) => self.let_go(&id, request),
            Route::NotThere(what) => Err(not_there(what)),
        }
    }

    /// A GET that is answered from the view.
    fn read(&self, request: &Request, render: impl FnOnce(&Apps) -> Result<Value, ApiError>) -> Answer {
        if request.verb() != Method::GET {
            return Err(method_not_allowed());
        }
        let found = self.apps.read(render).ok_or_else(ApiError::not_synced)??;
        Ok(Reply::json(&found))
    }

    /// Waits until reads of this gateway contain a change.
    async fn see(&self, revision: u64) {
        if !self.apps.wait((0, revision), OWN_WRITE).await {
            tracing::info!(revision, "view is behind an answered write");
        }
    }

    async fn queue(&self, request: &Request) -> Answer {
        let (now, page) = (self.env.clock.unix_ms(), Page::of(&request.query)?);
        let wanted = request.query.all("embed").any(|word| word == "lastUnusedOffers");
        if !wanted || request.verb() != Method::GET {
            return self.read(request, |apps| Ok(render::queue::queue(apps, now, page, None)));
        }
        let called = self.leader.call(Repeat::Safe, |channel| async move {
            client(channel).list_unused_offers(ListUnusedOffersRequest {}).await
        });
        let offers = called.await?.into_inner().offers;
        self.read(request, |apps| Ok(render::queue::queue(apps, now, page, Some(&offers))))
    }

    async fn reset_delay(&self, id: String, request: &Request) -> Answer {
        if request.method != Method::DELETE {
            return Err(method_not_allowed());
        }
        let call = ResetDelayRequest { app_id: id };
        let called = self.leader.call(Repeat::Safe, |channel| {
            let call = call.clone();
            async move { client(channel).reset_delay(call).await }
        });
        let change = called.await?.into_inner();
        self.see(change.revision).await;
        Ok(Reply::empty(StatusCode::NO_CONTENT))
    }
}

/// A client whose messages may be as large as the mesh allows.
fn client(channel: MeshChannel) -> AppSchedulerClient<MeshChannel> {
    AppSchedulerClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

/// `{"version":…,"deploymentId":…}`
fn deployment_result(status: StatusCode, change: &ChangeResponse) -> Reply {
    let body = json!({"version": timestamp(change.version_ms), "deploymentId": change.deployment_id});
    Reply::json_with(status, &body).set(DEPLOYMENT_ID, &change.deployment_id)
}

fn method_not_allowed() -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
}

/// The description of this API.
fn openapi(request: &Request) -> Answer {
    if request.verb() != Method::GET {
        return Err(method_not_allowed());
    }
    Ok(Reply::json_text(include_str!("marathon/openapi.json")))
}

/// A part of Marathon that this version does not have says so, rather than "not found".
fn not_there(what: &str) -> ApiError {
    let text = format!("{what}: not supported by this version of meshos");
    ApiError::new(StatusCode::NOT_IMPLEMENTED, text)
}

/// The reply is JSON; a client that excludes it is told.
fn check_accept(request: &Request) -> Result<(), ApiError> {
    let mut ranges = Vec::new();
    for value in request.headers.get_all(header::ACCEPT) {
        ranges.extend(value.to_str().unwrap_or_default().split(',').map(media_type));
    }
    let allowed = ["*/*", "application/*", "application/json", ""];
    if ranges.is_empty() || ranges.iter().any(|range| allowed.contains(&range.as_str())) {
        return Ok(());
    }
    Err(ApiError::new(StatusCode::NOT_ACCEPTABLE, "Not Acceptable"))
}

/// Without parameters, in lower case.
fn media_type(text: &str) -> String {
    text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// A JSON body: content type, size, syntax.
fn json_body(request: &Request) -> Result<Value, ApiError> {
    check_content_type(request)?;
    json_value(request)
}

fn check_content_type(request: &Request) -> Result<(), ApiError> {
    if let Some(value) = request.headers.get(header::CONTENT_TYPE)
        && value.to_str().map(media_type).ok().as_deref() != Some("application/json")
    {
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Unsupported Media Type"));
    }
    Ok(())
}

/// A JSON body whatever its content type says.
fn json_value(request: &Request) -> Result<Value, ApiError> {
    let body = request.body.as_ref().map_err(|error| ApiError::body(*error))?;
    let refused = |message: &str, details: String| ApiError {
        status: StatusCode::BAD_REQUEST,
        body: json!({"message": message, "details": details}),
    };
    if body.iter().all(u8::is_ascii_whitespace) {
        let details = "No content to map due to end-of-input";
        return Err(refused("Please specify data in JSON format", details.to_owned()));
    }
    serde_json::from_slice(body).map_err(|error| refused("Invalid JSON", error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(request: &Request) -> (u16, Value) {
        let error = json_body(request).unwrap_err();
        (error.status.as_u16(), error.body)
    }

    #[test]
    fn marathon_c04_c05_bodies_that_are_no_json() {
        let (status, broken) = body(&Request::test("POST", "/v2/apps", r#"{"id":"#));
        assert_eq!((status, &broken["message"]), (400, &json!("Invalid JSON")));
        assert!(broken["details"].is_string());
        let (status, empty) = body(&Request::test("POST", "/v2/apps", ""));
        assert_eq!(status, 400);
        assert!(empty["message"].as_str().unwrap().starts_with("Please specify data in JSON format"));
    }

    #[test]
    fn content_types() {
        let with =
            |value: &str| json_body(&Request::test("POST", "/v2/apps", "{}").with("content-type", value));
        assert!(with("application/json").is_ok());
        assert!(with("application/json; charset=utf-8").is_ok());
        let refused = with("application/x-www-form-urlencoded").unwrap_err();
        assert_eq!(
            (refused.status.as_u16(), refused.body),
            (415, json!({"message": "Unsupported Media Type"}))
        );
    }

    #[test]
    fn a_body_over_the_limit_says_which() {
        let mut request = Request::test("POST", "/v2/apps", "");
        request.body = Err(crate::http::BodyError::TooLarge(9));
        let (status, body) = body(&request);
        assert_eq!(status, 413);
        assert!(body["message"].as_str().unwrap().contains("limit of 9 bytes"));
    }

    #[test]
    fn accept_must_allow_json() {
        let with = |value: &str| check_accept(&Request::test("GET", "/v2/apps", "").with("accept", value));
        assert!(with("application/json").is_ok() && with("text/html, */*;q=0.8").is_ok());
        assert_eq!(with("text/html").unwrap_err().status.as_u16(), 406);
    }
}
