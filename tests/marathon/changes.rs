//! Changing apps: updates, versions, restarts.

use crate::common::{c, cluster, ids, message};
use serde_json::{Value, json};

#[test]
fn marathon_c23_c24_c31_what_restarts_tasks_and_what_does_not() {
    let marathon = cluster();
    let before = marathon.run(&c("/a", json!({})));

    let scaled = marathon.ask("PUT", "/v2/apps//a", &json!({"instances": 3}));
    assert_eq!(scaled.status, 200, "{}", scaled.text());
    let three = marathon.settled("/a", 3);
    let info = |app: &Value, key: &str| app["versionInfo"][key].clone();
    assert_eq!(info(&three, "lastConfigChangeAt"), info(&before, "lastConfigChangeAt"), "c23");
    assert_eq!(info(&three, "lastScalingAt"), scaled.json()["version"], "c23");
    assert!(ids(&three).contains(&ids(&before)[0]), "c23");

    let same = marathon.ask("PUT", "/v2/apps//a", &c("/a", json!({"instances": 3})));
    assert_eq!(same.status, 200);
    assert!(same.json()["deploymentId"].is_string(), "c24");
    let after = marathon.settled("/a", 3);
    assert_eq!((&after["version"], ids(&after)), (&three["version"], ids(&three)), "c24");

    assert_eq!(marathon.bare("POST", "/v2/apps//a/restart").status, 200);
    let restarted = marathon.app("/a", |app| {
        app["deployments"] == json!([]) && ids(app).iter().all(|id| !ids(&three).contains(id))
    });
    assert_ne!(info(&restarted, "lastConfigChangeAt"), info(&three, "lastConfigChangeAt"), "c31");
    for key in ["cmd", "cpus", "instances", "portDefinitions", "labels"] {
        assert_eq!(restarted[key], three[key], "c31 {key}");
    }
}

#[test]
fn marathon_c25_to_c30_updates_and_versions() {
    let marathon = cluster();
    marathon.create(&c("/a", json!({"env": {"A": "0", "B": "0"}, "instances": 0})));
    let first = marathon.app("/a", |_| true)["version"].clone();
    marathon.quiet();
    marathon.ask("PUT", "/v2/apps//a", &json!({"env": {"A": "1"}}));
    let app = marathon.app("/a", |app| app["deployments"] == json!([]));
    assert_eq!((&app["env"], &app["cmd"]), (&json!({"A": "1"}), &json!("sleep 1000")), "c25");
    marathon.quiet();

    let back = marathon.ask("PUT", "/v2/apps//a", &json!({"version": first}));
    assert_eq!(back.status, 200, "{}", back.text());
    let third = marathon.app("/a", |_| true);
    assert_eq!(third["env"], json!({"A": "0", "B": "0"}), "c28");
    let versions = marathon.read("/v2/apps//a/versions")["versions"].clone();
    assert_eq!(versions.as_array().unwrap().len(), 3, "c28");
    assert_ne!(third["version"], first, "c28");

    let both = marathon.ask("PUT", "/v2/apps//a", &json!({"version": first, "cmd": "x"}));
    let text = "The 'version' field may only be combined with the 'id' field.";
    assert_eq!(message(&both), (422, text.to_owned()), "c29");

    let stored = marathon.read(&format!("/v2/apps//a/versions/{}", first.as_str().unwrap()));
    assert_eq!((&stored["id"], stored.get("app")), (&json!("/a"), None), "c30");
    let none = marathon.get("/v2/apps//a/versions/2001-01-01T00:00:00.000Z").unwrap();
    assert_eq!(none.status, 404);
    assert!(message(&none).1.starts_with("App '/a' does not exist in version"), "c30");

    marathon.quiet();
    let full =
        marathon.ask("PUT", "/v2/apps//a?partialUpdate=false", &json!({"cmd": "sleep 2000", "instances": 0}));
    assert_eq!(full.status, 200, "{}", full.text());
    let app = marathon.app("/a", |_| true);
    assert_eq!((app.get("env"), &app["cpus"], &app["mem"]), (None, &json!(1), &json!(128)), "c26");

    let created = marathon.ask("PUT", "/v2/apps//b", &c("/b", json!({"instances": 0})));
    assert_eq!(created.status, 201, "c27");
    assert_eq!(marathon.ask("PATCH", "/v2/apps//c", &json!({"instances": 1})).status, 404, "c27");
}

#[test]
fn arrays_of_apps_are_one_change_that_holds_or_does_not() {
    let marathon = cluster();
    marathon.create(&c("/a", json!({"instances": 0})));
    marathon.quiet();
    let both = json!([{"id": "/a", "labels": {"x": "1"}}, c("/b", json!({"instances": 0}))]);
    let put = marathon.ask("PUT", "/v2/apps", &both);
    assert_eq!(put.status, 200, "{}", put.text());
    assert_eq!(marathon.app("/a", |_| true)["labels"], json!({"x": "1"}));
    assert_eq!(marathon.app("/b", |_| true)["instances"], 0);
    marathon.quiet();
    let bad = json!([{"id": "/a", "labels": {}}, {"id": "/b", "instances": -1}]);
    assert_eq!(marathon.ask("PUT", "/v2/apps", &bad).status, 422);
    assert_eq!(marathon.app("/a", |_| true)["labels"], json!({"x": "1"}));
    let nameless = marathon.ask("PUT", "/v2/apps", &json!([{"instances": 1}]));
    assert_eq!(message(&nameless), (422, "requirement failed: App Update must have app id set".to_owned()));
    assert_eq!(marathon.ask("PATCH", "/v2/apps", &json!([{"id": "/no", "instances": 0}])).status, 404);
}

#[test]
fn marathon_c38_unknown_apps_are_not_found() {
    let marathon = cluster();
    let text = "App '/x' does not exist".to_owned();
    for (method, path) in [
        ("GET", "/v2/apps//x"),
        ("POST", "/v2/apps//x/restart"),
        ("DELETE", "/v2/apps//x"),
        ("GET", "/v2/apps//x/tasks"),
        ("DELETE", "/v2/apps//x/tasks/t"),
    ] {
        assert_eq!(message(&marathon.bare(method, path)), (404, text.clone()), "{method} {path}");
    }
}
