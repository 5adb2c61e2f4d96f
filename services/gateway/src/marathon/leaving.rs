//! `GET /v2/leaving` and `POST /v2/leaving/{id}`, beyond Marathon: what `Watch` and `ConfirmLeft` are to a load balancer
//! that reaches the app-scheduler, for one that knows this API alone. While its stream is open, tasks that the stream names
//! are killed only once it has said that it sends them nothing any more, or the limit for that has passed.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, StatusCode};
use meshos_proto::meshos::apps::v1::ConfirmLeftRequest;
use serde_json::{Value, json};
use tokio::sync::{
    broadcast::{self, error::RecvError},
    mpsc,
};
use tokio_stream::wrappers::ReceiverStream;

use super::{
    Answer, Marathon, client, error::ApiError, events::accepts_events, json_body, method_not_allowed,
};
use crate::{
    client::CallError,
    http::{
        Reply, Request,
        stream::{ChunkSender, chunks_within},
    },
};

/// Messages that a reader may be behind.
const OUTSTANDING: usize = 1024;
/// Bytes on their way to a reader, besides those.
const IN_FLIGHT: usize = 256 * 1024;
/// Confirmations that wait to be passed on.
const CONFIRMATIONS: usize = 1024;
/// Streams at a time: each costs one to the app-scheduler.
const MOST_READERS: usize = 256;
/// Proxies close connections that are silent.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// A task that is about to be killed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) app: String,
    pub(crate) instance: String,
    pub(crate) task: String,
}

type Batch = Arc<Vec<Named>>;

/// Where instances are named that are about to be killed, and who listens.
#[derive(Debug)]
pub(crate) struct Leaving {
    live: Mutex<broadcast::Sender<Batch>>,
    /// Streams to the app-scheduler, by the id of the reader that each is for.
    readers: Mutex<BTreeMap<u64, mpsc::Sender<ConfirmLeftRequest>>>,
}

impl Default for Leaving {
    fn default() -> Self {
        Self { live: Mutex::new(broadcast::Sender::new(OUTSTANDING)), readers: Mutex::default() }
    }
}

impl Leaving {
    /// Names some.
    pub(crate) fn name(&self, named: Vec<Named>) {
        // Nobody listens: nobody has to be waited for.
        let _ = self.live.lock().unwrap_or_else(PoisonError::into_inner).send(Arc::new(named));
    }

    /// Some may not have been named: all streams end, and begin anew.
    pub(crate) fn interrupted(&self) {
        *self.live.lock().unwrap_or_else(PoisonError::into_inner) = broadcast::Sender::new(OUTSTANDING);
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Batch> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).subscribe()
    }

    /// False: there are too many.
    fn join(&self, id: u64, confirm: mpsc::Sender<ConfirmLeftRequest>) -> bool {
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        let room = readers.len() < MOST_READERS;
        if room {
            readers.insert(id, confirm);
        }
        room
    }

    fn leave(&self, id: u64) {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    fn reader(&self, id: &str) -> Option<mpsc::Sender<ConfirmLeftRequest>> {
        let id = id.parse::<u64>().ok()?;
        self.readers.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }
}

