//! Reading: filters, embeds, small endpoints.

use meshos_testing::wait::until_blocking;

use crate::common::{c, cluster};
use serde_json::{Value, json};

fn shown(marathon: &crate::common::Cluster, query: &str) -> Vec<String> {
    let apps = marathon.read(&format!("/v2/apps?{query}"))["apps"].clone();
    apps.as_array().unwrap().iter().map(|app| app["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn marathon_c45_to_c49_lists_filters_and_embeds() {
    let marathon = cluster();
    marathon.run(&c("/a", json!({"labels": {"tier": "db"}})));
    marathon.run(&c("/g/b", json!({"labels": {"tier": "web"}})));
    marathon.create(&c("/none", json!({"instances": 0})));
    assert_eq!(shown(&marathon, "id=B"), ["/g/b"], "c46");
    assert_eq!(shown(&marathon, "cmd=SLEEP&id=a"), ["/a"], "c46");
    assert_eq!(shown(&marathon, "label=tier!%3Ddb"), ["/g/b"], "c47");
    let bad = marathon.get("/v2/apps?label=a%3D%3D").unwrap();
    assert_eq!(bad.status, 422, "c47");

    let plain = marathon.read("/v2/apps")["apps"][0].clone();
    assert_eq!((&plain["tasksRunning"], &plain["deployments"]), (&json!(1), &json!([])), "c48");
    assert!(plain.get("tasks").is_none(), "c48");
    let embedded = marathon.read("/v2/apps?embed=apps.tasks")["apps"][0].clone();
    assert_eq!(embedded["tasks"].as_array().unwrap().len(), 1, "c48");
    assert_eq!((&plain["tasksHealthy"], &plain["tasksUnhealthy"]), (&json!(0), &json!(0)), "c49");

    let running = marathon.read("/v2/tasks?status=running")["tasks"].clone();
    assert_eq!(running.as_array().unwrap().len(), 2, "c45");
    assert!(running.as_array().unwrap().iter().all(|task| task["servicePorts"].is_array()), "c45");
    assert_eq!(marathon.read("/v2/tasks?status=staging"), json!({"tasks": []}), "c45");
}

#[test]
fn marathon_c45_a_task_whose_files_are_on_their_way_is_staging() {
    let marathon = cluster();
    // Takes connections and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let uri = format!("http://{}/file", silent.local_addr().unwrap());
    marathon.create(&c("/slow", json!({"fetch": [{"uri": uri}]})));
    let staging = until_blocking("the task is staging", || {
        let tasks = marathon.read("/v2/tasks?status=staging")["tasks"].clone();
        if tasks.as_array().is_some_and(|tasks| tasks.len() == 1) { Ok(tasks[0].clone()) } else { Err(tasks) }
    });
    assert_eq!((&staging["appId"], &staging["state"]), (&json!("/slow"), &json!("TASK_STAGING")));
    assert_eq!(marathon.read("/v2/tasks?status=running"), json!({"tasks": []}));
    assert_eq!(marathon.read("/v2/apps/slow")["app"]["tasksStaged"], 1);
}

#[test]
fn marathon_c87_c98_small_endpoints() {
    let marathon = cluster();
    let ping = marathon.get("/ping").unwrap();
    assert_eq!((ping.status, ping.text().as_str()), (200, "pong"), "c98");
    assert!(ping.header("content-type").unwrap().starts_with("text/plain"), "c98");
    assert_eq!(marathon.read("/v2/leader")["leader"], marathon.address.as_str(), "c87");
    let root = marathon.get("/").unwrap();
    assert_eq!((root.status, root.header("location")), (302, Some("/ui/")), "c87");
    let metrics = marathon.get("/metrics/prometheus").unwrap();
    assert!(metrics.text().contains("marathon_apps_active_gauge"), "c98");
    for path in ["/v2/apps", "/v2/groups", "/v2/info", "/v2/queue", "/v2/deployments", "/v2/tasks"] {
        let head = marathon.bare("HEAD", path);
        assert_eq!((head.status, head.body.len()), (200, 0), "HEAD {path}");
    }
    let info: Value = marathon.read("/v2/info");
    assert!(info["frameworkId"].is_string() && info["marathon_config"]["features"].is_array());
}
