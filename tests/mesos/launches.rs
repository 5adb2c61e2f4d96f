//! What an ACCEPT does: lines 27 to 31.

use serde_json::{Value, json};

use crate::support::{Framework, amount, cluster, info, scalar, sized, task};

/// Asserts that the master itself refused, and returns the status.
fn refused(framework: &mut Framework, task: &str, state: &str, reason: &str) -> Value {
    let status = framework.update();
    assert_eq!(status["task_id"]["value"], task, "{status}");
    assert_eq!((&status["state"], &status["reason"]), (&json!(state), &json!(reason)), "{status}");
    assert_eq!(status["source"], "SOURCE_MASTER");
    assert_eq!(status.get("uuid"), None);
    status
}

#[test]
fn mesos_c27_c39_a_task_larger_than_its_offer_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let meshos = cluster(dir.path(), "cpus:1").start();
    let mut framework = Framework::subscribe(&meshos.mesos, &info(json!({})));
    let offer = framework.offer();
    framework.launch(&offer, &[sized(&offer, "large", "true", 2.0)]);
    let status = refused(&mut framework, "large", "TASK_ERROR", "REASON_TASK_INVALID");

    // To acknowledge it all the same does no harm.
    let uuid = "WHeN5IZSQfupX9c02qSmFg==";
    let part = json!({"agent_id": offer["agent_id"], "task_id": status["task_id"], "uuid": uuid});
    framework.tell("ACKNOWLEDGE", part);
    let offer = framework.offer();
    assert_eq!(amount(&offer, "cpus"), 1.0);
    framework.launch(&offer, &[task(&offer, "good", "true")]);
    framework.until("good", "TASK_FINISHED");
    assert!(meshos.terminate().success());
}

#[test]
fn mesos_c28_an_expired_offer_loses_its_tasks_and_frees_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let meshos = cluster(dir.path(), "cpus:1").start();
    for (aware, state) in [(true, "TASK_DROPPED"), (false, "TASK_LOST")] {
        let about =
            if aware { info(json!({})) } else { info(json!({"capabilities": [{"type": "MULTI_ROLE"}]})) };
        let mut framework = Framework::subscribe(&meshos.mesos, &about);
        let offer = framework.offer();
        let expired = json!({"value": "no-such-offer"});
        framework.accept(&[expired, offer["id"].clone()], &[task(&offer, "t", "true")], 3600.0);
        refused(&mut framework, "t", state, "REASON_INVALID_OFFERS");
        let again = framework.offer();
        assert_eq!(amount(&again, "cpus"), 1.0, "not filtered");
        framework.tell("TEARDOWN", json!({}));
    }
    assert!(meshos.terminate().success());
}

#[test]
fn mesos_c29_c30_each_task_of_a_launch_stands_for_itself() {
    let dir = tempfile::tempdir().unwrap();
    let meshos = cluster(dir.path(), "cpus:2").start();
    let mut framework = Framework::subscribe(&meshos.mesos, &info(json!({})));
    let offer = framework.offer();
    let mut wrong = task(&offer, "wrong", "true");
    wrong.as_object_mut().unwrap().remove("command");
    framework.launch(&offer, &[wrong, task(&offer, "twice", "sleep 1000")]);
    refused(&mut framework, "wrong", "TASK_ERROR", "REASON_TASK_INVALID");
    framework.until("twice", "TASK_RUNNING");

    let offer = framework.offer();
    framework.launch(&offer, &[task(&offer, "twice", "true")]);
    refused(&mut framework, "twice", "TASK_ERROR", "REASON_TASK_INVALID");
    let tasks = meshos.mesos.get("/tasks?task_id=twice").unwrap().json();
    assert_eq!(tasks["tasks"].as_array().unwrap().len(), 1);
    assert_eq!(tasks["tasks"][0]["state"], "TASK_RUNNING");
    assert!(meshos.terminate().success());
}

#[test]
fn mesos_c31_a_group_with_one_invalid_task_is_refused_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let meshos = cluster(dir.path(), "cpus:2").start();
    let mut framework = Framework::subscribe(&meshos.mesos, &info(json!({})));
    let offer = framework.offer();
    let executor = json!({"type": "DEFAULT", "executor_id": {"value": "e"}, "framework_id": {"value": framework.id},
        "resources": [scalar("cpus", 0.1), scalar("mem", 32.0), scalar("disk", 32.0)]});
    let mut wrong = task(&offer, "wrong", "true");
    wrong["agent_id"] = json!({"value": "elsewhere"});
    let tasks = [task(&offer, "good", "true"), wrong];
    let group = json!({"type": "LAUNCH_GROUP",
        "launch_group": {"executor": executor, "task_group": {"tasks": tasks}}});
    let filters = json!({"refuse_seconds": 0});
    framework.tell("ACCEPT", json!({"offer_ids": [offer["id"]], "operations": [group], "filters": filters}));
    for task in ["good", "wrong"] {
        let status = refused(&mut framework, task, "TASK_ERROR", "REASON_TASK_GROUP_INVALID");
        let message = status["message"].as_str().unwrap();
        assert!(
            message.starts_with("Task 'wrong' is invalid: Task uses invalid agent elsewhere"),
            "{message}"
        );
    }
    let again = framework.offer();
    assert_eq!(amount(&again, "cpus"), 2.0, "nothing is held");
    let executors = meshos.mesos.get("/frameworks").unwrap().json()["frameworks"][0]["executors"].clone();
    assert_eq!(executors, json!([]));
    assert!(meshos.terminate().success());
}
