//! The level of logging that Mesos's clients set for a while and ask for. What `RUST_LOG` says is logged at level 0.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{Tasks, config::parse_duration, telemetry::want_verbosity};

/// Tells those who set levels from each other: several services may be in one process.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// The level that was asked for, and until when. The process's logs follow the highest of all.
#[derive(Clone, Debug)]
pub struct LoggingLevel {
    id: u64,
    tasks: Tasks,
    set: Arc<Mutex<Option<Set>>>,
}

#[derive(Debug)]
struct Set {
    level: u32,
    until: Instant,
    /// Ends the wait for `until` when another level is set.
    _replaced: DropGuard,
}

impl LoggingLevel {
    /// Level 0. `tasks`: of whoever owns it.
    #[must_use]
    pub fn new(tasks: &Tasks) -> Self {
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { id, tasks: tasks.clone(), set: Arc::default() }
    }

    /// 0 unless a higher one was asked for a while ago and still holds.
    pub fn level(&self) -> u32 {
        self.lock().as_ref().filter(|set| Instant::now() < set.until).map_or(0, |set| set.level)
    }

    /// Sets the level for a while.
    pub fn set(&self, level: u32, duration: Duration) {
        // A duration beyond what the clock counts lasts as long as the process.
        let until = Instant::now() + duration.min(Duration::from_secs(u64::from(u32::MAX)));
        let (id, replaced) = (self.id, CancellationToken::new());
        let mut set = self.lock();
        *set = Some(Set { level, until, _replaced: replaced.clone().drop_guard() });
        want_verbosity(id, level);
        self.tasks.spawn("logging-level", async move {
            tokio::select! {
                biased;
                () = replaced.cancelled() => {}
                () = sleep_until(until) => want_verbosity(id, 0),
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, Option<Set>> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What `/logging/toggle` answers to its parameters: nothing when they set the level.
    ///
    /// # Errors
    /// What is wrong with them, in the words of Mesos.
    pub fn toggle(&self, level: Option<&str>, duration: Option<&str>) -> Result<String, String> {
        match (level, duration) {
            (None, None) => Ok(format!("{}\n", self.level())),
            (Some(_), None) => Err("Expecting 'duration=value' in query.\n".to_owned()),
            (None, Some(_)) => Err("Expecting 'level=value' in query.\n".to_owned()),
            (Some(level), Some(duration)) => {
                let number = level.parse::<u32>().map_err(|_| format!("Invalid level '{level}'.\n"))?;
                self.set(number, parse_duration(duration).map_err(|why| format!("{why}.\n"))?);
                Ok(String::new())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_level_holds_for_its_duration() {
        let logging = LoggingLevel::new(&Tasks::new());
        let toggle = |level, duration| logging.toggle(level, duration);
        assert_eq!(toggle(None, None), Ok("0\n".to_owned()));
        assert_eq!(toggle(Some("1"), None), Err("Expecting 'duration=value' in query.\n".to_owned()));
        assert_eq!(toggle(None, Some("1secs")), Err("Expecting 'level=value' in query.\n".to_owned()));
        assert!(toggle(Some("x"), Some("1secs")).is_err() && toggle(Some("2"), Some("1fortnight")).is_err());
        assert_eq!(toggle(Some("2"), Some("1secs")), Ok(String::new()));
        assert_eq!(toggle(None, None), Ok("2\n".to_owned()));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(toggle(None, None), Ok("0\n".to_owned()));
    }
}
