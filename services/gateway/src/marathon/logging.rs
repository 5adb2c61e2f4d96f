//! `/logging`: how much this gateway's process logs. There is one level for all loggers; `RUST_LOG` sets the least of
//! it, which is shown as `INFO`.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use http::Method;
use meshos_mesh::LoggingLevel;
use serde_json::{Map, Value, json};

use super::{Answer, error::ApiError, json_body, method_not_allowed, read};
use crate::http::{Reply, Request};

/// What stands for all loggers.
const ROOT: &str = "ROOT";
/// Without `durationSeconds`: longer than any process lives.
const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);

/// Marathon's levels with those of [`LoggingLevel`].
const LEVELS: [(&str, u32); 3] = [("INFO", 0), ("DEBUG", 1), ("TRACE", 3)];

/// The level, and which logger it was asked for.
#[derive(Debug)]
pub(super) struct Logging {
    level: LoggingLevel,
    logger: Mutex<String>,
}

impl Logging {
    pub(super) fn new(level: LoggingLevel) -> Self {
        Self { level, logger: Mutex::new(ROOT.to_owned()) }
    }

    pub(super) fn answer(&self, request: &Request) -> Answer {
        match *request.verb() {
            Method::GET => Ok(Reply::json(&self.shown())),
            Method::POST => self.change(&json_body(request)?).map(|value| Reply::json(&value)),
            _ => Err(method_not_allowed()),
        }
    }

    /// Loggers with their levels.
    fn shown(&self) -> Value {
        let level = self.level.level();
        let name = LEVELS.iter().rev().find(|(_, least)| level >= *least).map_or("INFO", |(name, _)| name);
        let asked = self.logger.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let inherited = if level == 0 { "INFO (inherited)" } else { name };
        let mut shown = Map::from_iter([("meshos".to_owned(), json!(inherited)), (asked, json!(name))]);
        shown.entry(ROOT).or_insert(json!("INFO"));
        Value::Object(shown)
    }

    /// Answers with what was asked for.
    fn change(&self, body: &Value) -> Result<Value, ApiError> {
        let (logger, word, seconds) = read::logger_change(body)?;
        let level = LEVELS.iter().find(|(name, _)| *name == word).map(|(_, level)| *level);
        let level = level.ok_or_else(|| {
            ApiError::illegal(format!(
                "The level {word} is less than what RUST_LOG has set for this process; use INFO, DEBUG or TRACE"
            ))
        })?;
        self.level.set(level, seconds.map_or(FOR_EVER, Duration::from_secs));
        self.logger.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&logger);
        let mut told = json!({"level": word, "logger": logger});
        if let Some(seconds) = seconds {
            told["durationSeconds"] = json!(seconds);
        }
        Ok(told)
    }
}

#[cfg(test)]
mod tests {
    use meshos_mesh::Tasks;

    use super::*;

    fn posted(logging: &Logging, body: &Value) -> Result<Value, (u16, Value)> {
        logging.change(body).map_err(|error| (error.status.as_u16(), error.body))
    }

    #[tokio::test(start_paused = true)]
    async fn a_level_holds_until_it_is_reset_or_its_time_is_over() {
        let logging = Logging::new(LoggingLevel::new(&Tasks::new()));
        assert_eq!(logging.shown(), json!({"ROOT": "INFO", "meshos": "INFO (inherited)"}));
        let debug = json!({"level": "DEBUG", "logger": "mesosphere.marathon", "durationSeconds": 10});
        assert_eq!(posted(&logging, &debug), Ok(debug.clone()));
        let wanted = json!({"ROOT": "INFO", "meshos": "DEBUG", "mesosphere.marathon": "DEBUG"});
        assert_eq!(logging.shown(), wanted);
        tokio::time::advance(Duration::from_secs(11)).await;
        assert_eq!(logging.shown()["meshos"], "INFO (inherited)");
        posted(&logging, &json!({"level": "trace", "logger": "ROOT"})).unwrap();
        tokio::time::advance(Duration::from_secs(100_000)).await;
        assert_eq!(logging.shown(), json!({"ROOT": "TRACE", "meshos": "TRACE"}));
        posted(&logging, &json!({"level": "INFO", "logger": "ROOT"})).unwrap();
        assert_eq!(logging.shown()["ROOT"], "INFO");
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_named() {
        let logging = Logging::new(LoggingLevel::new(&Tasks::new()));
        let (status, body) = posted(&logging, &json!({"level": "LOUD", "durationSeconds": -1})).unwrap_err();
        let wanted = json!([
            {"path": "/durationSeconds", "errors": ["error.min"]},
            {"path": "/level", "errors": ["error.unknown.enum.literal"]},
            {"path": "/logger", "errors": ["error.path.missing"]},
        ]);
        assert_eq!((status, &body["details"]), (422, &wanted));
        let (status, body) = posted(&logging, &json!({"level": "OFF", "logger": "ROOT"})).unwrap_err();
        assert!(status == 422 && body["message"].as_str().unwrap().contains("RUST_LOG"), "{body}");
    }
}
