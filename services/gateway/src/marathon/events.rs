//! `GET /v2/events`: what happens, as server-sent events.
//!
//! All streams read from one bounded window, so a reader that is slow or gone costs nothing: one that falls out of
//! it is closed. Beyond Marathon, events have ids, and `Last-Event-ID` continues after one that is still in the
//! window of this gateway.

mod render;

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, StatusCode, header};
use meshos_proto::meshos::apps::v1::{App, Occurrence};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::sync::broadcast::{self, error::RecvError};

use super::{Answer, Marathon, media_type, method_not_allowed, render::app::definition};
use crate::http::{
    Reply, Request,
    stream::{ChunkSender, chunks_within},
};

/// Events that a reader may be behind.
const OUTSTANDING: usize = 1024;
/// Bytes on their way to a reader, besides those.
const IN_FLIGHT: usize = 256 * 1024;
/// Events, and their bytes, that are kept for readers that come back.
const KEPT: usize = 8192;
const KEPT_BYTES: usize = 16 * 1024 * 1024;
/// Bytes that are held for one of an encoded event: its parts as they are kept, and its text once somebody reads it.
const HELD: usize = 6;
/// Proxies close connections that are silent.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// One event.
#[derive(Debug)]
struct Event {
    /// Counts from 1.
    number: u64,
    kind: &'static str,
    told: Told,
    /// About, as it is kept.
    bytes: usize,
    /// JSON on one line, made when somebody reads it.
    data: OnceLock<Option<String>>,
}

/// What an event tells.
#[derive(Debug)]
enum Told {
    Occurrence { occurrence: Box<Occurrence>, master: Arc<str> },
    Json(Value),
}

impl Event {
    /// None when it lacks what its kind tells of.
    fn data(&self) -> Option<&str> {
        let data = self.data.get_or_init(|| match &self.told {
            Told::Occurrence { occurrence, master } => {
                render::body(occurrence, master).map(|body| body.to_string())
            }
            Told::Json(body) => Some(body.to_string()),
        });
        data.as_deref()
    }
}

/// Where events are told and read.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    window: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    live: broadcast::Sender<Arc<Event>>,
    last: u64,
    kept: VecDeque<Arc<Event>>,
    bytes: usize,
    /// URL of the Mesos API.
    master: Arc<str>,
}

impl Default for Window {
    fn default() -> Self {
        let live = broadcast::Sender::new(OUTSTANDING);
        Self { live, last: 0, kept: VecDeque::new(), bytes: 0, master: Arc::from("") }
    }
}

impl Hub {
    /// Tells what the app-scheduler saw.
    pub(crate) fn occurred(&self, occurrences: Vec<Occurrence>) {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        for occurrence in occurrences {
            if let Some(kind) = render::kind(&occurrence) {
                let bytes = size_of::<Occurrence>() + HELD * occurrence.encoded_len();
                let master = Arc::clone(&window.master);
                let told = Told::Occurrence { occurrence: Box::new(occurrence), master };
                self.add(&mut window, kind, told, bytes);
            }
        }
    }

    /// What happened since the last occurrence is not known: all streams end, as Marathon ends them when the
    /// leader changes, so that clients read the state anew; nothing from before is replayed to them.
    pub(crate) fn interrupted(&self) {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        window.kept.clear();
        window.bytes = 0;
        window.live = broadcast::Sender::new(OUTSTANDING);
    }

    fn set_master(&self, url: &str) {
        self.window.lock().unwrap_or_else(PoisonError::into_inner).master = Arc::from(url);
    }

    fn tell(&self, kind: &'static str, mut body: Value, now_ms: u64) -> u64 {
        render::stamp(&mut body, kind, now_ms);
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = HELD * body.to_string().len();
        self.add(&mut window, kind, Told::Json(body), bytes);
        window.last
    }

    fn add(&self, window: &mut Window, kind: &'static str, told: Told, bytes: usize) {
        window.last += 1;
        let bytes = size_of::<Event>() + bytes;
        let event = Arc::new(Event { number: window.last, kind, told, bytes, data: OnceLock::new() });
        window.bytes += event.bytes;
        window.kept.push_back(Arc::clone(&event));
        while window.kept.len() > KEPT || window.bytes > KEPT_BYTES {
            let Some(old) = window.kept.pop_front() else { break };
            window.bytes -= old.bytes;
        }
        // Nobody listens: it is kept all the same.
        let _ = window.live.send(event);
    }

