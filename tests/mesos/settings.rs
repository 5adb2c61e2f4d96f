//! What operators set: weights, quota, reservations and volumes.

use meshos_testing::{Local, Response};
use serde_json::{Value, json};

use crate::support::{Framework, QUIET, amount, cluster, eventually, info, scalar, sized};

fn operator(meshos: &Local, kind: &str, part: Value) -> Response {
    let call = json!({"type": kind, kind.to_lowercase(): part});
    meshos.mesos.json("POST", "/api/v1", &call).unwrap()
}

fn form(meshos: &Local, path: &str, fields: &[(&str, &str)]) -> Response {
    let body: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let headers = [("Content-Type", "application/x-www-form-urlencoded")];
    meshos.mesos.send("POST", path, &headers, body.join("&").as_bytes()).unwrap()
}

#[test]
fn weights_and_quota_are_read_after_they_are_written_and_outlive_a_new_start() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = cluster(dir.path(), "cpus:4");
    let meshos = cluster.start();
    let put = meshos.mesos.json("PUT", "/weights", &json!([{"role": "eng", "weight": 2.5}])).unwrap();
    assert_eq!((put.status, put.text().as_str()), (200, ""));
    assert_eq!(meshos.mesos.get("/weights").unwrap().json(), json!([{"weight": 2.5, "role": "eng"}]));
    let amounts = |cpus: f64| json!({"cpus": {"value": cpus}});
    let config = json!({"role": "eng", "guarantees": amounts(1.0), "limits": amounts(2.0)});
    let updated = operator(&meshos, "UPDATE_QUOTA", json!({"quota_configs": [config]}));
    assert_eq!((updated.status, updated.text().as_str()), (200, ""));
    let shown = meshos.mesos.get("/quota").unwrap().json();
    assert_eq!(shown["configs"][0], config);
    meshos.kill_9();

    let meshos = cluster.start();
    assert_eq!(meshos.mesos.get("/weights").unwrap().json(), json!([{"weight": 2.5, "role": "eng"}]));
    let role = meshos.mesos.get("/roles").unwrap().json()["roles"][0].clone();
    assert_eq!(
        (&role["name"], &role["weight"], &role["quota"]["limit"]),
        (&json!("eng"), &json!(2.5), &json!({"cpus": 2.0}))
    );
    let removed = meshos.mesos.send("DELETE", "/quota/eng", &[], b"").unwrap();
    assert_eq!(removed.status, 200, "{}", removed.text());
    assert_eq!(meshos.mesos.get("/quota").unwrap().json(), json!({}));
    assert!(meshos.terminate().success());
}

#[test]
fn mesos_c24_c26_a_limit_holds_and_a_wrong_quota_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let meshos = cluster(dir.path(), "cpus:4").start();
    let amounts = |cpus: f64| json!({"cpus": {"value": cpus}});
    let nested = operator(
        &meshos,
        "UPDATE_QUOTA",
        json!({"quota_configs": [{"role": "a/b", "limits": amounts(1.0)}]}),
    );
    assert_eq!(nested.status, 400, "{}", nested.text());
    let beyond =
        json!({"quota_configs": [{"role": "a", "guarantees": amounts(100.0), "limits": amounts(100.0)}]});
    let beyond = operator(&meshos, "UPDATE_QUOTA", beyond);
    assert_eq!(beyond.status, 400, "{}", beyond.text());
    let limit = operator(
        &meshos,
        "UPDATE_QUOTA",
        json!({"quota_configs": [{"role": "eng", "limits": amounts(2.0)}]}),
    );
    assert_eq!(limit.status, 200, "{}", limit.text());
    let mut framework = Framework::subscribe(&meshos.mesos, &info(json!({})));
    let offer = framework.offer();
    assert_eq!(amount(&offer, "cpus"), 2.0);
    framework.none("OFFERS", QUIET);
    framework.launch(&offer, &[sized(&offer, "t", "sleep 1000", 2.0)]);
    framework.until("t", "TASK_RUNNING");
    // What is left of the agent comes without cpus, though two are free.
    let rest = framework.offer();
    assert_eq!((amount(&rest, "cpus"), amount(&rest, "mem")), (0.0, 992.0));
    framework.none("OFFERS", QUIET);
    assert!(meshos.terminate().success());
}

