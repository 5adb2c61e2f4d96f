//! Calls whose request or answer goes on: sessions, and what is attached to a container's input and output.

use std::time::Duration;

use bytes::Bytes;
use meshos_mesh::Tasks;
use meshos_proto::{
    call::Encoding,
    mesos::v1::{
        self as pb,
        agent::{
            Call, ProcessIo,
            call::{Type, attach_container_input},
            process_io::{self, control, data},
        },
    },
    recordio::{self, Decoder},
};
use tokio::{
    sync::{broadcast, mpsc},
    time::{Instant, sleep_until, timeout},
};
use tracing::{debug, info};
use warp::http::StatusCode;

use futures::StreamExt;

use super::{
    containers::{no_console, start},
    media::Media,
};
use crate::{
    console::{Console, Input, Source, short},
    core::{NestedLaunch, container_path},
    http::{Api, reply::Reply, request::BodyStream},
    runner::{ContainerRequest, Event},
};

/// Largest record of an input.
const RECORD: usize = 1024 * 1024;
/// Pieces of an answer on their way into the connection.
const PIECES: usize = 64;
/// How long a client may take to read one.
const PATIENCE: Duration = Duration::from_secs(30);
const SIGKILL: i32 = 9;

/// A body that is a stream of calls.
pub(super) struct Records {
    body: BodyStream,
    encoding: Encoding,
    decoder: Decoder,
}

impl Records {
    pub(super) fn new(body: BodyStream, encoding: Encoding) -> Self {
        Self { body, encoding, decoder: Decoder::new(RECORD) }
    }

    /// The next call; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Call>, Reply> {
        loop {
            let record = self.decoder.next().map_err(|error| Reply::bad_request(error.to_string()))?;
            if let Some(record) = record {
                return self.encoding.decode(&record).map(Some).map_err(super::super::executor::refused);
            }
            match self.body.next().await {
                Some(Some(piece)) => self.decoder.push(&piece),
                Some(None) => return Err(Reply::bad_request("The request's body broke off")),
                None if self.decoder.is_at_boundary() => return Ok(None),
                None => return Err(Reply::bad_request("The request's body ended in the middle of a record")),
            }
        }
    }
}

/// A container that is being started: if the client goes meanwhile, nothing is left behind.
pub(super) struct Starting {
    pub(super) console: std::sync::Arc<Console>,
    /// What to end with the client.
    pub(super) session: Option<(Tasks, mpsc::Sender<Event>, pb::ContainerId)>,
}

impl Drop for Starting {
    fn drop(&mut self) {
        self.console.handed_over();
        let Some((tasks, events, id)) = self.session.take() else { return };
        tasks.spawn("session-kill", async move {
            let (reply, _) = tokio::sync::oneshot::channel();
            let kill = ContainerRequest::Signal { id, signal: SIGKILL, reply };
            let _ = events.send(Event::Container(kill)).await;
        });
    }
}

/// Runs a command beside a container, for as long as the client listens.
pub(super) async fn session(api: &Api, call: Call, media: Media) -> Result<Reply, Reply> {
    let part = call.launch_nested_container_session.unwrap_or_default();
    let path = container_path(&part.container_id);
    let tty = part.container.as_ref().and_then(|container| container.tty_info);
    let directory = api.io_directory(&path);
    let (console, stdio) = Console::open(&api.tasks, &directory, tty.as_ref()).map_err(no_console)?;
    // Before it starts, so that nothing is missed.
    let output = console.output();
    let launch = NestedLaunch {
        container_id: part.container_id.clone(),
        command: part.command,
        container: part.container,
        stdio: Some(stdio),
        is_session: true,
        ..NestedLaunch::default()
    };
    let session = Some((api.tasks.clone(), api.events.clone(), part.container_id.clone()));
    let mut starting = Starting { console: std::sync::Arc::clone(&console), session };
    let started = start(api, launch).await;
    starting.session = None;
    drop(starting);
    match started? {
        StatusCode::OK => {}
        _ => return Err(Reply::text(StatusCode::CONFLICT, format!("Container '{path}' already exists"))),
    }
    let Some(output) = output else { return Err(not_attachable()) };
    api.consoles.insert(&path, console);
    let (pieces, body) = mpsc::channel(PIECES);
    let outlet = Outlet { output, encoding: media.accept, beat: api.heartbeat, client: pieces };
    let (events, consoles) = (api.events.clone(), api.consoles.clone());
    api.tasks.spawn("container-session", async move {
        let left = outlet.carry().await;
        consoles.remove(&path);
        if left == Left::Client {
            info!(container_id = path, "client of a session is gone: its container is killed");
            let (reply, _) = tokio::sync::oneshot::channel();
            let kill = ContainerRequest::Signal { id: part.container_id, signal: SIGKILL, reply };
            let _ = events.send(Event::Container(kill)).await;
        }
    });
    Ok(Reply::stream(media.content_type(), body))
}

/// The output of a container from now on.
pub(super) fn attach_output(api: &Api, call: Call, media: Media) -> Result<Reply, Reply> {
    let id = call.attach_container_output.unwrap_or_default().container_id;
    let console = api.consoles.get(&container_path(&id)).ok_or_else(|| not_found(&id))?;
    let output = console.output().ok_or_else(|| not_found(&id))?;
    let (pieces, body) = mpsc::channel(PIECES);
    let outlet = Outlet { output, encoding: media.accept, beat: api.heartbeat, client: pieces };
    api.tasks.spawn("container-output", async move {
        let _ = outlet.carry().await;
    });
    Ok(Reply::stream(media.content_type(), body))
}

