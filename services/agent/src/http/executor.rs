//! `POST /api/v1/executor`: calls of executors, and their event streams. Order of the checks and texts are those of
//! Mesos.

mod validate;

use std::time::Duration;

use bytes::Bytes;
use meshos_proto::{
    call::{self, Encoding, Refusal},
    mesos::v1::executor::{Call, Event, call::Type, event},
    recordio,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until, timeout},
};
use tracing::{debug, info};
use warp::http::{HeaderValue, StatusCode, header};

use super::{Api, reply::Reply, request::Request};
use crate::{
    core::CallError,
    runner::{Event as RunnerEvent, ExecutorRequest},
    token::{self, Claims},
};

/// Between heartbeats of an event stream.
const HEARTBEAT: Duration = Duration::from_secs(30 * 60);
/// Events that an executor may be behind.
const EVENTS: usize = 1024;
/// Pieces of a body on their way into the connection.
const PIECES: usize = 16;
/// How long an executor may take to read one.
const PATIENCE: Duration = Duration::from_secs(30);
const REALM: &str = "mesos-agent-executor";

/// Answers a call of an executor.
pub(super) async fn handle(api: &Api, mut request: Request) -> Reply {
    match answer(api, &mut request).await {
        Ok(reply) | Err(reply) => reply,
    }
}

async fn answer(api: &Api, request: &mut Request) -> Result<Reply, Reply> {
    let claims = authenticate(api, request)?;
    request.post_only()?;
    let content_type = request.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let encoding = call::content_type(content_type).map_err(refused)?;
    let call: Call = encoding.decode(&request.body().await?).map_err(refused)?;
    let kind = validate::call(&call)
        .map_err(|why| Reply::bad_request(format!("Failed to validate Executor::Call: {why}")))?;
    match kind {
        Type::Subscribe => {
            let encoding = accept(request)?;
            subscribe(api, encoding, call, claims).await
        }
        Type::Unknown => Err(Reply::text(StatusCode::NOT_IMPLEMENTED, "501 Not Implemented.")),
        _ => {
            submit(api, call, claims, None).await?;
            Ok(Reply::status(StatusCode::ACCEPTED))
        }
    }
}

/// What the caller proves to be, where executors have to.
fn authenticate(api: &Api, request: &Request) -> Result<Option<Claims>, Reply> {
    let Some(secret) = &api.executor_secret else { return Ok(None) };
    let realm = format!("Bearer realm=\"{REALM}\"");
    let Some(token) = request.header("authorization").and_then(|value| value.strip_prefix("Bearer ")) else {
        return Err(Reply::status(StatusCode::UNAUTHORIZED).with(header::WWW_AUTHENTICATE, &realm));
    };
    let refuse = |why: String| {
        let challenge = format!("{realm}, error=\"invalid_token\", error_description=\"{why}\"");
        Reply::text(StatusCode::UNAUTHORIZED, why).with(header::WWW_AUTHENTICATE, &challenge)
    };
    token::check(secret, token.trim()).map(Some).map_err(refuse)
}

pub(super) fn refused(refusal: Refusal) -> Reply {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_REQUEST);
    Reply::text(status, refusal.text)
}

/// What the client wants to read.
pub(super) fn accept(request: &Request) -> Result<Encoding, Reply> {
    let headers = request.headers.get_all(header::ACCEPT).iter();
    call::accept(headers.map(|value| value.to_str().unwrap_or_default())).map_err(refused)
}

async fn submit(
    api: &Api,
    call: Call,
    claims: Option<Claims>,
    events: Option<mpsc::Sender<Event>>,
) -> Result<u64, Reply> {
    let (reply, answer) = oneshot::channel();
    let request = ExecutorRequest { call: Box::new(call), claims, events, reply };
    let ended = || Reply::unavailable("Agent has not finished recovery");
    api.events.send(RunnerEvent::Executor(request)).await.map_err(|_| ended())?;
    answer.await.map_err(|_| ended())?.map_err(|error| {
        let status = match error {
            CallError::NoFramework | CallError::NoExecutor => StatusCode::BAD_REQUEST,
            CallError::NotSubscribed | CallError::OtherClaims => StatusCode::FORBIDDEN,
        };
        Reply::text(status, error.to_string())
    })
}

async fn subscribe(
    api: &Api,
    encoding: Encoding,
    call: Call,
    claims: Option<Claims>,
) -> Result<Reply, Reply> {
    let (events, receiver) = mpsc::channel(EVENTS);
    let stream = submit(api, call, claims, Some(events)).await?;
    let (pieces, body) = mpsc::channel(PIECES);
    let runner = api.events.clone();
    api.tasks.spawn("executor-stream", async move {
        pump(receiver, encoding, pieces).await;
        let _ = runner.send(RunnerEvent::ExecutorGone { stream }).await;
    });
    Ok(Reply::stream(encoding.content_type(), body))
}

/// Carries events to the executor until either side ends.
async fn pump(mut events: mpsc::Receiver<Event>, encoding: Encoding, client: mpsc::Sender<Bytes>) {
    let mut beat = Instant::now() + HEARTBEAT;
    loop {
        let event = tokio::select! {
            biased;
            () = client.closed() => return debug!("executor closed its event stream"),
            event = events.recv() => match event {
                Some(event) => event,
                None => return,
            },
            () = sleep_until(beat) => {
                beat = Instant::now() + HEARTBEAT;
                Event { r#type: Some(event::Type::Heartbeat as i32), ..Event::default() }
            }
        };
        let record = recordio::encode(&encoding.encode(&event));
        if !matches!(timeout(PATIENCE, client.send(record)).await, Ok(Ok(()))) {
            return info!("executor does not read, its event stream is cut off");
        }
    }
}
