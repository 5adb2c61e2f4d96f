//! The status updates of one task on their way to the framework: in order, one at a time, again and again until
//! acknowledged.

use std::{collections::VecDeque, time::Duration};

use meshos_proto::mesos::v1 as pb;

/// Time until an unacknowledged update is sent again: doubles from the first to the last.
pub(super) const FIRST_RETRY: Duration = Duration::from_secs(10);
pub(super) const LAST_RETRY: Duration = Duration::from_secs(600);
/// What may wait for the framework: updates, and bytes of them.
const MOST: usize = 256;
const MOST_BYTES: usize = 32 * 1024 * 1024;

/// Updates that have not been acknowledged, oldest first.
#[derive(Debug)]
pub(super) struct Updates {
    queue: VecDeque<pb::TaskStatus>,
    delay: Duration,
    due: Option<Duration>,
}

impl Default for Updates {
    fn default() -> Self {
        Self { queue: VecDeque::new(), delay: FIRST_RETRY, due: None }
    }
}

impl Updates {
    /// Adds an update; whether it is the oldest, which may be sent.
    pub(super) fn push(&mut self, status: pb::TaskStatus) -> bool {
        self.queue.push_back(status);
        self.queue.len() == 1
    }

    /// Whether no more is taken of an executor until the framework acknowledges some.
    pub(super) fn is_full(&self) -> bool {
        self.queue.len() >= MOST
            || self.queue.iter().map(prost::Message::encoded_len).sum::<usize>() > MOST_BYTES
    }

    pub(super) fn oldest(&self) -> Option<&pb::TaskStatus> {
        self.queue.front()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &pb::TaskStatus> {
        self.queue.iter()
    }

    /// The oldest is being sent: when to send it again.
    pub(super) fn sent(&mut self, now: Duration) -> Duration {
        let due = now + self.delay;
        self.delay = (self.delay * 2).min(LAST_RETRY);
        self.due = Some(due);
        due
    }

    /// Whether the retry that was set for `at` still stands.
    pub(super) fn is_due(&self, at: Duration) -> bool {
        self.due == Some(at) && !self.queue.is_empty()
    }

    /// The receiver changed: delays begin small again.
    pub(super) fn restart(&mut self) {
        self.delay = FIRST_RETRY;
        self.due = None;
    }

    /// Takes the oldest away if it has this id.
    pub(super) fn acknowledge(&mut self, uuid: &[u8]) -> Option<pb::TaskStatus> {
        if self.queue.front()?.uuid.as_deref() != Some(uuid) {
            return None;
        }
        self.restart();
        self.queue.pop_front()
    }
}
