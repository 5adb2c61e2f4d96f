//! What happens when time passes.

use std::collections::BTreeSet;

use meshos_types::FrameworkId;

use super::{Core, LinkId, StreamId, events, filters::FilterKey, offers::OfferNo};

/// What is due at some time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    Filter(FilterKey),
    Failover(FrameworkId),
    Offer(OfferNo),
    /// The status of an operation has not been acknowledged.
    Operation(super::operations::OperationUuid),
    /// Agents have had their time to come back to a new leader.
    RecoveryOver,
    Heartbeat(StreamId),
    /// An agent that is not admitted has waited long enough.
    Admission(LinkId),
}

/// Timers by due time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timers(BTreeSet<(u64, Timer)>);

impl Timers {
    pub(crate) fn set(&mut self, due_ms: u64, timer: Timer) {
        self.0.insert((due_ms, timer));
    }

    pub(crate) fn cancel(&mut self, due_ms: u64, timer: Timer) {
        self.0.remove(&(due_ms, timer));
    }

    pub(crate) fn next(&self) -> Option<u64> {
        self.0.first().map(|(due, _)| *due)
    }

    fn pop_due(&mut self, now: u64) -> Option<(u64, Timer)> {
        if self.next()? > now { None } else { self.0.pop_first() }
    }
}

/// Time between heartbeats to frameworks.
pub(crate) const HEARTBEAT_MS: u64 = 15_000;

impl Core {
    /// Runs what is due.
    pub(super) fn tick(&mut self) {
        while let Some((due, timer)) = self.timers.pop_due(self.now) {
            match timer {
                Timer::Filter(filter) => self.filter_expired(filter),
                Timer::Failover(framework) => self.failover_expired(&framework, due),
                Timer::Offer(offer) => self.rescind(&offer),
                Timer::Operation(uuid) => self.tell_operation(&uuid),
                Timer::RecoveryOver => self.recovery_hold = None,
                Timer::Heartbeat(stream) => self.heartbeat(&stream),
                Timer::Admission(link) => self.admission_expired(link),
            }
        }
    }

    fn heartbeat(&mut self, stream: &StreamId) {
        if let Some(framework) = self.streams.get(stream).cloned() {
            self.send(&framework, events::heartbeat());
            self.timers.set(self.now + HEARTBEAT_MS, Timer::Heartbeat(stream.clone()));
        }
    }

    fn filter_expired(&mut self, filter: FilterKey) {
        let Some(known) = self.frameworks.at_mut(filter.framework) else { return };
        if known.filters.expire(filter) {
            self.touch_agent_at(filter.agent);
        }
    }
}