    /// Events after `number` that are still kept, and all later ones.
    fn subscribe(&self, after: Option<u64>) -> (Vec<Arc<Event>>, broadcast::Receiver<Arc<Event>>) {
        let window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let missed = window.kept.iter().filter(|event| after.is_some_and(|after| event.number > after));
        (missed.cloned().collect(), window.live.subscribe())
    }
}

/// One reader.
struct Reader {
    hub: Arc<Hub>,
    /// Names the window: ids of another one mean nothing.
    run: u64,
    /// Empty: all types.
    wanted: BTreeSet<String>,
    client: ChunkSender,
}

impl Reader {
    async fn run(self, backlog: Vec<Arc<Event>>, mut live: broadcast::Receiver<Arc<Event>>) {
        for event in backlog {
            if !self.pass_on(&event).await {
                return;
            }
        }
        loop {
            let event = tokio::select! {
                biased;
                () = self.client.closed() => return,
                event = live.recv() => event,
                () = tokio::time::sleep(HEARTBEAT) => {
                    if self.client.send(Bytes::from_static(b":\n\n")).await.is_err() {
                        return;
                    }
                    continue;
                }
            };
            match event {
                Ok(event) => {
                    if !self.pass_on(&event).await {
                        return;
                    }
                }
                Err(RecvError::Lagged(missed)) => {
                    return tracing::info!(missed, "reader of events is too slow, its stream is closed");
                }
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// False once the client is gone.
    async fn pass_on(&self, event: &Event) -> bool {
        if !self.wants(event.kind) {
            return true;
        }
        let Some(data) = event.data() else { return true };
        let Event { number, kind, .. } = event;
        let frame = format!("id: {}-{number}\nevent: {kind}\ndata: {data}\n\n", self.run);
        self.client.send(Bytes::from(frame)).await.is_ok()
    }

    fn wants(&self, kind: &str) -> bool {
        self.wanted.is_empty() || self.wanted.contains(kind)
    }
}

impl Marathon {
    /// Lets events name this gateway's Mesos API.
    pub(super) fn introduce(&self) {
        self.hub().set_master(&self.mesos_url);
    }

    fn hub(&self) -> Arc<Hub> {
        self.apps.peek(|apps| Arc::clone(&apps.events))
    }

    pub(super) async fn events(&self, request: &Request) -> Answer {
        if request.method != Method::GET {
            return Err(method_not_allowed());
        }
        if !accepts_events(request) {
            let page = "<html><body><h2>HTTP ERROR 405</h2><p>Method Not Allowed: this is a stream of events, \
                ask for it with Accept: text/event-stream</p></body></html>";
            return Ok(Reply::bytes(StatusCode::METHOD_NOT_ALLOWED, "text/html;charset=utf-8", page));
        }
        let hub = self.hub();
        let wanted = request.query.all("event_type").map(str::to_owned).collect();
        let (client, receiver) = chunks_within(IN_FLIGHT);
        let reader = Reader { hub: Arc::clone(&hub), run: self.started_ms, wanted, client };
        let address = json!({"remoteAddress": remote_address(request)});
        let after = request.header("last-event-id").and_then(|id| number_of(id, self.started_ms));
        // Told to the others first: to this reader it comes once, before everything else.
        let mut own = address.clone();
        let now_ms = self.env.clock.unix_ms();
        let number = hub.tell("event_stream_attached", address.clone(), now_ms);
        let (mut backlog, live) = hub.subscribe(after);
        backlog.retain(|event| event.number != number);
        render::stamp(&mut own, "event_stream_attached", now_ms);
        if reader.wants("event_stream_attached") {
            // Without an id: whoever comes back after it alone has seen none of the others.
            let frame = format!("event: event_stream_attached\ndata: {own}\n\n");
            // The client is there; if not, the loop ends at once.
            let _ = reader.client.send(Bytes::from(frame)).await;
        }
        let clock = self.env.clock.clone();
        self.env.tasks.spawn("marathon-events", async move {
            let hub = Arc::clone(&reader.hub);
            reader.run(backlog, live).await;
            hub.tell("event_stream_detached", address, clock.unix_ms());
        });
        Ok(Reply::stream("text/event-stream", receiver))
    }

    /// A definition came in by POST, PUT or PATCH of one app.
    pub(super) fn tell_api_post(&self, request: &Request, app: &App) {
        let query = if request.path.is_empty() { "/" } else { &request.path };
        let body = json!({
            "clientIp": remote_address(request), "uri": query, "appDefinition": Value::Object(definition(app)),
        });
        self.hub().tell("api_post_event", body, self.env.clock.unix_ms());
    }
}

/// As a proxy in front names it, else as the connection does.
fn remote_address(request: &Request) -> String {
    let forwarded = request.header("x-forwarded-for").and_then(|list| list.split(',').next());
    let forwarded = forwarded.map(|address| address.trim().to_owned());
    let peer = || request.peer.map(|peer| peer.to_string());
    forwarded.or_else(peer).unwrap_or_else(|| "unknown".to_owned())
}

/// The number of an id that this window gave.
fn number_of(id: &str, run: u64) -> Option<u64> {
    let (window, number) = id.trim().split_once('-')?;
    number.parse().ok().filter(|_| window.parse() == Ok(run))
}

pub(super) fn accepts_events(request: &Request) -> bool {
    let values = request.headers.get_all(header::ACCEPT).iter();
    let mut ranges = values.flat_map(|value| value.to_str().unwrap_or_default().split(',').map(media_type));
    ranges.any(|range| range == "text/event-stream")
}

#[cfg(test)]
mod tests {
    use meshos_proto::meshos::apps::v1::occurrence::What;

    use super::*;

    fn numbers(hub: &Hub, after: Option<u64>) -> Vec<u64> {
        hub.subscribe(after).0.iter().map(|event| event.number).collect()
    }

    #[test]
    fn a_reader_that_comes_back_gets_what_it_missed_while_it_is_kept() {
        let hub = Hub::default();
        for _ in 0..KEPT + 2 {
            hub.tell("x", json!({}), 0);
        }
        let last = (KEPT + 2) as u64;
        assert_eq!(numbers(&hub, None), [0; 0]);
        assert_eq!(numbers(&hub, Some(last - 2)), [last - 1, last]);
        assert_eq!(numbers(&hub, Some(0)).len(), KEPT);
        assert_eq!(numbers(&hub, Some(last)), [0; 0]);
    }

    #[tokio::test]
    async fn a_gap_ends_the_streams_and_replays_nothing_from_before_it() {
        let hub = Hub::default();
        hub.tell("x", json!({}), 0);
        let (_, mut before) = hub.subscribe(None);
        hub.interrupted();
        assert!(matches!(before.recv().await, Err(RecvError::Closed)));
        hub.tell("x", json!({}), 0);
        assert_eq!(numbers(&hub, Some(0)), [2]);
    }

    #[test]
    fn the_window_is_bounded_in_bytes() {
        let hub = Hub::default();
        let text = "x".repeat(KEPT_BYTES / 4);
        for _ in 0..10 {
            hub.tell("x", json!({"text": text}), 0);
        }
        assert!(numbers(&hub, Some(0)).len() < 4);
    }

    #[test]
    fn what_is_held_counts_not_what_was_sent() {
        let hub = Hub::default();
        let occurrence = Occurrence { timestamp_ms: 1, what: Some(What::AppTerminated("/a".to_owned())) };
        hub.occurred(vec![occurrence; 3]);
        let window = hub.window.lock().unwrap();
        assert!(window.bytes >= 3 * (size_of::<Event>() + size_of::<Occurrence>()), "{}", window.bytes);
        let kept: usize = window.kept.iter().map(|event| event.bytes).sum();
        assert_eq!(window.bytes, kept);
    }

    #[test]
    fn ids_of_another_window_mean_nothing() {
        assert_eq!(number_of("7-3", 7), Some(3));
        for id in ["8-3", "7", "7-x", ""] {
            assert_eq!(number_of(id, 7), None, "{id}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_is_closed() {
        let hub = Arc::new(Hub::default());
        let (client, receiver) = chunks_within(IN_FLIGHT);
        let reader = Reader { hub: Arc::clone(&hub), run: 1, wanted: BTreeSet::new(), client };
        let (backlog, live) = hub.subscribe(None);
        for _ in 0..=OUTSTANDING {
            hub.tell("x", json!({}), 0);
        }
        reader.run(backlog, live).await;
        drop(receiver);
    }

    #[test]
    fn only_a_client_that_asks_for_events_gets_them() {
        let with =
            |value: &str| accepts_events(&Request::test("GET", "/v2/events", "").with("accept", value));
        assert!(with("text/event-stream") && with("application/json, text/event-stream;q=0.9"));
        assert!(!with("application/json") && !with("*/*"));
        assert!(!accepts_events(&Request::test("GET", "/v2/events", "")));
    }
}
