//! Tasks with images, which the agents run through the engine that they are containers of themselves.

use std::{process::Command, time::Duration};

use serde_json::{Value, json};

use crate::{
    app::App,
    http::{get, send},
    project::Project,
    wait::wait_until,
};

const HELLO: &str = "echo Hello image; cat /etc/debian_version >version; sleep 1000";

/// An app in the cluster's own network: found by its address, checked inside, with a sandbox that both sides see.
pub(crate) fn run_through_the_engine_of_the_machine(project: &Project) {
    let definition = json!({
        "id": "image", "cmd": HELLO, "cpus": 0.1, "mem": 32.0, "instances": 2,
        "container": {
            "type": "DOCKER",
            "docker": {"image": "debian:bookworm-slim"},
            "portMappings": [{"containerPort": 80, "name": "http"}],
        },
        "networks": [{"mode": "container", "name": project.network()}],
        "healthChecks": [{
            "protocol": "COMMAND", "command": {"value": "test -e /etc/debian_version"},
            "intervalSeconds": 1, "delaySeconds": 0,
        }],
    });
    let answer = send(&project.marathon, "POST", "/v2/apps", &definition).expect("POST /v2/apps is answered");
    assert_eq!(answer.status, 201, "{}", answer.text());
    let app = App::new(project, "/image");
    let tasks: Vec<Value> =
        wait_until("two tasks with an image are healthy", Duration::from_secs(120), || {
            let app = app.get()["app"].clone();
            (app["tasksHealthy"] == 2).then(|| app["tasks"].as_array().cloned().unwrap_or_default())
        });
    for task in &tasks {
        assert!(task["ipAddresses"][0]["ipAddress"].is_string(), "{task}");
        let id = task["id"].as_str().expect("a task has an id");
        assert_eq!(containers(id).len(), 1, "{task}");
        app.wait_for_text(id, task["host"].as_str().expect("a task has a host"), "Hello image");
    }
    let answer = send(&project.marathon, "DELETE", "/v2/apps//image", &json!(null)).expect("it is deleted");
    assert_eq!(answer.status, 200, "{}", answer.text());
    wait_until("the app is gone", Duration::from_secs(60), || {
        (get(&project.marathon, "/v2/apps//image").ok()?.status == 404).then_some(())
    });
    for task in &tasks {
        let id = task["id"].as_str().expect("a task has an id");
        wait_until("its container has ended", Duration::from_secs(60), || {
            containers(id).is_empty().then_some(())
        });
    }
}

/// Running containers of a task.
fn containers(task_id: &str) -> Vec<String> {
    let filter = format!("label=MESOS_TASK_ID={task_id}");
    let output = Command::new("docker").args(["ps", "--quiet", "--filter", &filter]).output();
    let output = output.expect("docker can be run");
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}
