//! `?embed=taskStats`: counts and life times of an app's tasks.

use meshos_proto::meshos::apps::v1::{App, Instance};
use serde_json::{Map, Value, json};

use super::task::{Counts, is_placed};

/// The four sections; one without tasks is absent.
pub(in crate::marathon) fn stats<'a>(
    app: &App,
    instances: impl Iterator<Item = &'a Instance>,
    now_ms: u64,
) -> Value {
    let placed: Vec<&Instance> = instances.filter(|instance| is_placed(instance)).collect();
    let latest = |instance: &&&Instance| instance.version_ms >= app.last_config_change_at_ms;
    let sections: [(&str, Vec<&Instance>); 4] = [
        (
            "startedAfterLastScaling",
            placed.iter().filter(|i| i.started_at_ms > app.last_scaling_at_ms).copied().collect(),
        ),
        ("withLatestConfig", placed.iter().filter(latest).copied().collect()),
        ("withOutdatedConfig", placed.iter().filter(|i| !latest(i)).copied().collect()),
        ("totalSummary", placed.clone()),
    ];
    let mut object = Map::new();
    for (name, instances) in sections {
        if !instances.is_empty() {
            object.insert(name.to_owned(), section(&instances, now_ms));
        }
    }
    Value::Object(object)
}

fn section(instances: &[&Instance], now_ms: u64) -> Value {
    let counts = Counts::of(instances.iter().copied());
    let mut stats = json!({"counts": {
        "staged": counts.staged, "running": counts.running,
        "healthy": counts.healthy, "unhealthy": counts.unhealthy,
    }});
    let started = instances.iter().map(|instance| instance.started_at_ms).filter(|started| *started > 0);
    let mut lives: Vec<f64> = started.map(|started| now_ms.saturating_sub(started) as f64 / 1000.0).collect();
    lives.sort_by(f64::total_cmp);
    let middle = lives.len() / 2;
    if let Some(upper) = lives.get(middle) {
        let median =
            if lives.len().is_multiple_of(2) { f64::midpoint(lives[middle - 1], *upper) } else { *upper };
        let average = lives.iter().sum::<f64>() / lives.len() as f64;
        stats["lifeTime"] = json!({"averageSeconds": average, "medianSeconds": median});
    }
    json!({"stats": stats})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::marathon::render::{app::tests::minimal, task::tests::running};

    #[test]
    fn sections_without_tasks_are_absent() {
        let app = minimal("/a");
        let old = Instance { version_ms: 1, ..running("/a", "2") };
        let instances = [running("/a", "1"), old];
        let now = instances[0].started_at_ms + 4000;
        let stats = stats(&app, instances.iter(), now);
        let life = json!({"averageSeconds": 4.0, "medianSeconds": 4.0});
        assert_eq!(stats["totalSummary"]["stats"]["lifeTime"], life);
        assert_eq!(stats["totalSummary"]["stats"]["counts"]["running"], 2);
        assert_eq!(stats["withOutdatedConfig"]["stats"]["counts"]["running"], 1);
        assert_eq!(super::stats(&app, [].iter(), 0), json!({}));
    }
}
