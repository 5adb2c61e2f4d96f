//! The launch queue.

use std::collections::BTreeMap;

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
    let mut summary = json!({
        "processedOffersCount": entry.processed_offers,
        "unusedOffersCount": entry.unused_offers,
        "rejectSummaryLastOffers": funnel(&entry.last_refusals, entry.last_refusals.values().sum()),
        "rejectSummaryLaunchAttempt": funnel(&entry.refusals, entry.processed_offers),
    });
    for (key, time) in
        [("lastUnusedOfferAt", entry.last_unused_offer_ms), ("lastUsedOfferAt", entry.last_used_offer_ms)]
    {
        if time > 0 {
            summary[key] = json!(timestamp(time));
        }
    }
    json!({
        "count": entry.count,
        "role": entry.role,
        "since": timestamp(entry.since_ms),
        "delay": {"timeLeftSeconds": left_ms.div_ceil(1000), "overdue": left_ms == 0},
        "processedOffersSummary": summary,
    })
}

/// All reasons in order; what one step declines does not reach the next.
fn funnel(refusals: &BTreeMap<String, u64>, offers: u64) -> Value {
    let mut left = offers;
    let step = |reason: &&str| {
        let declined = refusals.get(*reason).copied().unwrap_or(0);
        let processed = left;
        left = left.saturating_sub(declined);
        json!({"reason": reason, "declined": declined, "processed": processed})
    };
    REASONS.iter().map(step).collect()
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

    #[test]
    fn marathon_c65_refusals_are_a_funnel() {
        let refusals = [("UnfulfilledConstraint", 1), ("InsufficientCpus", 3)];
        let refusals = refusals.map(|(reason, count)| (reason.to_owned(), count)).into();
        let waiting = Queue {
            refusals,
            processed_offers: 5,
            unused_offers: 4,
            last_unused_offer_ms: 1,
            ..Default::default()
        };
        let summary = entry(&waiting, 0)["processedOffersSummary"].clone();
        let steps = summary["rejectSummaryLaunchAttempt"].as_array().unwrap();
        assert_eq!(steps.len(), REASONS.len());
        let of = |at: usize| (steps[at]["declined"].as_u64(), steps[at]["processed"].as_u64());
        assert_eq!((of(0), of(1)), ((Some(0), Some(5)), (Some(1), Some(5))));
        assert_eq!((of(4), of(5)), ((Some(3), Some(4)), (Some(0), Some(1))));
        assert!(summary.get("lastUsedOfferAt").is_none() && summary.get("lastUnusedOfferAt").is_some());
    }
}
