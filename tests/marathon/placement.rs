//! Where tasks go.

use std::collections::BTreeMap;

use crate::common::{Cluster, c, declined, ids, racks};
use serde_json::json;

/// How many tasks of the app each agent has.
fn by_agent(marathon: &Cluster, id: &str) -> Vec<usize> {
    let app = marathon.app(id, |_| true);
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for task in app["tasks"].as_array().unwrap() {
        *counts.entry(task["slaveId"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    let mut counts: Vec<usize> = counts.into_values().collect();
    counts.sort_unstable();
    counts
}

#[test]
fn marathon_c71_c72_one_on_each_and_an_upgrade_is_not_blocked() {
    let marathon = racks(&["a", "b"]);
    let unique = json!({"constraints": [["rack", "UNIQUE"]], "instances": 3});
    marathon.create(&c("/a", unique));
    marathon.app("/a", |app| app["tasksRunning"] == 2);
    let entry = marathon.queued("/a", |entry| declined(entry, "UnfulfilledConstraint") > 0);
    assert_eq!((&entry["count"], by_agent(&marathon, "/a")), (&json!(1), vec![1, 1]), "c71");

    let scaled = marathon.ask("PUT", "/v2/apps//a?force=true", &json!({"instances": 2}));
    assert_eq!(scaled.status, 200);
    let before = ids(&marathon.settled("/a", 2));
    marathon.ask("PUT", "/v2/apps//a", &json!({"cmd": "sleep 2000"}));
    marathon
        .app("/a", |app| app["deployments"] == json!([]) && ids(app).iter().all(|id| !before.contains(id)));
    assert_eq!(by_agent(&marathon, "/a"), [1, 1], "c72");
}

#[test]
fn marathon_c73_c74_operators() {
    let marathon = racks(&["a", "b"]);
    let with = |id: &str, constraint: serde_json::Value, instances: u32| {
        c(id, json!({"constraints": [constraint], "instances": instances}))
    };
    marathon.create(&with("/most", json!(["rack", "MAX_PER", "2"]), 5));
    marathon.app("/most", |app| app["tasksRunning"] == 4);
    marathon.queued("/most", |entry| declined(entry, "UnfulfilledConstraint") > 0);
    assert_eq!(by_agent(&marathon, "/most"), [2, 2], "c73");
    marathon.run(&with("/together", json!(["rack", "CLUSTER"]), 3));
    assert_eq!(by_agent(&marathon, "/together"), [3], "c73");
    marathon.run(&with("/unlike", json!(["nosuch", "UNLIKE", "x"]), 1));
    marathon.run(&with("/spread", json!(["rack", "GROUP_BY", "2"]), 5));
    assert_eq!(by_agent(&marathon, "/spread"), [2, 3], "c74");
}
