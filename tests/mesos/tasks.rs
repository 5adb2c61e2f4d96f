//! The life of a command task: lines 35 to 38, 40, 41 and 46.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Framework, amount, cluster, eventually, info, task};

/// Long enough to see that nothing comes before an acknowledgement.
const PAUSE: Duration = Duration::from_millis(500);

#[test]
fn mesos_c35_c37_c38_updates_come_one_by_one_and_the_end_frees_what_was_used() {
    let dir = tempfile::tempdir().unwrap();
    let meshos = cluster(dir.path(), "cpus:1").start();
    let mut framework = Framework::subscribe(&meshos.mesos, &info(json!({})));
    let offer = framework.offer();
    framework.launch(&offer, &[task(&offer, "t", "sleep 1")]);
    let rest = framework.offer();
    assert_eq!(amount(&rest, "cpus"), 0.9);
    framework.decline(&rest, json!({"refuse_seconds": 0}));
    for state in ["TASK_STARTING", "TASK_RUNNING"] {
        let status = framework.update();
        assert_eq!(status["state"], state);
        assert!(status["uuid"].is_string(), "{status}");
        framework.none("UPDATE", PAUSE);
        framework.acknowledge(&status);
    }
    let finished = framework.update();
    assert_eq!(finished["state"], "TASK_FINISHED");
    eventually("everything is offered again", || {
        let offer = framework.offer();
        let cpus = amount(&offer, "cpus");
        framework.decline(&offer, json!({"refuse_seconds": 0}));
        if cpus == 1.0 { Ok(()) } else { Err(cpus) }
    });
    let shown = || meshos.mesos.get("/frameworks").unwrap().json()["frameworks"][0].clone();
    assert_eq!(shown()["tasks"][0]["id"], "t", "it is not completed before the acknowledgement");
    framework.acknowledge(&finished);
    eventually("the task is completed", || {
        let shown = shown();
        let done = shown["completed_tasks"][0]["id"] == "t" && shown["tasks"] == json!([]);
        if done { Ok(()) } else { Err(shown) }
    });
    let offer = framework.offer();
    framework.launch(&offer, &[task(&offer, "t", "true")]);
    framework.until("t", "TASK_FINISHED");
    assert!(meshos.terminate().success());
}

#[test]
fn mesos_c40_c46_a_kill_asks_before_it_forces_and_an_exit_status_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let meshos = cluster(dir.path(), "cpus:1").start();
    let mut framework = Framework::subscribe(&meshos.mesos, &info(json!({})));
    let offer = framework.offer();
    let stubborn = "trap '' TERM; echo ready; while true; do sleep 0.1; done";
    framework.launch(
        &offer,
        &[
            task(&offer, "willing", "sleep 1000"),
            task(&offer, "stubborn", stubborn),
            task(&offer, "failing", "exit 1"),
        ],
    );
    let failed = framework.until("failing", "TASK_FAILED");
    assert_eq!(failed["message"], "Command exited with status 1");
    framework.kill("willing");
    framework.until("willing", "TASK_KILLED");
    eventually("the trap is set", || {
        let agent = &meshos.agents[0];
        let tasks = agent.get("/state").unwrap().json();
        let executors = tasks["frameworks"][0]["executors"].as_array().cloned().unwrap_or_default();
        let directory = executors.iter().find(|executor| executor["id"] == "stubborn").cloned();
        let directory = directory.map(|executor| executor["directory"].as_str().unwrap().to_owned());
        let path = directory.ok_or("not there")?;
        let read = agent.get(&format!("/files/read?path={path}/stdout&offset=0")).unwrap();
        if read.text().contains("ready") { Ok(()) } else { Err("not ready") }
    });
    #[allow(clippy::disallowed_methods, reason = "a real process is waited for in real time")]
    let since = Instant::now();
    framework.kill("stubborn");
    framework.until("stubborn", "TASK_KILLED");
    assert!(since.elapsed() >= Duration::from_millis(2900), "{:?}", since.elapsed());
    assert!(meshos.terminate().success());
}

#[test]
fn mesos_c41_killing_is_told_to_those_who_know_it() {
    let dir = tempfile::tempdir().unwrap();
    let meshos = cluster(dir.path(), "cpus:1").start();
    let capabilities = json!([{"type": "MULTI_ROLE"}, {"type": "TASK_KILLING_STATE"}]);
    let mut framework = Framework::subscribe(&meshos.mesos, &info(json!({"capabilities": capabilities})));
    let offer = framework.offer();
    framework.launch(&offer, &[task(&offer, "t", "sleep 1000")]);
    framework.until("t", "TASK_RUNNING");
    framework.kill("t");
    assert_eq!(framework.acked()["state"], "TASK_KILLING");
    assert_eq!(framework.acked()["state"], "TASK_KILLED");
    assert!(meshos.terminate().success());
}
