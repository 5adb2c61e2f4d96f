//! What `/v2/openapi.json` says and what is answered are the same.

use std::cell::RefCell;

use crate::common::{Cluster, c, cluster, huge, ids};
use jsonschema::Validator;
use meshos_testing::Response;
use serde_json::{Value, json};

/// Asks, and holds every answer against the description.
struct Checked {
    cluster: Cluster,
    description: Value,
    /// Method and path of what was described and answered.
    seen: RefCell<Vec<(String, String)>>,
}

impl Checked {
    fn new(cluster: Cluster) -> Self {
        let description = cluster.read("/v2/openapi.json");
        assert_eq!(description["openapi"], "3.1.0");
        Self { cluster, description, seen: RefCell::default() }
    }

    /// The answer to `method` of `path`, of which the description has `template`.
    fn ask(&self, method: &str, template: &str, path: &str, body: Option<&Value>) -> Response {
        let response = match body {
            Some(body) => self.cluster.ask(method, path, body),
            None => self.cluster.bare(method, path),
        };
        let operation = &self.description["paths"][template][method.to_lowercase()];
        assert!(operation.is_object(), "{method} {template} is not described");
        let responses = &operation["responses"];
        let class = format!("{}XX", response.status / 100);
        let described = responses.get(response.status.to_string()).or_else(|| responses.get(&class));
        let described =
            described.unwrap_or_else(|| panic!("{method} {path}: {} is not described", response.status));
        match described["content"]["application/json"].get("schema") {
            Some(schema) => self.check(schema, &response.json(), &format!("{method} {path}")),
            None => assert!(response.text().is_empty(), "{method} {path}: {}", response.text()),
        }
        if response.status < 300 {
            self.seen.borrow_mut().push((method.to_lowercase(), template.to_owned()));
        }
        response
    }

