//! The event stream of operators (Mesos 7.3): the state, then everything that happens after it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use meshos_proto::{
    mesos::v1::master::{
        Event, Response,
        event::{Subscribed, Type},
    },
    recordio,
};
use tokio::{
    sync::{broadcast::error::RecvError, oneshot},
    time::{Instant, interval_at},
};
use tracing::{debug, info};

use super::{
    super::{Mesos, call::Encoding, no_leader},
    events, respond,
};
use crate::{
    http::{
        Reply, apart,
        stream::{ChunkSender, StreamEnd, chunks},
    },
    views::cluster::happenings::Reader,
};

/// Between two heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// The open streams, oldest first; there is a limit, at which the oldest gives way.
#[derive(Clone, Debug)]
pub(in crate::mesos) struct Subscribers {
    limit: usize,
    open: Arc<Mutex<Open>>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    /// Dropping a sender closes its stream.
    streams: BTreeMap<u64, oneshot::Sender<()>>,
}

/// A stream's place among the others; free again when it is dropped.
struct Place {
    subscribers: Subscribers,
    number: u64,
    evicted: oneshot::Receiver<()>,
}

impl Subscribers {
    pub(in crate::mesos) fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), open: Arc::default() }
    }

    /// How many there are.
    pub(in crate::mesos) fn count(&self) -> usize {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).streams.len()
    }

    fn enter(&self) -> Place {
        let (sender, evicted) = oneshot::channel();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let number = open.next;
        open.next += 1;
        open.streams.insert(number, sender);
        if open.streams.len() > self.limit {
            open.streams.pop_first();
        }
        Place { subscribers: self.clone(), number, evicted }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.subscribers.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.streams.remove(&self.number);
    }
}

impl Mesos {
    /// Opens a stream: the state as it is, a heartbeat at once, then what happens.
    pub(super) fn subscribe_operator(&self, encoding: Encoding) -> Reply {
        // Both under one lock, so that nothing lies between; rendered apart from it.
        let taken = self.cluster.read(|cluster| (cluster.clone(), cluster.subscribe()));
        let Some((picture, reader)) = taken else { return no_leader() };
        let first = apart(move || first_records(encoding, respond::state(&picture)));
        let (sender, receiver) = chunks();
        let stream = Stream { encoding, reader, place: self.subscribers.enter(), client: sender };
        self.env.tasks.spawn("operator-stream", async move {
            let why = stream.run(first).await;
            debug!(why, "operator's event stream ended");
        });
        Reply::stream(encoding.content_type(), receiver)
    }
}

struct Stream {
    encoding: Encoding,
    reader: Reader,
    place: Place,
    client: ChunkSender,
}

impl Stream {
    /// Carries events until either side ends. Returns why it ended.
    async fn run(mut self, first: Bytes) -> &'static str {
        let heartbeat = record(self.encoding, &of(Type::Heartbeat));
        if let Err(end) = self.client.send(first).await {
            return told(end);
        }
        let mut beat = interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
        loop {
            let next = tokio::select! {
                biased;
                () = self.client.closed() => return "closed by its reader",
                _ = &mut self.place.evicted => return "too many streams, the oldest gives way",
                _ = beat.tick() => heartbeat.clone(),
                batch = self.reader.recv() => match batch {
                    Ok(batch) => events::encoded(self.encoding, &batch),
                    Err(RecvError::Closed) => return "the view began anew",
                    Err(RecvError::Lagged(_)) => return "too slow",
                },
            };
            if let Err(end) = self.client.send(next).await {
                return told(end);
            }
        }
    }
}

fn told(end: StreamEnd) -> &'static str {
    match end {
        StreamEnd::Closed => "closed by its reader",
        StreamEnd::TooSlow => {
            info!("operator reads too slowly, its event stream is cut off");
            "too slow"
        }
    }
}

fn of(kind: Type) -> Event {
    Event { r#type: Some(kind as i32), ..Default::default() }
}

pub(super) fn record(encoding: Encoding, event: &Event) -> Bytes {
    recordio::encode(&encoding.encode(event))
}

/// SUBSCRIBED and HEARTBEAT.
fn first_records(encoding: Encoding, state: Response) -> Bytes {
    let subscribed =
        Subscribed { get_state: state.get_state, heartbeat_interval_seconds: Some(HEARTBEAT.as_secs_f64()) };
    let event = Event { subscribed: Some(subscribed), ..of(Type::Subscribed) };
    let subscribed = encoding.encode(&event);
    let mut out = Vec::with_capacity(subscribed.len() + 64);
    recordio::encode_into(&subscribed, &mut out);
    out.extend_from_slice(&record(encoding, &of(Type::Heartbeat)));
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        mesos::render::shape::{assert_same, golden_cluster},
        views::Cluster,
    };
    use meshos_proto::json::to_json;
    use serde_json::{Value, json};

    fn records(bytes: &[u8]) -> Vec<Value> {
        let mut decoder = recordio::Decoder::new(1 << 24);
        decoder.push(bytes);
        let mut all = Vec::new();
        while let Some(record) = decoder.next().unwrap() {
            all.push(serde_json::from_slice(&record).unwrap());
        }
        all
    }

    #[test]
    fn the_first_record_holds_the_state_and_a_heartbeat_follows() {
        let first = records(&first_records(Encoding::Json, respond::state(&golden_cluster())));
        assert_eq!(first[0]["type"], "SUBSCRIBED");
        assert_eq!(first[0]["subscribed"]["heartbeat_interval_seconds"], 15.0);
        assert_eq!(first[1], json!({"type": "HEARTBEAT"}));
        let state = to_json(&respond::state(&golden_cluster()));
        assert_same("state", &first[0]["subscribed"]["get_state"], &state["get_state"]);
        let empty = records(&first_records(Encoding::Json, respond::state(&Cluster::default())));
        assert_eq!(empty[0]["subscribed"]["get_state"]["get_tasks"]["tasks"], json!([]));
    }

    #[test]
    fn mesos_c73_over_the_limit_the_oldest_gives_way() {
        let subscribers = Subscribers::new(2);
        let mut first = subscribers.enter();
        let mut second = subscribers.enter();
        let third = subscribers.enter();
        assert_eq!(subscribers.count(), 2);
        assert_eq!(first.evicted.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        assert_eq!(second.evicted.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        drop((first, third));
        assert_eq!(subscribers.count(), 1);
    }
}
