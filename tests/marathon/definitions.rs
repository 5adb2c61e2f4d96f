//! Creating apps, and what is refused.

use crate::common::{c, cluster, message};
use serde_json::{Value, json};

#[test]
fn marathon_c01_c02_c03_an_app_is_created_once() {
    let marathon = cluster();
    let created = marathon.ask("POST", "/v2/apps", &c("/a", json!({})));
    assert_eq!(created.status, 201);
    assert!(created.header("location").unwrap().ends_with("/a"));
    let body = created.json();
    assert_eq!(created.header("marathon-deployment-id"), body["deployments"][0]["id"].as_str());
    assert_eq!(body["tasksRunning"], 0);
    assert!(body.get("tasks").is_none());

    let running = marathon.settled("/a", 1);
    assert_eq!(running["version"], body["version"]);
    marathon.quiet();

    let again = marathon.ask("POST", "/v2/apps", &c("/a", json!({})));
    assert_eq!(message(&again), (409, "An app with id [/a] already exists.".to_owned()));
    assert_eq!(marathon.read("/v2/apps//a/versions")["versions"].as_array().unwrap().len(), 1);
}

/// Status, message and details of a refused POST.
fn refused(marathon: &crate::common::Cluster, body: &Value) -> (u16, String, Value) {
    let response = marathon.ask("POST", "/v2/apps", body);
    let (status, text) = message(&response);
    (status, text, response.json()["details"].clone())
}

#[test]
fn marathon_c04_to_c22_what_is_wrong_is_named() {
    let marathon = cluster();
    let raw = |body: &[u8]| {
        let headers = [("Content-Type", "application/json")];
        marathon.send("POST", "/v2/apps", &headers, body).unwrap()
    };
    let broken = raw(b"{\"id\":");
    assert_eq!(message(&broken), (400, "Invalid JSON".to_owned()), "c04");
    assert!(broken.json()["details"].is_string(), "c04");
    let (status, text) = message(&raw(b""));
    assert!(status == 400 && text.starts_with("Please specify data in JSON format"), "c05");

    let invalid_json = |body: Value, details: Value, line: &str| {
        assert_eq!(refused(&marathon, &body), (422, "Invalid JSON".to_owned(), details), "{line}");
    };
    let at = |path: &str, error: &str| json!([{"path": path, "errors": [error]}]);
    invalid_json(c("/a", json!({"id": 123})), at("/id", "error.expected.jsstring"), "c06");
    invalid_json(c("/A_b", json!({})), at("/id", "error.pattern"), "c07");
    let both =
        json!([{"path": "/cpus", "errors": ["error.min"]}, {"path": "/instances", "errors": ["error.min"]}]);
    invalid_json(c("/a", json!({"instances": -1, "cpus": 0})), both, "c10");
    let capacity = c("/a", json!({"upgradeStrategy": {"minimumHealthCapacity": 1.5}}));
    invalid_json(capacity, at("/upgradeStrategy/minimumHealthCapacity", "error.max"), "c11");

    let not_valid = |body: Value, part: &str, line: &str| {
        let (status, text, details) = refused(&marathon, &body);
        assert_eq!((status, text.as_str()), (422, "Object is not valid"), "{line}");
        assert!(details.to_string().contains(part), "{line}: {details}");
    };
    not_valid(c("/x/restart", json!({})), "reserved keywords: restart, tasks, versions", "c08");
    not_valid(json!({"id": "/a"}), "must either contain one of 'cmd' or 'args', and/or a 'container'", "c09");
    let ports = json!({"ports": [1], "portDefinitions": [{"port": 2}]});
    not_valid(c("/a", ports), "cannot specify both ports and port definitions", "c18");
    let networks = json!({"networks": [{"mode": "host"}, {"mode": "container", "name": "n"}]});
    not_valid(c("/a", networks), "May specify a single host network, single bridge network", "c19");
    let names = json!({"portDefinitions": [{"port": 0, "name": "http"}, {"port": 0, "name": "http"}]});
    not_valid(c("/a", names), "Port names must be unique.", "c20");
    let unique = json!({"constraints": [["hostname", "UNIQUE", "x"]]});
    not_valid(c("/a", unique), "UNIQUE does not accept a value", "c21");
    let like = json!({"constraints": [["hostname", "LIKE", "("]]});
    not_valid(c("/a", like), "regular expression", "c22");
    assert_eq!(marathon.read("/v2/apps"), json!({"apps": []}), "nothing was created");
}

#[test]
fn marathon_c12_to_c16_defaults_and_older_forms() {
    let marathon = cluster();
    marathon.create(&c("/a", json!({"foo": 1, "instances": 0})));
    let app = marathon.app("/a", |_| true);
    assert!(app.get("foo").is_none(), "c12");
    assert_eq!((&app["backoffSeconds"], &app["backoffFactor"]), (&json!(1), &json!(1.15)), "c13");
    assert_eq!(app["maxLaunchDelaySeconds"], 300, "c13");
    assert_eq!(app["networks"], json!([{"mode": "host"}]), "c13");
    let definitions = app["portDefinitions"].as_array().unwrap();
    assert_eq!((definitions.len(), &definitions[0]["name"]), (1, &json!("default")), "c13");
    assert!(definitions[0]["port"].as_u64().unwrap() >= 10_000, "c13");
    for absent in ["ports", "uris", "ipAddress", "env", "constraints", "healthChecks", "container"] {
        assert!(app.get(absent).is_none(), "c14 {absent}");
    }
    assert_eq!(app["labels"], json!({}), "c14");

    marathon.create(&c("/p", json!({"ports": [0, 0], "instances": 0})));
    let app = marathon.app("/p", |_| true);
    let ports: Vec<u64> =
        app["portDefinitions"].as_array().unwrap().iter().map(|d| d["port"].as_u64().unwrap()).collect();
    assert!(ports.len() == 2 && ports[0] != ports[1], "c15");
    assert!(ports.iter().all(|port| (10_000..=20_000).contains(port)), "c15");

    let uris = json!({"uris": ["http://h/x.tgz", "http://h/y.bin"], "instances": 0});
    marathon.create(&c("/u", uris));
    let app = marathon.app("/u", |_| true);
    let extract: Vec<&Value> = app["fetch"].as_array().unwrap().iter().map(|f| &f["extract"]).collect();
    assert_eq!(extract, [true, false], "c16");
}
