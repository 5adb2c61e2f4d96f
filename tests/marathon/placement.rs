//! Where tasks go.

use std::collections::BTreeMap;

use crate::common::{Cluster, c, cluster_with, declined, ids, racks};
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

#[test]
fn agents_with_gpus_are_kept_for_what_needs_them() {
    let resources = ["--resources", "cpus:4;mem:4096;disk:1000;gpus:2;ports:[31000-31100]"];
    let marathon = cluster_with(&resources, &[("MARATHON_ENABLE_FEATURES", "gpu_resources")]);
    marathon.create(&c("/plain", json!({})));
    marathon.queued("/plain", |entry| declined(entry, "DeclinedScarceResources") > 0);
    let label = json!({"labels": {"GPU_SCHEDULING_BEHAVIOR": "unrestricted"}});
    marathon.run(&c("/labelled", label));
    let open =
        [("MARATHON_ENABLE_FEATURES", "gpu_resources"), ("MARATHON_GPU_SCHEDULING_BEHAVIOR", "unrestricted")];
    cluster_with(&resources, &open).run(&c("/plain", json!({})));
}

#[test]
fn both_of_two_apps_start_at_once_where_first_fit_places_one() {
    let marathon = crate::common::cluster_of(&[
        "--agents",
        "2",
        "--resources",
        "cpus:1.5;mem:5120;disk:1000;ports:[31000-31100]",
        "--resources",
        "cpus:2;mem:2048;disk:1000;ports:[31000-31100]",
    ]);
    let group = json!({"id": "/g", "apps": [
        {"id": "b", "cmd": "sleep 1000", "cpus": 1, "mem": 2048},
        {"id": "a", "cmd": "sleep 1000", "cpus": 2, "mem": 1024},
    ]});
    assert_eq!(marathon.ask("POST", "/v2/groups", &group).status, 201);
    marathon.settled("/g/a", 1);
    marathon.settled("/g/b", 1);
}
