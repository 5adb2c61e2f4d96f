//! Calls of executors on their way into the core, and events on their way to executors.

use std::collections::BTreeMap;

use meshos_proto::{
    meshos::allocator::v1::AgentMessage,
    mesos::v1::executor::{Call, Event},
};
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use super::Runner;
use crate::{core::CallError, token::Claims};

/// Messages that nobody has promised to deliver are dropped beyond this many that wait.
const BEST_EFFORT: usize = 1024;

/// A call that is well formed.
#[derive(Debug)]
pub(crate) struct ExecutorRequest {
    pub(crate) call: Box<Call>,
    /// What the caller proved to be; absent where nobody has to.
    pub(crate) claims: Option<Claims>,
    /// Where a SUBSCRIBE wants its events.
    pub(crate) events: Option<mpsc::Sender<Event>>,
    /// The number of the stream, if there is one.
    pub(crate) reply: oneshot::Sender<Result<u64, CallError>>,
}

/// Event streams that executors read.
#[derive(Debug, Default)]
pub(super) struct Streams {
    last: u64,
    open: BTreeMap<u64, mpsc::Sender<Event>>,
}

impl Streams {
    fn open(&mut self, events: mpsc::Sender<Event>) -> u64 {
        self.last += 1;
        self.open.insert(self.last, events);
        self.last
    }

    /// One that reads too slowly is cut off; it may subscribe again.
    pub(super) fn send(&mut self, stream: u64, event: Event) {
        let Some(events) = self.open.get(&stream) else { return };
        if events.try_send(event).is_err() {
            warn!(stream, "executor does not read its events: its stream is closed");
            self.open.remove(&stream);
        }
    }

    /// Ends a stream after what was sent there.
    pub(super) fn forget(&mut self, stream: u64) {
        self.open.remove(&stream);
    }
}

impl Runner {
    pub(super) fn executor(&mut self, request: ExecutorRequest) {
        let ExecutorRequest { call, claims, events, reply } = request;
        let stream = events.map(|events| self.outlet.executors.open(events));
        let now = Self::now(&self.env, self.started);
        let result = self.core.executor_call(*call, stream, claims.as_ref(), now);
        let answer = match result {
            // What the call led to is safe before the executor is told.
            Ok(effects) => {
                self.apply(effects);
                self.tell();
                Ok(stream.unwrap_or_default())
            }
            Err(error) => {
                stream.into_iter().for_each(|stream| self.outlet.executors.forget(stream));
                Err(error)
            }
        };
        if reply.send(answer).is_err()
            && let Some(stream) = stream
        {
            self.outlet.executors.forget(stream);
            self.core.executor_gone(stream);
        }
    }

    /// Sends something to the allocator if there is a link with room.
    pub(super) fn best_effort(&mut self, message: AgentMessage) {
        if self.outlet.link.is_some() && self.core.is_linked() && self.outlet.waiting.len() < BEST_EFFORT {
            self.outlet.waiting.push_back(message);
        }
    }
}