    fn check(&self, schema: &Value, answer: &Value, what: &str) {
        let whole = json!({"allOf": [schema], "components": self.description["components"]});
        let validator: Validator = jsonschema::validator_for(&whole).unwrap();
        let errors: Vec<String> = validator
            .iter_errors(answer)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{what}: {}\n{answer:#}", errors.join("\n"));
    }

    fn get(&self, template: &str, path: &str) -> Value {
        let response = self.ask("GET", template, path, None);
        assert_eq!(response.status, 200, "{path}: {}", response.text());
        response.json()
    }
}

fn full(id: &str) -> Value {
    c(
        id,
        json!({
            "instances": 2, "env": {"A": "1"}, "labels": {"l": "v"}, "constraints": [["hostname", "CLUSTER"]],
            "healthChecks": [{"protocol": "TCP", "portIndex": 0, "maxConsecutiveFailures": 0}],
            "fetch": [], "dependencies": [], "killSelection": "OLDEST_FIRST", "unreachableStrategy": "disabled",
            "portDefinitions": [{"name": "http", "labels": {"VIP_0": "x:1"}}], "taskKillGracePeriodSeconds": 1,
            "resourceLimits": {"cpus": "unlimited", "mem": 64}, "check": {"tcp": {"portIndex": 0}},
            "executorResources": {"cpus": 0.1}, "residency": {"relaunchEscalationTimeoutSeconds": 10},
        }),
    )
}

/// An app with an image, and nothing of it started.
fn contained(id: &str) -> Value {
    json!({
        "id": id, "instances": 0, "tty": true,
        "container": {
            "type": "MESOS",
            "docker": {"image": "nginx"},
            "portMappings": [{"containerPort": 80, "name": "http", "networkNames": ["n"]}],
            "volumes": [{"containerPath": "/etc/x", "hostPath": "/x", "mode": "RO"}],
            "linuxInfo": {"ipcInfo": {"mode": "PRIVATE", "shmSize": 16}, "seccomp": {"profileName": "p"}},
        },
        "networks": [{"mode": "container", "name": "n", "labels": {"l": "v"}}],
    })
}

const EMBEDS: &str = "embed=apps.tasks&embed=apps.counts&embed=apps.deployments&embed=apps.readiness\
    &embed=apps.lastTaskFailure&embed=apps.taskStats";

#[test]
fn every_answer_is_as_it_is_described() {
    let api = Checked::new(cluster());
    changes(&api);
    reads(&api);
    refusals(&api);
    removals(&api);
    let described = api.description["paths"].as_object().unwrap().iter();
    let described = described.flat_map(|(path, operations)| {
        operations.as_object().unwrap().keys().map(move |method| (method.clone(), path.clone()))
    });
    let seen = api.seen.borrow();
    let unseen: Vec<_> = described.filter(|one| !seen.contains(one)).collect();
    let other = [
        ("get", "/v2/events"),
        ("get", "/v2/leaving"),
        ("post", "/v2/leaving/{id}"),
        ("get", "/ping"),
        ("get", "/metrics/prometheus"),
    ];
    let other = other.map(|(method, path)| (method.to_owned(), path.to_owned()));
    assert!(unseen.iter().all(|one| other.contains(one)), "described and not shown: {unseen:?}");
}

fn changes(api: &Checked) {
    api.ask("POST", "/v2/apps", "/v2/apps", Some(&full("/a")));
    api.ask("POST", "/v2/apps", "/v2/apps", Some(&contained("/contained")));
    api.ask("POST", "/v2/apps", "/v2/apps", Some(&huge("/waits")));
    api.ask(
        "POST",
        "/v2/apps",
        "/v2/apps",
        Some(&c("/fails", json!({"cmd": "exit 1", "backoffSeconds": 200}))),
    );
    api.ask("PUT", "/v2/apps/{id}", "/v2/apps//b", Some(&c("/b", json!({"instances": 3}))));
    api.cluster.settled("/b", 3);
    api.ask("PATCH", "/v2/apps/{id}", "/v2/apps//b", Some(&json!({"labels": {"x": "y"}})));
    api.cluster.settled("/b", 3);
    api.ask("PUT", "/v2/apps", "/v2/apps", Some(&json!([{"id": "/b", "instances": 4}])));
    api.cluster.settled("/b", 4);
    api.ask("PATCH", "/v2/apps", "/v2/apps", Some(&json!([{"id": "/b", "cpus": 0.2}])));
    api.cluster.settled("/b", 4);
    api.ask("POST", "/v2/apps/{id}/restart", "/v2/apps//b/restart", None);
    api.cluster.settled("/b", 4);
    api.ask("POST", "/v2/groups", "/v2/groups", Some(&json!({"id": "/g", "apps": [c("x", json!({}))]})));
    api.ask("POST", "/v2/groups/{id}", "/v2/groups//g", Some(&json!({"id": "sub"})));
    api.ask("PUT", "/v2/groups", "/v2/groups?dryRun=true", Some(&json!({"scaleBy": 2})));
    api.cluster.settled("/g/x", 1);
    api.ask("PUT", "/v2/groups/{id}", "/v2/groups//g", Some(&json!({"scaleBy": 2})));
    api.cluster.settled("/g/x", 2);
    api.ask("PATCH", "/v2/groups/{id}", "/v2/groups//g", Some(&json!({"enforceRole": false})));
}

fn reads(api: &Checked) {
    api.cluster.queued("/waits", |entry| entry["processedOffersSummary"]["unusedOffersCount"] != 0);
    api.get("/v2/apps", &format!("/v2/apps?{EMBEDS}"));
    api.get("/v2/apps/{id}", &format!("/v2/apps//b?{EMBEDS}"));
    api.get("/v2/apps/{id}", "/v2/apps//g/*");
    api.get("/v2/apps/{id}/tasks", "/v2/apps//b/tasks?limit=2");
    let versions = api.get("/v2/apps/{id}/versions", "/v2/apps//b/versions");
    let version = versions["versions"][0].as_str().unwrap();
    api.get("/v2/apps/{id}/versions/{version}", &format!("/v2/apps//b/versions/{version}"));
    let root = api.get("/v2/groups", "/v2/groups");
    assert_eq!(root["id"], "/");
    let embeds = EMBEDS.replace("=apps.", "=group.apps.");
    api.get("/v2/groups/{id}", &format!("/v2/groups//g?embed=group.apps&embed=group.groups&{embeds}"));
    api.get("/v2/groups/{id}", "/v2/groups//g/apps");
    let versions = api.get("/v2/groups/{id}/versions", "/v2/groups//g/versions");
    let version = versions[0].as_str().unwrap();
    let path = format!("/v2/groups//g/versions/{version}");
    api.get("/v2/groups/{id}/versions/{version}", &path);
    assert_eq!(api.ask("PUT", "/v2/groups/{id}/versions/{version}", &path, None).status, 200);
    assert_eq!(api.get("/v2/tasks", "/v2/tasks?limit=3")["tasks"].as_array().unwrap().len(), 3);
    let running = api.get("/v2/deployments", "/v2/deployments");
    let id = running[0]["id"].as_str().unwrap();
    api.get("/v2/deployments/{deploymentId}", &format!("/v2/deployments/{id}"));
    api.get("/v2/deployments/finished", "/v2/deployments/finished");
    let queue = api.get("/v2/queue", "/v2/queue?embed=lastUnusedOffers");
    let waits =
        queue["queue"].as_array().unwrap().iter().find(|entry| entry["app"]["id"] == "/waits").unwrap();
    assert_eq!(waits["lastUnusedOffers"][0]["reason"], json!(["InsufficientCpus"]));
    assert!(waits["lastUnusedOffers"][0]["offer"]["resources"][0]["scalar"].is_number());
    let level = json!({"level": "DEBUG", "logger": "ROOT", "durationSeconds": 1});
    assert_eq!(api.ask("POST", "/logging", "/logging", Some(&level)).status, 200);
    for path in
        ["/logging", "/v2/info", "/v2/leader", "/v2/plugins", "/v2/openapi.json", "/config", "/metrics"]
    {
        api.get(path, path);
    }
}

fn refusals(api: &Checked) {
    let odd = json!({"id": "/A_b", "instances": -1});
    assert_eq!(api.ask("POST", "/v2/apps", "/v2/apps", Some(&odd)).status, 422);
    let invalid = json!({"id": "/n"});
    assert_eq!(api.ask("POST", "/v2/apps", "/v2/apps", Some(&invalid)).status, 422);
    assert_eq!(api.ask("POST", "/v2/apps", "/v2/apps", Some(&full("/a"))).status, 409);
    let locked = api.ask("PUT", "/v2/apps/{id}", "/v2/apps//waits", Some(&json!({"instances": 2})));
    assert_eq!(locked.status, 409);
    assert_eq!(api.ask("GET", "/v2/apps/{id}", "/v2/apps//nope", None).status, 404);
    assert_eq!(api.ask("GET", "/v2/groups/{id}", "/v2/groups//nope", None).status, 404);
    assert_eq!(api.ask("GET", "/v2/apps", "/v2/apps?limit=x", None).status, 422);
}

fn removals(api: &Checked) {
    let tasks = ids(&api.cluster.app("/b", |_| true));
    let one = format!("/v2/apps//b/tasks/{}", tasks[0]);
    api.ask("DELETE", "/v2/apps/{id}/tasks/{taskId}", &one, None);
    let two = json!({"ids": [tasks[1]]});
    api.ask("POST", "/v2/tasks/delete", "/v2/tasks/delete", Some(&two));
    api.ask("DELETE", "/v2/apps/{id}/tasks", "/v2/apps//b/tasks?host=nosuch", None);
    api.ask("DELETE", "/v2/apps/{id}/tasks", "/v2/apps//b/tasks?scale=true&force=true", None);
    api.cluster.queued("/fails", |entry| entry["delay"]["overdue"] == false);
    assert_eq!(api.ask("DELETE", "/v2/queue/{id}/delay", "/v2/queue//fails/delay", None).status, 204);
    let deployment = api.cluster.app("/waits", |_| true)["deployments"][0]["id"].as_str().unwrap().to_owned();
    let path = format!("/v2/deployments/{deployment}");
    assert_eq!(api.ask("DELETE", "/v2/deployments/{deploymentId}", &path, None).status, 200);
    api.ask("DELETE", "/v2/apps/{id}", "/v2/apps//a", None);
    api.ask("DELETE", "/v2/groups/{id}", "/v2/groups//g?force=true", None);
    assert_eq!(api.ask("DELETE", "/v2/groups", "/v2/groups?force=true", None).status, 200);
    api.cluster.quiet();
    assert_eq!(api.cluster.read("/v2/apps"), json!({"apps": []}), "everything is gone");
    api.ask("DELETE", "/v2/leader", "/v2/leader", None);
}
