//! `/logging/toggle`.

use http::StatusCode;
use meshos_mesh::LoggingLevel;

use crate::http::{Query, Reply};

/// Tells or sets the level of logging.
pub(super) fn toggle(logging: &LoggingLevel, query: &Query) -> Reply {
    match logging.toggle(query.get("level"), query.get("duration")) {
        Ok(text) if text.is_empty() => Reply::empty(StatusCode::OK),
        Ok(text) => Reply::text(StatusCode::OK, text),
        Err(why) => Reply::text(StatusCode::BAD_REQUEST, why),
    }
}
