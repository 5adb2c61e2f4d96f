//! Readers of Watch who wait for a picture worth showing.

use std::time::Duration;

use meshos_mesh::FeedStream;
use meshos_proto::meshos::allocator::v1::WatchResponse;
use tokio::{sync::oneshot, time::Instant};

/// Nobody waits longer for agents.
const RETURN: Duration = Duration::from_secs(10);
/// When no agent has come for this long, the others come later if at all.
const PAUSE: Duration = Duration::from_millis(500);

/// Who waits. A new leader learns from its agents what there is: readers go on with what they had until these are back,
/// and then get it all at once. Every task told one by one would cost more, just when agents are to be taken.
#[derive(Debug)]
pub(super) struct Readers {
    waiting: Vec<oneshot::Sender<FeedStream<WatchResponse>>>,
    began: Instant,
    /// When the last agent came.
    linked: Instant,
}

impl Readers {
    /// Nobody, at the begin of a term.
    pub(super) fn new(now: Instant) -> Self {
        Self { waiting: Vec::new(), began: now, linked: now }
    }

    pub(super) fn wait(&mut self, reader: oneshot::Sender<FeedStream<WatchResponse>>) {
        self.waiting.push(reader);
    }

    pub(super) fn agent_linked(&mut self, now: Instant) {
        self.linked = now;
    }

    /// How much longer they wait, while so many agents are awaited; none: nobody waits.
    pub(super) fn patience(&self, awaited: usize, now: Instant) -> Option<Duration> {
        if self.waiting.is_empty() {
            return None;
        }
        let end = (self.linked + PAUSE).min(self.began + RETURN);
        Some(if awaited == 0 { Duration::ZERO } else { end.saturating_duration_since(now) })
    }

    /// Those whose wait is over.
    pub(super) fn take(
        &mut self,
        awaited: usize,
        now: Instant,
    ) -> Vec<oneshot::Sender<FeedStream<WatchResponse>>> {
        match self.patience(awaited, now) {
            Some(Duration::ZERO) => std::mem::take(&mut self.waiting),
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn readers_wait_while_agents_come_back_but_not_for_ever() {
        let began = Instant::now();
        let mut readers = Readers::new(began);
        assert_eq!(readers.patience(3, began), None);
        readers.wait(oneshot::channel().0);
        assert_eq!(readers.patience(0, began), Some(Duration::ZERO), "nobody is awaited");
        assert_eq!(readers.patience(3, began), Some(PAUSE));
        readers.agent_linked(began + PAUSE / 2);
        assert!(readers.take(2, began + PAUSE).is_empty());
        assert_eq!(readers.patience(2, began + PAUSE), Some(PAUSE / 2));
        assert_eq!(readers.patience(2, began + 2 * PAUSE), Some(Duration::ZERO), "nobody comes");
        readers.agent_linked(began + RETURN);
        assert_eq!(readers.take(2, began + RETURN).len(), 1);
        assert_eq!(readers.patience(2, began + RETURN), None);
    }
}
