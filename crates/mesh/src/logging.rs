//! The level of logging that Mesos's clients set for a while and ask for. It is remembered and told; what is logged is
//! set by `RUST_LOG` when a process starts, and stays as it is.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::config::parse_duration;

/// The level that was asked for, and until when.
#[derive(Debug, Default)]
pub struct LoggingLevel(Mutex<Option<(u32, Instant)>>);

impl LoggingLevel {
    /// 0 unless a higher one was asked for a while ago and still holds.
    pub fn level(&self) -> u32 {
        let set = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        set.filter(|(_, until)| Instant::now() < *until).map_or(0, |(level, _)| level)
    }

    /// Sets the level for a while.
    pub fn set(&self, level: u32, duration: Duration) {
        // A duration beyond what the clock counts lasts as long as the process.
        let until = Instant::now() + duration.min(Duration::from_secs(u64::from(u32::MAX)));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((level, until));
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
        let logging = LoggingLevel::default();
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
