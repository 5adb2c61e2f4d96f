//! Flags of Marathon that change what its API does.

use serde_json::json;

use crate::common::{c, cluster, cluster_with, message};

#[test]
fn new_top_level_groups_insist_on_their_role_where_that_is_set() {
    let marathon = cluster_with(&[], &[("MARATHON_NEW_GROUP_ENFORCE_ROLE", "top")]);
    marathon.create(&c("/g/h/a", json!({"cmd": "env; sleep 1000", "instances": 0})));
    assert_eq!(marathon.app("/g/h/a", |_| true)["role"], "g");
    assert_eq!(marathon.read("/v2/groups//g")["enforceRole"], true);
    assert_eq!(marathon.read("/v2/info")["marathon_config"]["new_group_enforce_role"], "top");
    let other = marathon.ask("POST", "/v2/apps", &c("/g/b", json!({"role": "*"})));
    let wanted = json!([{"path": "/role", "errors": ["got *, expected one of: [g]"]}]);
    assert_eq!((other.status, &other.json()["details"]), (422, &wanted));
}

#[test]
fn an_app_runs_in_the_role_of_a_group_that_does_not_insist() {
    let marathon = cluster();
    let dir = tempfile::tempdir().unwrap();
    let told = dir.path().join("told");
    let cmd = |name: &str| {
        let file = told.display();
        format!(
            "echo $MARATHON_APP_ENFORCE_GROUP_ROLE > {file}.new && mv {file}.new {file}.{name}; sleep 1000"
        )
    };
    let read = |name: &str| {
        let path = dir.path().join(format!("told.{name}"));
        meshos_testing::wait::until_blocking("what the task was told", || {
            std::fs::read_to_string(&path).map_err(|error| error.to_string())
        })
    };
    let app = marathon.run(&c("/g/a", json!({"role": "g", "cmd": cmd("free")})));
    assert_eq!((&app["role"], &app["tasks"][0]["role"]), (&json!("g"), &json!("g")));
    assert_eq!(read("free").trim(), "FALSE");
    marathon.quiet();
    assert_eq!(marathon.ask("PATCH", "/v2/groups//g", &json!({"enforceRole": true})).status, 200);
    marathon.run(&c("/g/b", json!({"cmd": cmd("bound")})));
    assert_eq!(read("bound").trim(), "TRUE");
}

#[test]
fn only_so_many_requests_are_answered_at_a_time() {
    let marathon = cluster_with(&[], &[("MARATHON_HTTP_MAX_CONCURRENT_REQUESTS", "0")]);
    let refused = marathon.get("/v2/apps").unwrap();
    assert_eq!(message(&refused), (503, "Too many concurrent requests! Allowed: 0.".to_owned()));
    assert_eq!(marathon.get("/ping").unwrap().status, 200, "whether it lives can be asked all the same");
}

#[test]
fn levels_of_logging_are_shown_and_set() {
    let marathon = cluster();
    assert_eq!(marathon.read("/logging")["ROOT"], "INFO");
    let debug = json!({"level": "DEBUG", "logger": "mesosphere.marathon", "durationSeconds": 3600});
    let set = marathon.ask("POST", "/logging", &debug);
    assert_eq!((set.status, set.json()), (200, debug));
    assert_eq!(marathon.read("/logging")["mesosphere.marathon"], "DEBUG");
    let refused = marathon.ask("POST", "/logging", &json!({"level": "LOUD", "logger": "ROOT"}));
    assert_eq!(message(&refused), (422, "Invalid JSON".to_owned()));
    let help = marathon.get("/help").unwrap();
    assert_eq!((help.status, help.header("location")), (302, Some("/v2/openapi.json")));
    let backup = marathon.bare("DELETE", "/v2/leader?backup=file:///tmp/x.tar");
    assert_eq!(backup.status, 501, "it would not be made");
}
