//! `meshos local` as a user meets it: the first app, from nothing to gone.

use crate::common::{app, basic_app, cluster, directory, eventually, task_ids};
use serde_json::json;

#[test]
fn the_first_app_runs_scales_is_repaired_restarts_and_goes() {
    let dir = directory();
    // With every service there is.
    let meshos = cluster(dir.path()).with(&["--lb"]).start();
    let marathon = &meshos.marathon;

    // It is accepted as Marathon renders it.
    let created = marathon.json("POST", "/v2/apps", &basic_app()).unwrap();
    assert_eq!(created.status, 201, "{}", created.text());
    let body = created.json();
    assert_eq!(body["id"], "/basic-0");
    assert_eq!(body["backoffSeconds"], 1);
    assert_eq!(body["backoffFactor"], 1.15);
    assert_eq!(body["upgradeStrategy"], json!({"minimumHealthCapacity": 1, "maximumOverCapacity": 1}));
    for count in ["tasksStaged", "tasksRunning", "tasksHealthy", "tasksUnhealthy"] {
        assert_eq!(body[count], 0, "{count}");
    }
    assert_eq!(body["deployments"][0]["id"].as_str(), created.header("marathon-deployment-id"));

    // It runs, and everybody sees it.
    let running =
        app(marathon, "/basic-0", |app| app["tasksRunning"] == 1 && app["deployments"] == json!([]));
    let task = running["tasks"][0].clone();
    let id = task["id"].as_str().unwrap().to_owned();
    let listed = marathon.get("/v2/tasks").unwrap().json();
    assert_eq!(listed["tasks"][0]["id"], id.as_str());
    let state = eventually("/state shows the task", || {
        let state = meshos.mesos.get("/state").unwrap().json();
        let shown = state["frameworks"][0]["tasks"][0]["state"] == "TASK_RUNNING";
        if shown { Ok(state) } else { Err(state) }
    });
    assert_eq!(state["activated_slaves"], 1.0);
    assert_eq!(meshos.mesos.get("/slaves").unwrap().json()["slaves"][0]["active"], true);
    assert_eq!(meshos.mesos.get("/frameworks").unwrap().json()["frameworks"][0]["name"], "marathon");
    assert_eq!(meshos.mesos.get("/tasks").unwrap().json()["tasks"][0]["id"], id.as_str());
    assert_eq!(meshos.mesos.get("/metrics/snapshot").unwrap().json()["master/tasks_running"], 1.0);

    // Its output is read through the agent.
    let agent = &meshos.agents[0];
    let agent_state = agent.get("/state").unwrap().json();
    let directory = agent_state["frameworks"][0]["executors"][0]["directory"].as_str().unwrap().to_owned();
    let names = agent.get(&format!("/files/browse?path={directory}")).unwrap().text();
    assert!(names.contains(&format!("{directory}/stdout")), "{names}");
    eventually("stdout says hello", || {
        let read =
            agent.get(&format!("/files/read?path={directory}/stdout&offset=0&length=100")).unwrap().json();
        let text = read["data"].as_str().unwrap_or_default().to_owned();
        if text.starts_with("Hello Marathon") { Ok(()) } else { Err(read) }
    });

    // It scales.
    let scaled = marathon.json("PUT", "/v2/apps//basic-0", &json!({"instances": 3})).unwrap();
    assert_eq!(scaled.status, 200, "{}", scaled.text());
    let three = app(marathon, "/basic-0", |app| app["tasksRunning"] == 3 && app["deployments"] == json!([]));
    assert!(task_ids(&three).contains(&id));

    // A killed task is replaced.
    let killed = marathon.send("DELETE", &format!("/v2/apps//basic-0/tasks/{id}"), &[], b"").unwrap();
    assert_eq!(killed.status, 200, "{}", killed.text());
    assert_eq!(killed.json()["task"]["id"], id.as_str());
    let repaired = app(marathon, "/basic-0", |app| app["tasksRunning"] == 3 && !task_ids(app).contains(&id));

    // A changed command restarts all of them, never below three.
    let before = task_ids(&repaired);
    let changed =
        marathon.json("PUT", "/v2/apps//basic-0", &json!({"cmd": "echo changed; sleep 1000"})).unwrap();
    assert_eq!(changed.status, 200, "{}", changed.text());
    let restarted = app(marathon, "/basic-0", |app| {
        assert!(app["tasksRunning"].as_u64().unwrap() >= 3, "capacity fell below the minimum: {app}");
        app["tasksRunning"] == 3 && app["deployments"] == json!([]) && before.is_disjoint(&task_ids(app))
    });
    assert_eq!(restarted["cmd"], "echo changed; sleep 1000");

    // It goes.
    let deleted = marathon.send("DELETE", "/v2/apps//basic-0", &[], b"").unwrap();
    assert_eq!(deleted.status, 200, "{}", deleted.text());
    eventually("the app is gone", || {
        let gone = marathon.get("/v2/apps//basic-0").unwrap();
        let tasks = marathon.get("/v2/tasks").unwrap().json();
        if gone.status == 404 && tasks["tasks"] == json!([]) { Ok(()) } else { Err((gone.status, tasks)) }
    });
    assert!(meshos.terminate().success());
}
