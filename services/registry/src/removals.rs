//! Pure: how fast agents may be declared unreachable. Sessions and the judge of a replica share the permits.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::config::Rate;

/// Permits to declare agents unreachable, evenly spread over time (Mesos `--agent_removal_rate_limit`).
#[derive(Clone, Debug)]
pub(crate) struct Removals {
    /// None: any number.
    rate: Option<Rate>,
    /// When there is a permit again; none yet: at once.
    next: Arc<Mutex<Option<Instant>>>,
}

impl Removals {
    pub(crate) fn new(rate: Option<Rate>) -> Self {
        Self { rate, next: Arc::default() }
    }

    /// Takes a permit, if there is one now.
    pub(crate) fn take(&self, now: Instant) -> bool {
        let Some(rate) = self.rate else { return true };
        let mut next = self.next();
        let free = next.is_none_or(|at| at <= now);
        if free {
            *next = Some(now + rate.pause());
        }
        free
    }

    /// `deadline`, or when there is a permit, whichever is later.
    pub(crate) fn not_before(&self, deadline: Instant) -> Instant {
        self.next().map_or(deadline, |next| next.max(deadline))
    }

    fn next(&self) -> MutexGuard<'_, Option<Instant>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU32, time::Duration};

    use super::*;

    #[test]
    fn permits_are_spread_over_time_and_not_saved_up() {
        let rate = Rate { permits: NonZeroU32::new(2).unwrap(), per: Duration::from_secs(10) };
        let (removals, now) = (Removals::new(Some(rate)), Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        let taken: Vec<bool> = [0, 1, 4, 5, 6, 100, 101, 105].map(|s| removals.take(at(s))).into();
        assert_eq!(taken, [true, false, false, true, false, true, false, true]);
        assert_eq!(removals.not_before(at(1)), at(110));
        assert_eq!(removals.not_before(at(200)), at(200));
        assert!((0..9).all(|_| Removals::new(None).take(now)));
    }
}
