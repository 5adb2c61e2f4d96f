//! Tasks that have to be ready, or healthy, before they count.

use crate::{
    common::{c, cluster_with_own_ports, ids},
    servers::Status,
};
use meshos_testing::wait::until_blocking;
use serde_json::{Value, json};

fn with_readiness(status: &Status) -> Value {
    json!({
        "cmd": status.cmd("1"),
        "portDefinitions": [{"name": "http-api", "port": 0}],
        "readinessChecks": [{
            "name": "up", "path": "/ready", "portName": "http-api", "intervalSeconds": 2, "timeoutSeconds": 1,
            "preserveLastResponse": true,
        }],
    })
}

#[test]
fn marathon_c82_a_deployment_waits_until_its_task_is_ready() {
    let marathon = cluster_with_own_ports();
    let status = Status::new(500);
    let id = marathon.create(&c("/a", with_readiness(&status)));
    let results = until_blocking("a result of the readiness check", || {
        let deployments = marathon.read("/v2/deployments");
        let results = deployments[0]["currentActions"][0]["readinessCheckResults"].clone();
        if results[0]["lastResponse"]["status"] == 500 { Ok(results) } else { Err(deployments) }
    });
    assert_eq!((&results[0]["name"], &results[0]["ready"]), (&json!("up"), &json!(false)));
    assert_eq!(results[0]["lastResponse"]["body"], "status 500");
    assert_eq!(results[0]["lastResponse"]["contentType"], "text/plain");
    // On a busy machine one that comes in between may get no answer in time.
    let app = until_blocking("the app shows it, too", || {
        let app = marathon.read("/v2/apps//a?embed=app.readiness")["app"].clone();
        if app["readinessCheckResults"] == results { Ok(app) } else { Err(app) }
    });
    assert_eq!((&app["tasksRunning"], &app["deployments"][0]["id"]), (&json!(1), &json!(id)));
    assert_eq!(app["readinessChecks"][0]["httpStatusCodesForReady"], json!([200]));
    status.answer(200);
    marathon.settled("/a", 1);
    marathon.quiet();
    assert!(ids(&marathon.app("/a", |_| true))[0].ends_with("._app.1"), "it was not killed");
}

#[test]
fn marathon_c90_readiness_is_waited_for_after_a_change_of_leader_too() {
    let marathon = cluster_with_own_ports();
    let status = Status::new(200);
    let before = ids(&marathon.run(&c("/a", with_readiness(&status))));
    status.answer(500);
    let other = json!({"cmd": status.cmd("2")});
    assert_eq!(marathon.ask("PUT", "/v2/apps//a", &other).status, 200);
    let both = ids(&marathon.app("/a", |app| app["tasksRunning"] == 2));
    assert_eq!(marathon.bare("DELETE", "/v2/leader").status, 200);
    // Whatever the new leader asks is asked of the same two tasks.
    let after = until_blocking("a result after the change of leader", || {
        let deployments = marathon.read("/v2/deployments");
        let result = &deployments[0]["currentActions"][0]["readinessCheckResults"][0];
        if result["ready"] == false { Ok(ids(&marathon.app("/a", |_| true))) } else { Err(deployments) }
    });
    assert_eq!(after, both);
    status.answer(200);
    let done = ids(&marathon.settled("/a", 1));
    assert!(both.contains(&done[0]) && !before.contains(&done[0]));
}

/// What holds at every look while the app goes over to another configuration.
fn roll(min: f64, over: f64, least: usize, most: usize) {
    let marathon = cluster_with_own_ports();
    let status = Status::new(200);
    let check = json!([{"protocol": "HTTP", "portIndex": 0, "path": "/", "intervalSeconds": 1}]);
    let definition = json!({
        "cmd": status.cmd("1"), "instances": 4, "healthChecks": check,
        "upgradeStrategy": {"minimumHealthCapacity": min, "maximumOverCapacity": over},
    });
    marathon.create(&c("/a", definition));
    marathon.app("/a", |app| app["tasksHealthy"] == 4 && app["deployments"] == json!([]));
    let before = ids(&marathon.app("/a", |_| true));
    assert_eq!(marathon.ask("PUT", "/v2/apps//a", &json!({"cmd": status.cmd("2")})).status, 200);
    let looks = std::cell::Cell::new(0);
    let done = marathon.app("/a", |app| {
        let alive = app["tasks"].as_array().unwrap().iter();
        let alive = alive.filter(|task| task["state"] != "TASK_KILLED").count();
        let healthy = app["tasksHealthy"].as_u64().unwrap() as usize;
        assert!(alive <= most, "{alive} alive: {app}");
        assert!(healthy >= least, "{healthy} healthy: {app}");
        looks.set(looks.get() + 1);
        app["deployments"] == json!([])
    });
    assert!(ids(&done).iter().all(|id| !before.contains(id)));
    assert!(looks.get() > 2);
}

#[test]
fn marathon_c61_never_fewer_healthy_and_never_more_alive_than_the_strategy_says() {
    roll(0.5, 0.0, 2, 4);
}

#[test]
fn marathon_c62_one_extra_where_all_must_stay_healthy() {
    roll(1.0, 0.0, 4, 5);
}

#[test]
fn marathon_c55_a_dependent_app_starts_when_its_dependency_is_healthy() {
    let marathon = cluster_with_own_ports();
    let status = Status::new(500);
    let check = json!([{"protocol": "HTTP", "portIndex": 0, "path": "/", "intervalSeconds": 1}]);
    let group = json!({"id": "/g", "apps": [
        c("svc", json!({"cmd": status.cmd("1"), "healthChecks": check})),
        c("web", json!({"dependencies": ["svc"]})),
    ]});
    let created = marathon.ask("POST", "/v2/groups", &group);
    assert_eq!(created.status, 201, "{}", created.text());
    marathon.app("/g/svc", |app| app["tasksRunning"] == 1);
    let waiting = marathon.read("/v2/deployments");
    assert_eq!(waiting[0]["currentActions"][0]["app"], "/g/svc");
    assert!(ids(&marathon.app("/g/web", |_| true)).is_empty());
    status.answer(200);
    let web = marathon.settled("/g/web", 1);
    let svc = marathon.app("/g/svc", |app| app["tasksHealthy"] == 1);
    let healthy = svc["tasks"][0]["healthCheckResults"][0]["firstSuccess"].as_str().unwrap().to_owned();
    assert!(web["tasks"][0]["stagedAt"].as_str().unwrap() >= healthy.as_str());
}
