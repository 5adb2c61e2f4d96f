//! What a task gets: ports, environment; and a task that removes its own app.

use std::{collections::BTreeMap, fs};

use crate::common::{c, cluster, declined};
use meshos_testing::wait::until_blocking;
use serde_json::json;

#[test]
fn marathon_c75_c77_ports_and_environment() {
    let marathon = cluster();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("env");
    let cmd = format!("env > {0}.new && mv {0}.new {0}; sleep 1000", file.display());
    let ports = json!([{"port": 0, "name": "http"}, {"port": 8888, "name": "admin"}]);
    let app = marathon.run(&c("/g/a", json!({"cmd": cmd, "portDefinitions": ports})));
    let text = until_blocking("the task's environment", || fs::read_to_string(&file));
    let env: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
    let task = &app["tasks"][0];
    let port = |index: usize| task["ports"][index].to_string();
    assert_eq!((env["PORT"], env["PORT0"], env["PORT1"]), (&*port(0), &*port(0), &*port(1)), "c75");
    assert_eq!(env["PORTS"], format!("{},{}", port(0), port(1)), "c75");
    assert_eq!((env["HOST"], env["MARATHON_APP_ID"]), (task["host"].as_str().unwrap(), "/g/a"), "c75");
    assert_eq!(Some(env["MESOS_TASK_ID"]), task["id"].as_str(), "c75");
    assert_eq!((env["PORT_8888"], port(1) == "8888"), (&*port(1), false), "c77");
}

#[test]
fn marathon_c76_a_required_port_is_there_once() {
    let marathon = cluster();
    let ports = json!({"portDefinitions": [{"port": 31050}], "requirePorts": true, "instances": 2});
    marathon.create(&c("/a", ports));
    let app = marathon.app("/a", |app| app["tasksRunning"] == 1);
    assert_eq!(app["tasks"][0]["ports"], json!([31050]));
    let entry = marathon.queued("/a", |entry| declined(entry, "InsufficientPorts") > 0);
    assert_eq!(entry["count"], 1);
}

#[test]
fn marathon_c99_a_task_may_remove_its_own_app() {
    let marathon = cluster();
    let url = format!("http://{}/v2/apps//once", marathon.address);
    let cmd = format!("curl -s -X DELETE {url}; sleep 1000");
    marathon.create(&c("/once", json!({"cmd": cmd})));
    marathon.gone("/once");
    marathon.quiet();
    assert_eq!(marathon.read("/v2/tasks"), json!({"tasks": []}));
}