impl Marathon {
    pub(super) async fn leaving(&self, request: &Request) -> Answer {
        if request.method != Method::GET {
            return Err(method_not_allowed());
        }
        // A page or a script that comes by is not waited for.
        if !accepts_events(request) {
            return Err(ApiError::new(
                StatusCode::NOT_ACCEPTABLE,
                "Not Acceptable: this is text/event-stream",
            ));
        }
        let leader = self.leader.changes().borrow().clone();
        let leader = leader.ok_or(CallError::NoLeader { service: "app-scheduler" })?;
        let channel = self.leader.channel(&leader.address);
        let leaving = self.apps.peek(|apps| Arc::clone(&apps.leaving));
        let named = leaving.subscribe();
        let (confirm, confirmations) = mpsc::channel(CONFIRMATIONS);
        // The first message opens the stream; kills wait for this reader from then on.
        let _ = confirm.try_send(ConfirmLeftRequest::default());
        let id = self.env.rng.u64();
        if !leaving.join(id, confirm) {
            return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "Too many streams are open"));
        }
        let here = format!("http://{}/v2/leaving/{id}", self.identity.authority());
        let (reader, chunks) = chunks_within(IN_FLIGHT);
        self.env.tasks.spawn("marathon-leaving", async move {
            let mut scheduler = client(channel);
            let confirmed = scheduler.confirm_left(ReceiverStream::new(confirmations));
            let greeting = json!({"id": id.to_string(), "confirm": here});
            if send(&reader, &greeting).await {
                tokio::select! {
                    biased;
                    // The app-scheduler does not lead any more.
                    _ = confirmed => {}
                    () = pass_on(&reader, named) => {}
                }
            }
            leaving.leave(id);
        });
        Ok(Reply::stream("text/event-stream", chunks))
    }

    /// The reader of that id has let go of instances.
    pub(super) fn let_go(&self, id: &str, request: &Request) -> Answer {
        if request.method != Method::POST {
            return Err(method_not_allowed());
        }
        let body = json_body(request)?;
        let instances = body["instances"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let instances: Vec<String> = instances.map(str::to_owned).collect();
        let reader = self.apps.peek(|apps| apps.leaving.reader(id));
        let reader = reader.ok_or_else(|| ApiError::not_found(format!("No stream '{id}' is open here")))?;
        // An empty one would open the stream to the app-scheduler anew.
        if instances.is_empty() {
            return Ok(Reply::empty(StatusCode::NO_CONTENT));
        }
        let full = |_| ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "Too many confirmations wait");
        reader.try_send(ConfirmLeftRequest { instances }).map_err(full)?;
        Ok(Reply::empty(StatusCode::NO_CONTENT))
    }
}

/// Until the reader has gone or is too slow, or the view that the names come from has broken.
async fn pass_on(reader: &ChunkSender, mut named: broadcast::Receiver<Batch>) {
    loop {
        let named = tokio::select! {
            biased;
            () = reader.closed() => return,
            named = named.recv() => named,
            () = tokio::time::sleep(HEARTBEAT) => {
                if reader.send(Bytes::from_static(b":\n\n")).await.is_err() {
                    return;
                }
                continue;
            }
        };
        let named = match named {
            Ok(named) => named,
            Err(RecvError::Lagged(_) | RecvError::Closed) => return,
        };
        let shown =
            |Named { app, instance, task }: &Named| json!({"app": app, "instance": instance, "task": task});
        let leaving = named.iter().map(shown);
        if !send(reader, &json!({"leaving": leaving.collect::<Vec<_>>()})).await {
            return;
        }
    }
}

/// False once the reader is gone.
async fn send(reader: &ChunkSender, data: &Value) -> bool {
    reader.send(Bytes::from(format!("data: {data}\n\n"))).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_break_ends_what_was_subscribed() {
        let leaving = Leaving::default();
        let mut before = leaving.subscribe();
        leaving.name(vec![Named { instance: "i".into(), ..Named::default() }]);
        assert_eq!(before.recv().await.unwrap()[0].instance, "i");
        leaving.interrupted();
        assert!(matches!(before.recv().await, Err(RecvError::Closed)));
    }

    #[test]
    fn readers_are_known_while_they_are_there() {
        let leaving = Leaving::default();
        let (confirm, _confirmations) = mpsc::channel(1);
        assert!(leaving.join(7, confirm.clone()));
        let joined = (100..100 + MOST_READERS as u64).filter(|id| leaving.join(*id, confirm.clone()));
        assert_eq!(joined.count(), MOST_READERS - 1);
        assert!(
            leaving.reader("7").is_some() && leaving.reader("8").is_none() && leaving.reader("x").is_none()
        );
        leaving.leave(7);
        assert!(leaving.reader("7").is_none() && leaving.join(8, confirm));
    }
}
