//! The view as Marathon's JSON. Pure.

pub(super) mod app;
mod container;
pub(super) mod deployment;
pub(super) mod embed;
pub(super) mod group;
pub(super) mod queue;
pub(super) mod stats;
pub(super) mod task;

use meshos_types::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

/// `2026-03-01T09:05:07.012Z`
pub(super) fn timestamp(unix_ms: u64) -> String {
    Timestamp::from_millis(i64::try_from(unix_ms).unwrap_or(i64::MAX)).to_string()
}

/// The same where very many are written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp(u64);

impl Serialize for Stamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Timestamp::from_millis(i64::try_from(self.0).unwrap_or(i64::MAX)))
    }
}

/// Whole numbers without a fraction: `1`, not `1.0`.
pub(super) fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0 {
        json!(value as i64)
    } else {
        json!(value)
    }
}
