//! Waiting for a condition.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

/// Calls `condition` until it gives something, and returns that.
///
/// # Panics
/// Names `what` when `limit` has passed.
#[allow(clippy::disallowed_methods, reason = "real containers run in real time")]
pub(crate) fn wait_until<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        sleep(Duration::from_millis(100));
    }
}
