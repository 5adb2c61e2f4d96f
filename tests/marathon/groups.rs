//! Groups.

use crate::{
    common::{Cluster, c, cluster, huge, ids, message},
    stream::Stream,
};
use serde_json::{Value, json};

fn idle(id: &str) -> Value {
    c(id, json!({"instances": 0}))
}

fn apps_of(marathon: &Cluster, group: &str) -> Vec<String> {
    let apps = marathon.read(&format!("/v2/groups/{group}"))["apps"].clone();
    apps.as_array().unwrap().iter().map(|app| app["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn marathon_c50_c51_c57_c58_c59_groups_come_change_and_go() {
    let marathon = cluster();
    let posted = marathon.ask("POST", "/v2/groups", &json!({"id": "/g"}));
    assert_eq!(posted.status, 201, "{}", posted.text());
    assert!(
        posted.json()["version"].is_string() && posted.header("location").unwrap().ends_with("/g"),
        "c50"
    );
    let (status, text) = message(&marathon.ask("POST", "/v2/groups", &json!({"id": "/g"})));
    assert!(status == 409 && text.starts_with("Group /g is already created"), "c50");

    let put = |body: Value| {
        let put = marathon.ask("PUT", "/v2/groups//g", &body);
        assert_eq!(put.status, 200, "{}", put.text());
        marathon.quiet();
    };
    put(json!({"apps": [idle("x"), idle("y")]}));
    put(json!({"apps": [idle("x")]}));
    assert_eq!(apps_of(&marathon, "/g"), ["/g/x"], "c51");
    put(json!({"dependencies": []}));
    assert_eq!(apps_of(&marathon, "/g"), ["/g/x"], "c51");

    let clash = marathon.ask("POST", "/v2/apps", &idle("/g"));
    assert_eq!(clash.status, 422, "c57");
    assert!(clash.text().contains("Groups and Applications may not have the same identifier"), "c57");

    let dry = marathon.ask("PUT", "/v2/groups//g?dryRun=true", &json!({"apps": [idle("x"), idle("z")]}));
    let actions = json!([{"action": "StartApplication", "app": "/g/z"}]);
    assert_eq!((dry.status, &dry.json()["steps"][0]["actions"]), (200, &actions), "c58");
    assert_eq!(apps_of(&marathon, "/g"), ["/g/x"], "c58");

    let unknown = (404, "Group '/nosuch' does not exist".to_owned());
    assert_eq!(message(&marathon.get("/v2/groups//nosuch").unwrap()), unknown, "c59");
    assert_eq!(message(&marathon.bare("DELETE", "/v2/groups//nosuch")), unknown, "c59");

    assert_eq!(marathon.bare("DELETE", "/v2/apps//g/x").status, 200);
    marathon.gone("/g/x");
    assert_eq!(apps_of(&marathon, "/g"), [""; 0], "an empty group stays");
    assert_eq!(marathon.bare("DELETE", "/v2/groups//g").status, 200);
    assert_eq!(marathon.get("/v2/groups//g").unwrap().status, 404);
}

#[test]
fn marathon_c52_c53_groups_scale() {
    let marathon = cluster();
    let apps = json!([c("a", json!({"instances": 2})), c("b", json!({}))]);
    assert_eq!(marathon.ask("POST", "/v2/groups", &json!({"id": "/g", "apps": apps})).status, 201);
    marathon.quiet();
    let scale = |factor: f64| {
        let put = marathon.ask("PUT", "/v2/groups//g", &json!({"scaleBy": factor}));
        assert_eq!(put.status, 200, "{}", put.text());
        marathon.quiet();
    };
    let instances = |id: &str| marathon.app(id, |_| true)["instances"].clone();
    scale(2.0);
    assert_eq!((instances("/g/a"), instances("/g/b")), (json!(4), json!(2)));
    scale(0.5);
    scale(1.5);
    assert_eq!(instances("/g/b"), 2);
    marathon.settled("/g/b", 2);
    let both = marathon.ask("PUT", "/v2/groups//g", &json!({"scaleBy": 2, "apps": []}));
    assert_eq!(both.status, 422, "c53");
    assert!(both.text().contains("not allowed in conjunction with other properties."), "c53");
}

#[test]
fn marathon_c54_c56_c60_refusals_of_groups() {
    let marathon = cluster();
    let events = Stream::open(&marathon, "?event_type=group_change_failed", None);
    let on = |id: &str, other: &str| c(id, json!({"dependencies": [other], "instances": 0}));
    let cycle = json!({"apps": [on("a", "b"), on("b", "c"), on("c", "a")]});
    let refused = marathon.ask("PUT", "/v2/groups//g", &cycle);
    assert!(refused.status == 422 && refused.text().contains("cyclic dependencies"), "c54");

    let stuck = marathon.ask("PUT", "/v2/groups//stuck", &json!({"apps": [huge("h")]}));
    assert_eq!(stuck.status, 200, "{}", stuck.text());
    let locked = marathon.ask("PUT", "/v2/groups//stuck", &json!({"apps": [idle("h")]}));
    assert_eq!(locked.status, 409, "c56");
    events.event("group_change_failed", |data| data["groupId"] == "/stuck");
    assert_eq!(marathon.bare("DELETE", "/v2/groups//stuck").status, 409);
    assert_eq!(marathon.bare("DELETE", "/v2/groups//stuck?force=true").status, 200);

    marathon.ask("POST", "/v2/groups", &json!({"id": "/r/sub"}));
    let patch = |path: &str| marathon.ask("PATCH", path, &json!({"enforceRole": true}));
    assert_eq!(patch("/v2/groups//r/sub").status, 422, "c60");
    let top = patch("/v2/groups//r");
    assert_eq!((top.status, top.body.len()), (200, 0), "c60");
    marathon.create(&idle("/r/sub/a"));
    assert_eq!(marathon.app("/r/sub/a", |_| true)["role"], "r", "c60");
    let other = marathon.ask("POST", "/v2/apps", &c("/r/b", json!({"role": "x", "instances": 0})));
    assert!(other.status == 422 && other.text().contains("got x, expected one of: [r]"), "c60");
}

#[test]
fn marathon_c100_what_is_shown_can_be_put_back_without_versions() {
    let marathon = cluster();
    let group = json!({"id": "/g", "apps": [c("a", json!({}))], "groups": [{"id": "h", "apps": [c("b", json!({}))]}]});
    assert_eq!(marathon.ask("POST", "/v2/groups", &group).status, 201);
    let before = (ids(&marathon.settled("/g/a", 1)), ids(&marathon.settled("/g/h/b", 1)));
    marathon.quiet();
    let mut shown = marathon.read("/v2/groups");
    let refused = marathon.ask("PUT", "/v2/groups", &shown);
    assert!(refused.status == 422 && refused.text().contains("in conjunction"), "{}", refused.text());
    strip_versions(&mut shown);
    let put = marathon.ask("PUT", "/v2/groups", &shown);
    assert_eq!(put.status, 200, "{}", put.text());
    marathon.quiet();
    assert_eq!((ids(&marathon.settled("/g/a", 1)), ids(&marathon.settled("/g/h/b", 1))), before);
}

fn strip_versions(group: &mut Value) {
    group.as_object_mut().unwrap().remove("version");
    group["groups"].as_array_mut().unwrap().iter_mut().for_each(strip_versions);
}

#[test]
fn versions_of_groups_come_back() {
    let marathon = cluster();
    marathon.ask("POST", "/v2/groups", &json!({"id": "/g", "apps": [idle("a"), idle("b")]}));
    marathon.quiet();
    let first = marathon.read("/v2/groups//g/versions")[0].as_str().unwrap().to_owned();
    marathon.ask(
        "PUT",
        "/v2/groups//g",
        &json!({"apps": [c("a", json!({"instances": 0, "cmd": "other"})), idle("n")]}),
    );
    marathon.quiet();
    assert_eq!(apps_of(&marathon, "/g"), ["/g/a", "/g/n"]);
    let versions = marathon.read("/v2/groups//g/versions");
    assert_eq!((versions.as_array().unwrap().len(), &versions[1]), (2, &json!(first)));
    let old = marathon.read(&format!("/v2/groups//g/versions/{first}"));
    assert_eq!((&old["apps"][1]["id"], &old["version"]), (&json!("/g/b"), &json!(first)));

    let back = marathon.ask("PUT", "/v2/groups//g", &json!({"version": first}));
    assert_eq!(back.status, 200, "{}", back.text());
    marathon.quiet();
    assert_eq!(apps_of(&marathon, "/g"), ["/g/a", "/g/b"]);
    assert_eq!(marathon.app("/g/a", |_| true)["cmd"], "sleep 1000");
    let none = marathon.ask("PUT", "/v2/groups//g", &json!({"version": "2001-01-01T00:00:00.000Z"}));
    assert!(none.status == 422 && message(&none).1.starts_with("Group /g not available in version"));
}

#[test]
fn marathon_c60_an_app_of_an_enforcing_group_runs_in_its_role() {
    let marathon = cluster();
    marathon.run(&c("/r/before", json!({})));
    assert_eq!(marathon.ask("PATCH", "/v2/groups//r", &json!({"enforceRole": true})).status, 200);
    let app = marathon.run(&c("/r/after", json!({})));
    assert_eq!((&app["role"], &app["tasks"][0]["role"]), (&json!("r"), &json!("r")));
    assert_eq!(marathon.app("/r/before", |_| true)["role"], "*");
    marathon.run(&c("/other", json!({})));
}
