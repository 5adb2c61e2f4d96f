//! What a task may use beyond what it asks for, and what its agent finds out about it.

use meshos_testing::wait::until_blocking;
use serde_json::{Value, json};

use crate::{
    common::{c, cluster, cluster_with_own_ports, ids},
    servers::Status,
};

/// Waits until the app's only task shows this.
fn found(marathon: &crate::common::Cluster, id: &str, wanted: &Value) -> Value {
    marathon.app(id, |app| app["tasks"][0]["checkResult"] == *wanted)
}

#[test]
fn what_a_check_finds_is_shown_and_nothing_follows_from_it() {
    let marathon = cluster_with_own_ports();
    let status = Status::new(503);
    let times = |kind: Value| {
        let mut check = json!({"delaySeconds": 0, "intervalSeconds": 1});
        check.as_object_mut().unwrap().extend(kind.as_object().unwrap().clone());
        check
    };
    let http = times(json!({"http": {"path": "/x", "portIndex": 0}}));
    marathon.create(&c("/http", json!({"cmd": status.cmd("1"), "check": http})));
    let first = found(&marathon, "/http", &json!({"http": {"statusCode": 503}}));
    assert_eq!(first["check"]["http"], json!({"path": "/x", "portIndex": 0, "scheme": "HTTP"}));
    assert_eq!((&first["tasksHealthy"], &first["tasksUnhealthy"]), (&json!(0), &json!(0)));
    status.answer(200);
    let later = found(&marathon, "/http", &json!({"http": {"statusCode": 200}}));
    assert_eq!(ids(&later), ids(&first), "it is the same task");

    let tcp = times(json!({"tcp": {"portIndex": 0}}));
    marathon.create(&c("/tcp", json!({"cmd": status.cmd("2"), "check": tcp})));
    found(&marathon, "/tcp", &json!({"tcp": {"succeeded": true}}));
    marathon.create(&c("/deaf", json!({"check": tcp})));
    found(&marathon, "/deaf", &json!({"tcp": {"succeeded": false}}));

    let files = tempfile::tempdir().unwrap();
    let flag = files.path().join("up");
    let shell = times(json!({"exec": {"command": {"shell": format!("test -e {}", flag.display())}}}));
    marathon.create(&c("/shell", json!({"check": shell})));
    let first = found(&marathon, "/shell", &json!({"command": {"exitCode": 1}}));
    std::fs::write(&flag, "").unwrap();
    let later = found(&marathon, "/shell", &json!({"command": {"exitCode": 0}}));
    assert_eq!(ids(&later), ids(&first));
}

#[test]
fn a_task_gets_the_limits_of_its_app() {
    let marathon = cluster();
    let limits = json!({"cpus": 2, "mem": "unlimited"});
    marathon.run(&c("/a", json!({"resourceLimits": limits})));
    let app = marathon.app("/a", |_| true);
    assert_eq!(app["resourceLimits"], limits);
    let task = until_blocking("the task in the Mesos API", || {
        let tasks = marathon.mesos().get("/tasks").unwrap().json()["tasks"].clone();
        let own = tasks.as_array().into_iter().flatten().find(|task| task["id"] == ids(&app)[0].as_str());
        own.cloned().ok_or(tasks)
    });
    assert_eq!((&task["limits"]["cpus"], &task["resources"]["cpus"]), (&json!(2.0), &json!(0.1)));
    assert!(task["limits"].as_object().unwrap().contains_key("mem"), "{task}");

    let less = c("/b", json!({"resourceLimits": {"mem": 16}}));
    let refused = marathon.ask("POST", "/v2/apps", &less);
    let rule = "resource limit must be greater than or equal to requested resource (32.0)";
    let wanted = json!([{"path": "/resourceLimits/mem", "errors": [rule]}]);
    assert_eq!((refused.status, &refused.json()["details"]), (422, &wanted));
    let odd = marathon.ask("POST", "/v2/apps", &c("/b", json!({"resourceLimits": {"cpus": "many"}})));
    let rule = "'many' is an invalid resource limit. It must be 'unlimited' or a number";
    let wanted = json!([{"path": "/resourceLimits/cpus", "errors": [rule]}]);
    assert_eq!((odd.status, &odd.json()["details"]), (422, &wanted));
    marathon.ask("PUT", "/v2/apps//a", &json!({"resourceLimits": {}}));
    let changed = marathon.app("/a", |app| {
        app.get("resourceLimits").is_none() && app["deployments"] == json!([]) && app["tasksRunning"] == 1
    });
    assert_ne!(ids(&changed), ids(&app), "other limits need another task");
}
