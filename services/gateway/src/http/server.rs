//! Accepts connections and hands each request to an API.

use std::{net::IpAddr, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{FutureExt, StreamExt};
use http::{HeaderMap, Method, StatusCode, header::CONTENT_LENGTH};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use meshos_mesh::{Env, Listener, transport::Io};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{Instrument, Span, debug, error, info_span};
use warp::Filter;

use super::{Query, Reply, Request, gzip, request, stall::StallGuard};
use crate::metrics::HttpMetrics;

/// A request's head must be complete within this time, and an idle connection is closed after it.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// A client that takes nothing for this long is cut off.
const WRITE_PATIENCE: Duration = Duration::from_secs(30);
/// Largest head of a request, in bytes; hyper takes no less than 8 KiB.
const HEAD_BYTES: usize = 64 * 1024;
/// Open connections of one listener; more wait in the system's queue.
const CONNECTIONS: usize = 16 * 1024;
/// How long running requests may take after the server was asked to stop.
const DRAIN: Duration = Duration::from_secs(3);
/// Pause after a failed accept, which mostly means that descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// One HTTP API.
#[async_trait]
pub(crate) trait Api: Send + Sync + 'static {
    /// The route's template, for the span's name: `/v2/apps/{id}`.
    fn route(&self, request: &Request) -> String;
    /// Answers.
    async fn handle(&self, request: Request) -> Reply;
}

/// Serves `api` on `listener` until the environment's tasks stop. Bodies over `body_limit` bytes are refused.
pub(crate) fn serve(
    env: &Env,
    listener: Listener,
    api: Arc<dyn Api>,
    body_limit: usize,
    metrics: HttpMetrics,
) {
    let name = metrics.api();
    let server = Server { env: env.clone(), name, api, body_limit, metrics };
    env.tasks.spawn(name, server.accept(listener));
}

#[derive(Clone)]
struct Server {
    env: Env,
    name: &'static str,
    api: Arc<dyn Api>,
    body_limit: usize,
    metrics: HttpMetrics,
}

impl Server {
    async fn accept(self, mut listener: Listener) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
            match listener.incoming.next().await {
                None => return,
                Some(Ok(io)) => {
                    let connection = self.clone().connection(io, slot);
                    self.env.tasks.spawn_graceful(self.name, connection);
                }
                Some(Err(error)) => {
                    debug!(server = self.name, %error, "connection not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn connection(self, io: Io, _slot: OwnedSemaphorePermit) {
        let stop = self.env.tasks.stopping();
        let peer = io.peer();
        let io = TokioIo::new(StallGuard::new(io, WRITE_PATIENCE));
        let service = TowerToHyperService::new(warp::service(self.filter(peer)));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            .max_buf_size(HEAD_BYTES)
            .serve_connection(io, service);
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            biased;
            ended = connection.as_mut() => Some(ended),
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                tokio::time::timeout(DRAIN, connection.as_mut()).await.ok()
            }
        };
        if let Some(Err(error)) = ended {
            debug!(%error, "connection ended");
        }
    }

    fn filter(
        self,
        peer: Option<IpAddr>,
    ) -> impl Filter<Extract = (warp::reply::Response,), Error = warp::Rejection> + Clone + Send + Sync + 'static
    {
        let raw_query = warp::query::raw().or(warp::any().map(String::new)).unify();
        warp::any()
            .and(warp::method())
            .and(warp::path::full())
            .and(raw_query)
            .and(warp::header::headers_cloned())
            .and(warp::body::stream())
            .then(
                move |method: Method, path: warp::path::FullPath, query: String, headers: HeaderMap, body| {
                    let server = self.clone();
                    async move {
                        let announced =
                            headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
                        let body = request::collect(body, announced, server.body_limit).await;
                        let body = body.and_then(|body| gzip::unpack(&headers, body, server.body_limit));
                        let packed = gzip::accepted(&headers);
                        let path = path.as_str().to_owned();
                        let query = Query::parse(&query);
                        let request = Request { method, path, query, headers, body, peer };
                        let reply = server.answer(request).await;
                        let reply = if packed { gzip::pack(reply) } else { reply };
                        reply.into_response()
                    }
                },
            )
    }

    async fn answer(&self, request: Request) -> Reply {
        let pending = self.metrics.begin();
        let span = request_span(&request, &self.api.route(&request));
        let handled =
            AssertUnwindSafe(self.api.handle(request)).catch_unwind().instrument(span.clone()).await;
        let reply = handled.unwrap_or_else(|_| {
            span.in_scope(|| error!(server = self.name, "request handler panicked"));
            Reply::text(StatusCode::INTERNAL_SERVER_ERROR, "Internal error; see the gateway's log")
        });
        pending.answered(reply.status.as_u16());
        span.record("http.response.status_code", reply.status.as_u16());
        reply
    }
}

/// OpenTelemetry's names for HTTP server spans.
fn request_span(request: &Request, route: &str) -> Span {
    let name = format!("{} {route}", request.method);
    let span = info_span!(
        "http",
        otel.name = name,
        otel.kind = "server",
        http.request.method = %request.method,
        http.route = route,
        url.path = request.path,
        http.response.status_code = tracing::field::Empty,
    );
    if let Some(parent) = request.header("traceparent") {
        meshos_mesh::trace::set_parent(&span, parent);
    }
    span
}
