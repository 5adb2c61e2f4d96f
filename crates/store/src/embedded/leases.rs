//! When leases end.
//!
//! Only the loop behind [`Embedded::run_leases`](crate::Embedded::run_leases) reads a clock. A lease that was
//! granted, kept alive or recovered is marked as fresh, and the loop gives it its full time from then on. So
//! all deadlines come from one clock, whatever runtimes (or simulated hosts) the callers live in.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::model::LeaseId;

/// The clocks of all leases.
#[derive(Debug, Default)]
pub(crate) struct Leases(BTreeMap<LeaseId, Clock>);

#[derive(Debug)]
struct Clock {
    ttl: Duration,
    state: Countdown,
}

#[derive(Debug)]
enum Countdown {
    /// Gets its full time as soon as the loop sees it.
    Fresh,
    Until(Instant),
    /// Its end was decided; it cannot be kept alive any more.
    Ending,
}

impl Leases {
    pub(crate) fn start(&mut self, id: LeaseId, ttl: Duration) {
        self.0.insert(id, Clock { ttl, state: Countdown::Fresh });
    }

    pub(crate) fn end(&mut self, id: LeaseId) {
        self.0.remove(&id);
    }

    pub(crate) fn keep_alive(&mut self, id: LeaseId) -> Result<()> {
        match self.0.get_mut(&id) {
            Some(clock) if !matches!(clock.state, Countdown::Ending) => {
                clock.state = Countdown::Fresh;
                Ok(())
            }
            _ => Err(Error::LeaseNotFound(id)),
        }
    }

    /// Takes out the leases whose time is over; second, when to look again.
    pub(crate) fn tick(&mut self, now: Instant) -> (Vec<LeaseId>, Option<Instant>) {
        let mut over = Vec::new();
        let mut next: Option<Instant> = None;
        for (id, clock) in &mut self.0 {
            if matches!(clock.state, Countdown::Fresh) {
                clock.state = Countdown::Until(now + clock.ttl);
            }
            match clock.state {
                Countdown::Until(deadline) if deadline <= now => {
                    clock.state = Countdown::Ending;
                    over.push(*id);
                }
                Countdown::Until(deadline) => next = Some(next.map_or(deadline, |next| next.min(deadline))),
                Countdown::Fresh | Countdown::Ending => {}
            }
        }
        (over, next)
    }
}