/// Hands the client's input to a container, until the client ends it.
pub(super) async fn attach_input(api: &Api, call: Call, mut records: Records) -> Result<Reply, Reply> {
    let id = call.attach_container_input.and_then(|part| part.container_id);
    let id = id.ok_or_else(|| {
        Reply::bad_request("Expecting 'attach_container_input.container_id' in the first record")
    })?;
    let path = container_path(&id);
    let console = api.consoles.get(&path).ok_or_else(|| not_found(&id))?;
    let Some(input) = console.take_input() else {
        return Err(Reply::text(StatusCode::CONFLICT, "Multiple input connections are not allowed"));
    };
    // However this ends, also when the client goes: the input is free for the next.
    let held = Held { console, input: Some(input) };
    loop {
        // The container may end while the client says nothing.
        let next = tokio::select! {
            biased;
            () = held.closed() => return Ok(Reply::empty()),
            next = records.next() => next?,
        };
        let Some(call) = next else { return Ok(Reply::empty()) };
        let Some(piece) = piece(call)? else { continue };
        held.send(piece).await;
    }
}

/// An input that is given back.
struct Held {
    console: std::sync::Arc<Console>,
    input: Option<mpsc::Sender<Input>>,
}

impl Held {
    async fn send(&self, piece: Input) {
        if let Some(input) = &self.input {
            // Closed: the container ended.
            let _ = input.send(piece).await;
        }
    }

    async fn closed(&self) {
        match &self.input {
            Some(input) => input.closed().await,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(input) = self.input.take() {
            self.console.release(input);
        }
    }
}

/// What a further record of an input means; nothing, when it only shows that the client lives.
fn piece(call: Call) -> Result<Option<Input>, Reply> {
    let invalid = |text: &str| Reply::bad_request(format!("Failed to validate agent::Call: {text}"));
    if call.r#type() != Type::AttachContainerInput {
        return Err(invalid("Expecting 'type' to be ATTACH_CONTAINER_INPUT"));
    }
    let part = call.attach_container_input.unwrap_or_default();
    let io = part.process_io.filter(|_| part.r#type == Some(attach_container_input::Type::ProcessIo as i32));
    let io = io.ok_or_else(|| invalid("Expecting 'attach_container_input.process_io' to be present"))?;
    match (io.r#type(), io.data, io.control) {
        (process_io::Type::Data, Some(data), _) if data.r#type() == data::Type::Stdin => {
            Ok(Some(Input::Data(data.data.unwrap_or_default())))
        }
        (process_io::Type::Control, _, Some(control)) if control.r#type() == control::Type::TtyInfo => {
            let size = control.tty_info.and_then(|tty| tty.window_size);
            Ok(size.map(|size| Input::Size(short(size.rows), short(size.columns))))
        }
        (process_io::Type::Control, ..) => Ok(None),
        _ => Err(invalid("Expecting 'process_io' to be of type DATA with STDIN, or CONTROL")),
    }
}

fn not_found(id: &pb::ContainerId) -> Reply {
    Reply::text(StatusCode::NOT_FOUND, format!("Container '{}' cannot be found", container_path(id)))
}

fn not_attachable() -> Reply {
    let text = "I/O switchboard server was disabled for this container";
    Reply::text(StatusCode::INTERNAL_SERVER_ERROR, text)
}

/// Who ended a stream.
#[derive(Debug, PartialEq, Eq)]
enum Left {
    Client,
    Container,
}

/// Output on its way to a client.
struct Outlet {
    output: broadcast::Receiver<(Source, Bytes)>,
    encoding: Encoding,
    /// Between heartbeats.
    beat: Duration,
    client: mpsc::Sender<Bytes>,
}

impl Outlet {
    async fn carry(mut self) -> Left {
        let mut beat = Instant::now() + self.beat;
        loop {
            let message = tokio::select! {
                biased;
                () = self.client.closed() => return Left::Client,
                piece = self.output.recv() => match piece {
                    Ok((source, bytes)) => output(source, bytes),
                    Err(broadcast::error::RecvError::Lagged(pieces)) => {
                        info!(pieces, "client reads too slowly: output is left out");
                        continue;
                    }
                    Err(broadcast::error::RecvError::Closed) => return Left::Container,
                },
                () = sleep_until(beat) => {
                    beat = Instant::now() + self.beat;
                    heartbeat(self.beat)
                }
            };
            let record = recordio::encode(&self.encoding.encode(&message));
            if !matches!(timeout(PATIENCE, self.client.send(record)).await, Ok(Ok(()))) {
                debug!("client does not read, its stream is cut off");
                return Left::Client;
            }
        }
    }
}

fn output(source: Source, bytes: Bytes) -> ProcessIo {
    let kind = match source {
        Source::Stdout => data::Type::Stdout,
        Source::Stderr => data::Type::Stderr,
    };
    ProcessIo {
        r#type: Some(process_io::Type::Data as i32),
        data: Some(process_io::Data { r#type: Some(kind as i32), data: Some(bytes) }),
        control: None,
    }
}

fn heartbeat(interval: Duration) -> ProcessIo {
    let nanoseconds = i64::try_from(interval.as_nanos()).unwrap_or(i64::MAX);
    let heartbeat = control::Heartbeat { interval: Some(pb::DurationInfo { nanoseconds }) };
    ProcessIo {
        r#type: Some(process_io::Type::Control as i32),
        data: None,
        control: Some(process_io::Control {
            r#type: Some(control::Type::Heartbeat as i32),
            tty_info: None,
            heartbeat: Some(heartbeat),
        }),
    }
}