#[test]
fn mesos_c65_c66_a_reservation_takes_offers_back_and_a_volume_is_not_unreserved() {
    let dir = tempfile::tempdir().unwrap();
    let meshos = cluster(dir.path(), "cpus:4").start();
    let mut framework = Framework::subscribe(&meshos.mesos, &info(json!({"roles": ["other"]})));
    let offer = framework.offer();
    let agent = offer["agent_id"]["value"].as_str().unwrap().to_owned();
    let reserved = |resource: Value| {
        let mut resource = resource;
        resource["reservations"] = json!([{"type": "DYNAMIC", "role": "eng"}]);
        resource
    };
    let disk = reserved(scalar("disk", 64.0));
    let resources = json!([reserved(scalar("cpus", 3.0)), disk]).to_string();
    let done = form(&meshos, "/reserve", &[("slaveId", &agent), ("resources", &resources)]);
    assert_eq!((done.status, done.text().as_str()), (202, ""));
    assert_eq!(framework.next("RESCIND")["rescind"]["offer_id"], offer["id"]);
    let slave = |key: &str| meshos.mesos.get("/slaves").unwrap().json()["slaves"][0][key].clone();
    assert_eq!(slave("reserved_resources")["eng"]["cpus"], 3.0);
    let rest = framework.offer();
    assert_eq!(amount(&rest, "cpus"), 1.0, "the rest");

    let mut volume = disk.clone();
    volume["disk"] = json!({"persistence": {"id": "v1"}, "volume": {"container_path": "data", "mode": "RW"}});
    let volumes = json!([volume]).to_string();
    let made = form(&meshos, "/create-volumes", &[("slaveId", &agent), ("volumes", &volumes)]);
    assert_eq!((made.status, made.text().as_str()), (202, ""));
    let refused = form(&meshos, "/unreserve", &[("slaveId", &agent), ("resources", &volumes)]);
    assert_eq!(refused.status, 400, "{}", refused.text());
    let full = slave("reserved_resources_full")["eng"].to_string();
    assert!(full.contains("\"v1\""), "the volume stays: {full}");
    let gone = form(&meshos, "/destroy-volumes", &[("slaveId", &agent), ("volumes", &volumes)]);
    assert_eq!((gone.status, gone.text().as_str()), (202, ""));
    let freed =
        operator(&meshos, "UNRESERVE_RESOURCES", json!({"agent_id": {"value": agent}, "resources": [disk]}));
    assert_eq!((freed.status, freed.text().as_str()), (202, ""));
    eventually("the disk is free", || {
        let disk = slave("unreserved_resources")["disk"].clone();
        if disk == json!(1024.0) { Ok(()) } else { Err(disk) }
    });

    // What tasks use cannot be reserved.
    framework.launch(&rest, &[sized(&rest, "t", "sleep 1000", 1.0)]);
    framework.until("t", "TASK_RUNNING");
    let before = slave("reserved_resources");
    let more = json!([reserved(scalar("cpus", 1.0))]).to_string();
    let refused = form(&meshos, "/reserve", &[("slaveId", &agent), ("resources", &more)]);
    assert_eq!(refused.status, 409, "{}", refused.text());
    assert_eq!(slave("reserved_resources"), before);
    assert!(meshos.terminate().success());
}

#[test]
fn the_cluster_says_why_a_framework_has_no_offers() {
    let dir = tempfile::tempdir().unwrap();
    let meshos = cluster(dir.path(), "cpus:1").start();
    let mut framework = Framework::subscribe(&meshos.mesos, &info(json!({})));
    let offer = framework.offer();
    framework.decline(&offer, json!({"refuse_seconds": 3600}));
    let path = format!("/api/meshos/v1/explain?framework={}", framework.id);
    eventually("the filter is named", || {
        let told = meshos.mesos.get(&path).unwrap().json();
        let first = &told["explanations"][0];
        let named = first["refusals"]["filter"].as_u64().is_some_and(|count| count > 0);
        if named && first["role"] == "eng" && first["offered"].as_u64() >= Some(1) {
            Ok(())
        } else {
            Err(told)
        }
    });
    framework.tell("SUPPRESS", json!({}));
    let told = meshos.mesos.get("/api/meshos/v1/explain?role=eng").unwrap().json();
    assert_eq!(told["explanations"][0]["suppressed"], true, "{told}");
    let unknown = meshos.mesos.get("/api/meshos/v1/explain?framework=nobody").unwrap();
    assert_eq!(unknown.status, 404, "{}", unknown.text());
    assert!(meshos.terminate().success());
}
