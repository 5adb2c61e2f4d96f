//! The launch queue.

use std::collections::BTreeMap;

use meshos_proto::{
    meshos::apps::v1::{Queue, UnusedOffer},
    mesos::v1::{Attribute, Resource, value},
};
use serde_json::{Value, json};

use super::{app::definition, timestamp};
use crate::{marathon::page::Page, views::Apps};

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

/// In `/v2/queue`: an entry for each app with waiting instances. `offers`: those that were not used for them.
pub(in crate::marathon) fn queue(
    apps: &Apps,
    now_ms: u64,
    page: Page,
    offers: Option<&[UnusedOffer]>,
) -> Value {
    let waiting = apps.queue.values().filter(|entry| entry.count > 0);
    let waiting = waiting.filter_map(|found| Some((found, apps.apps.get(&found.app_id)?)));
    let entries = page.of_items(waiting).map(|(found, app)| {
        let mut shown = entry(found, now_ms);
        shown["app"] = Value::Object(definition(app));
        if let Some(offers) = offers {
            let own = offers.iter().filter(|unused| unused.app_id == found.app_id);
            shown["lastUnusedOffers"] = own.filter_map(unused_offer).collect();
        }
        shown
    });
    json!({"queue": entries.collect::<Value>()})
}

fn unused_offer(unused: &UnusedOffer) -> Option<Value> {
    let offer = unused.offer.as_ref()?;
    let role = |resource: &Resource| {
        let reservation = resource.reservations.last().and_then(|one| one.role.clone());
        reservation.unwrap_or_else(|| "*".to_owned())
    };
    let resource = |resource: &Resource| {
        let value =
            Named { scalar: &resource.scalar, ranges: &resource.ranges, set: &resource.set, text: &None };
        value.shown(json!({"name": resource.name, "role": role(resource)}))
    };
    let attribute = |attribute: &Attribute| {
        let (scalar, ranges) = (&attribute.scalar, &attribute.ranges);
        let value = Named { scalar, ranges, set: &attribute.set, text: &attribute.text };
        value.shown(json!({"name": attribute.name}))
    };
    Some(json!({
        "offer": {
            "id": offer.id.value,
            "hostname": offer.hostname,
            "agentId": offer.agent_id.value,
            "resources": offer.resources.iter().map(resource).collect::<Value>(),
            "attributes": offer.attributes.iter().map(attribute).collect::<Value>(),
        },
        "reason": unused.reasons,
        "timestamp": timestamp(unused.timestamp_ms),
    }))
}

/// The value of a resource or an attribute, whatever its type.
struct Named<'a> {
    scalar: &'a Option<value::Scalar>,
    ranges: &'a Option<value::Ranges>,
    set: &'a Option<value::Set>,
    text: &'a Option<value::Text>,
}

impl Named<'_> {
    fn shown(&self, mut object: Value) -> Value {
        if let Some(scalar) = self.scalar {
            object["scalar"] = json!(scalar.value);
        }
        if let Some(ranges) = self.ranges {
            let range = |range: &value::Range| json!({"begin": range.begin, "end": range.end});
            object["ranges"] = ranges.range.iter().map(range).collect();
        }
        if let Some(set) = self.set {
            object["set"] = json!(set.item);
        }
        if let Some(text) = self.text {
            object["text"] = json!(text.value);
        }
        object
    }
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
    let mut shown = json!({
        "count": entry.count,
        "since": timestamp(entry.since_ms),
        "delay": {"timeLeftSeconds": left_ms.div_ceil(1000), "overdue": left_ms == 0},
        "processedOffersSummary": summary,
    });
    // The client of PyPI refuses entries with it; where there are no roles it says nothing.
    if entry.role != "*" {
        shown["role"] = json!(entry.role);
    }
    shown
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
    use meshos_proto::mesos::v1::Offer;

    use super::*;
    use crate::{http::Query, marathon::render::app::tests::minimal};

    #[test]
    fn marathon_c66_delays_end() {
        let mut apps = Apps::default();
        let all = Page::of(&Query::parse("")).unwrap();
        assert_eq!(queue(&apps, 0, all, None), json!({"queue": []}));
        apps.apps.insert("/a".to_owned(), minimal("/a"));
        let waiting = Queue { app_id: "/a".into(), count: 2, delayed_until_ms: 1500, ..Default::default() };
        apps.queue.insert("/a".to_owned(), waiting);
        let first = |now: u64| queue(&apps, now, all, None)["queue"][0].clone();
        let offer = Offer { hostname: "h".into(), ..Default::default() };
        let unused = UnusedOffer {
            app_id: "/a".into(),
            offer: Some(offer),
            reasons: vec!["InsufficientCpus".into(), "InsufficientMemory".into()],
            timestamp_ms: 1,
        };
        let shown = queue(&apps, 0, all, Some(&[unused]))["queue"][0]["lastUnusedOffers"][0].clone();
        assert_eq!(
            (&shown["offer"]["hostname"], &shown["reason"][1]),
            (&json!("h"), &json!("InsufficientMemory"))
        );
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
