//! The launch queue.

use meshos_proto::meshos::apps::v1::Queue;
use serde_json::{Value, json};

use super::{app::definition, timestamp};
use crate::views::Apps;

/// Reasons in the order in which offers are tried against them.
const REASONS: [&str; 10] = [
    "UnfulfilledRole",
    "UnfulfilledConstraint",
    "NoCorrespondingReservationFound",
    "AgentMaintenance",
    "InsufficientCpus",
    "InsufficientMemory",
    "InsufficientDisk",
    "InsufficientGpus",
    "InsufficientPorts",
    "DeclinedScarceResources",
];

/// In `/v2/queue`: an entry for each app with waiting instances.
pub(in crate::marathon) fn queue(apps: &Apps, now_ms: u64) -> Value {
    let waiting = apps.queue.values().filter(|entry| entry.count > 0);
    let entries = waiting.filter_map(|found| {
        let app = apps.apps.get(&found.app_id)?;
        let mut shown = entry(found, now_ms);
        shown["app"] = Value::Object(definition(app));
        Some(shown)
    });
    json!({"queue": entries.collect::<Value>()})
}

fn entry(entry: &Queue, now_ms: u64) -> Value {
    let left_ms = entry.delayed_until_ms.saturating_sub(now_ms);
    json!({
        "count": entry.count,
        "role": entry.role,
        "since": timestamp(entry.since_ms),
        "delay": {"timeLeftSeconds": left_ms.div_ceil(1000), "overdue": left_ms == 0},
        "processedOffersSummary": {
            "processedOffersCount": 0,
            "unusedOffersCount": 0,
            "rejectSummaryLastOffers": reasons(),
            "rejectSummaryLaunchAttempt": reasons(),
        },
    })
}

fn reasons() -> Value {
    REASONS.iter().map(|reason| json!({"reason": reason, "declined": 0, "processed": 0})).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::marathon::render::app::tests::minimal;

    #[test]
    fn marathon_c66_delays_end() {
        let mut apps = Apps::default();
        assert_eq!(queue(&apps, 0), json!({"queue": []}));
        apps.apps.insert("/a".to_owned(), minimal("/a"));
        let waiting = Queue { app_id: "/a".into(), count: 2, delayed_until_ms: 1500, ..Default::default() };
        apps.queue.insert("/a".to_owned(), waiting);
        let first = |now: u64| queue(&apps, now)["queue"][0].clone();
        assert_eq!(first(0)["delay"], json!({"timeLeftSeconds": 2, "overdue": false}));
        assert_eq!(first(1500)["delay"], json!({"timeLeftSeconds": 0, "overdue": true}));
        assert_eq!((first(0)["count"].clone(), first(0)["app"]["id"].clone()), (json!(2), json!("/a")));
    }
}
