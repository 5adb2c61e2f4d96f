//! Frameworks that go away, come back and are removed: lines 57 to 61.

use meshos_testing::wait::PATIENCE;
use serde_json::{Value, json};

use crate::support::{Framework, cluster, eventually, info, open, task};

fn with_id(mut about: Value, id: &str) -> Value {
    about["id"] = json!({"value": id});
    about
}

#[test]
fn mesos_c57_a_framework_that_goes_away_is_waited_for_as_long_as_it_asked() {
    let dir = tempfile::tempdir().unwrap();
    let meshos = cluster(dir.path(), "cpus:1").start();
    let patient = info(json!({"failover_timeout": 3600}));
    let mut framework = Framework::subscribe(&meshos.mesos, &patient);
    let offer = framework.offer();
    framework.launch(&offer, &[task(&offer, "t", "sleep 1000")]);
    framework.until("t", "TASK_RUNNING");
    let id = framework.id.clone();
    let shown = |id: &str| {
        let all = meshos.mesos.get("/frameworks").unwrap().json();
        let completed = all["completed_frameworks"].as_array().unwrap().iter();
        let mut list = all["frameworks"].as_array().unwrap().iter().chain(completed);
        list.find(|framework| framework["id"] == id).cloned().unwrap_or_default()
    };
    drop(framework);
    eventually("it is disconnected", || {
        let shown = shown(&id);
        if shown["connected"] == false { Ok(()) } else { Err(shown) }
    });
    assert_eq!(shown(&id)["tasks"][0]["state"], "TASK_RUNNING");
    let mut back = Framework::subscribe(&meshos.mesos, &with_id(patient, &id));
    assert_eq!(back.id, id);
    assert_eq!(shown(&id)["tasks"][0]["state"], "TASK_RUNNING");
    let offer = back.offer();
    back.decline(&offer, json!({"refuse_seconds": 3600}));

    let mut hasty =
        Framework::subscribe(&meshos.mesos, &info(json!({"failover_timeout": 0, "name": "hasty"})));
    let offer = hasty.offer();
    hasty.launch(&offer, &[task(&offer, "h", "sleep 1000")]);
    hasty.until("h", "TASK_RUNNING");
    let id = hasty.id.clone();
    drop(hasty);
    eventually("it is removed, and its tasks with it", || {
        let shown = shown(&id);
        let gone = shown["tasks"] == json!([]) && shown["completed_tasks"][0]["state"] == "TASK_KILLED";
        if gone { Ok(()) } else { Err(shown) }
    });
    let agent = &meshos.agents[0];
    eventually("nothing of it runs", || {
        let state = agent.get("/state").unwrap().json();
        let all = state["frameworks"].as_array().unwrap().clone();
        if all.iter().any(|framework| framework["id"] == id) { Err(state) } else { Ok(()) }
    });
    assert!(meshos.terminate().success());
}

#[test]
fn mesos_c58_c59_c61_a_second_stream_takes_over_and_a_removed_framework_stays_removed() {
    let dir = tempfile::tempdir().unwrap();
    let meshos = cluster(dir.path(), "cpus:1").start();
    let mut first = Framework::subscribe(&meshos.mesos, &info(json!({})));
    let second = Framework::subscribe(&meshos.mesos, &with_id(info(json!({})), &first.id));
    assert_eq!(second.id, first.id);
    assert_eq!(first.next("ERROR")["error"]["message"], "Framework failed over");
    assert_eq!(first.events.event(PATIENCE).unwrap(), None, "the old stream ends");
    let late = first.call("REVIVE", json!({}));
    assert_eq!(late.status, 400);
    assert!(late.text().contains(&first.stream_id), "{}", late.text());
    second.tell("REVIVE", json!({}));

    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let unknown = meshos.mesos.send("POST", "/teardown", &form, b"frameworkId=x").unwrap();
    assert_eq!((unknown.status, unknown.text().as_str()), (400, "No framework found with specified ID"));
    let body = format!("frameworkId={}", second.id);
    let removed = meshos.mesos.send("POST", "/master/teardown", &form, body.as_bytes()).unwrap();
    assert_eq!((removed.status, removed.text().as_str()), (200, ""));
    let mut again = open(&meshos.mesos, &with_id(info(json!({})), &second.id));
    assert_eq!(again.status, 200);
    let error = again.event(PATIENCE).unwrap().unwrap();
    assert_eq!(error, json!({"type": "ERROR", "error": {"message": "Framework has been removed"}}));
    assert_eq!(again.event(PATIENCE).unwrap(), None);
    assert!(meshos.terminate().success());
}

#[test]
fn mesos_c60_after_a_new_start_the_framework_and_its_tasks_are_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = cluster(dir.path(), "cpus:1");
    let meshos = cluster.start();
    let about = info(json!({"failover_timeout": 3600, "checkpoint": true}));
    let mut framework = Framework::subscribe(&meshos.mesos, &about);
    let offer = framework.offer();
    framework.launch(&offer, &[task(&offer, "t", "sleep 1000")]);
    framework.until("t", "TASK_RUNNING");
    let id = framework.id.clone();
    meshos.kill_9();
    drop(framework);

    let meshos = cluster.start();
    let mut back = Framework::subscribe(&meshos.mesos, &with_id(about, &id));
    assert_eq!(back.id, id);
    let shown = eventually("its task is known again", || {
        let shown = meshos.mesos.get(&format!("/tasks?framework_id={id}")).unwrap().json();
        if shown["tasks"][0]["state"] == "TASK_RUNNING" { Ok(shown) } else { Err(shown) }
    });
    assert_eq!(shown["tasks"][0]["id"], "t");
    assert_eq!(shown["tasks"][0]["slave_id"], offer["agent_id"]["value"]);
    back.kill("t");
    back.until("t", "TASK_KILLED");
    assert!(meshos.terminate().success());
}
