//! `/logging/toggle`, `GET_LOGGING_LEVEL` and `SET_LOGGING_LEVEL`. The level is remembered for its duration and told;
//! what is logged is set by `RUST_LOG` when a process starts, and stays as it is.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use http::StatusCode;
use meshos_mesh::config::parse_duration;
use tokio::time::Instant;

use crate::http::{Query, Reply};

/// The level that was asked for, and until when.
#[derive(Debug, Default)]
pub(super) struct Logging(Mutex<Option<(u32, Instant)>>);

impl Logging {
    /// 0 unless a higher one was asked for a while ago and still holds.
    pub(super) fn level(&self) -> u32 {
        let set = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        set.filter(|(_, until)| Instant::now() < *until).map_or(0, |(level, _)| level)
    }

    pub(super) fn set(&self, level: u32, duration: Duration) {
        // A duration beyond what the clock counts lasts as long as the process.
        let until = Instant::now() + duration.min(Duration::from_secs(u64::from(u32::MAX)));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((level, until));
    }

    /// `/logging/toggle`
    pub(super) fn toggle(&self, query: &Query) -> Reply {
        let refused = |text: String| Reply::text(StatusCode::BAD_REQUEST, text);
        match (query.get("level"), query.get("duration")) {
            (None, None) => Reply::text(StatusCode::OK, format!("{}\n", self.level())),
            (Some(_), None) => refused("Expecting 'duration=value' in query.\n".to_owned()),
            (None, Some(_)) => refused("Expecting 'level=value' in query.\n".to_owned()),
            (Some(level), Some(duration)) => {
                let Ok(number) = level.parse::<u32>() else {
                    return refused(format!("Invalid level '{level}'.\n"));
                };
                match parse_duration(duration) {
                    Ok(duration) => {
                        self.set(number, duration);
                        Reply::empty(StatusCode::OK)
                    }
                    Err(why) => refused(format!("{why}.\n")),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_level_holds_for_its_duration() {
        let logging = Logging::default();
        let toggle = |query: &str| {
            let reply = logging.toggle(&Query::parse(query));
            (reply.status.as_u16(), reply.body_text())
        };
        assert_eq!(toggle(""), (200, "0\n".to_owned()));
        assert_eq!(toggle("level=1"), (400, "Expecting 'duration=value' in query.\n".to_owned()));
        assert_eq!(toggle("duration=1secs"), (400, "Expecting 'level=value' in query.\n".to_owned()));
        assert_eq!(toggle("level=x&duration=1secs").0, 400);
        assert_eq!(toggle("level=2&duration=1fortnight").0, 400);
        assert_eq!(toggle("level=2&duration=1secs"), (200, String::new()));
        assert_eq!(toggle(""), (200, "2\n".to_owned()));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(toggle(""), (200, "0\n".to_owned()));
    }
}
