//! What a framework is told when it asks: lines 42 to 45.

use std::collections::BTreeSet;

use serde_json::json;

use crate::support::{Framework, QUIET, amount, cluster, eventually, info, task};

#[test]
fn mesos_c42_c43_c44_reconciliation() {
    let dir = tempfile::tempdir().unwrap();
    let meshos = cluster(dir.path(), "cpus:1").start();
    let old = info(json!({"name": "old", "capabilities": [{"type": "MULTI_ROLE"}]}));
    let mut aware = Framework::subscribe(&meshos.mesos, &info(json!({})));
    let offer = aware.offer();
    let agent = offer["agent_id"].clone();
    aware.tell("SUPPRESS", json!({}));
    aware.launch(&offer, &[task(&offer, "a", "sleep 1000"), task(&offer, "b", "sleep 1000")]);
    let mut running = BTreeSet::new();
    while running.len() < 2 {
        let status = aware.acked();
        if status["state"] == "TASK_RUNNING" {
            running.insert(status["task_id"]["value"].as_str().unwrap().to_owned());
        }
    }

    // Implicit: each task once, without uuid, and of nobody else's.
    aware.tell("RECONCILE", json!({"tasks": []}));
    let mut told = BTreeSet::new();
    for _ in 0..2 {
        let status = aware.update();
        assert_eq!(
            (&status["state"], &status["reason"]),
            (&json!("TASK_RUNNING"), &json!("REASON_RECONCILIATION"))
        );
        assert_eq!(status.get("uuid"), None);
        told.insert(status["task_id"]["value"].as_str().unwrap().to_owned());
    }
    assert_eq!(told, running);
    aware.none("UPDATE", QUIET);
    let mut other = Framework::subscribe(&meshos.mesos, &old);
    other.tell("RECONCILE", json!({"tasks": []}));
    other.none("UPDATE", QUIET);

    // Explicit, of a task that its agent does not have.
    for (framework, state) in [(&mut aware, "TASK_GONE"), (&mut other, "TASK_LOST")] {
        framework.tell("RECONCILE", json!({"tasks": [{"task_id": {"value": "none"}, "agent_id": agent}]}));
        let status = framework.update();
        assert_eq!((&status["state"], &status["reason"]), (&json!(state), &json!("REASON_RECONCILIATION")));
    }
    // A kill of a task that nobody knows is answered like a question.
    for (framework, state) in [(&mut aware, "TASK_UNKNOWN"), (&mut other, "TASK_LOST")] {
        framework.kill("none");
        let status = framework.update();
        assert_eq!((&status["state"], &status["reason"]), (&json!(state), &json!("REASON_RECONCILIATION")));
    }
    assert!(meshos.terminate().success());
}

#[test]
fn mesos_c45_of_an_agent_that_has_not_returned_nothing_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let one = cluster(dir.path(), "cpus:1");
    let two =
        one.clone().with(&["--agents", "2", "--resources", "cpus:2;mem:64;disk:64;ports:[31200-31299]"]);
    let meshos = two.start();
    let about = info(json!({"failover_timeout": 3600, "checkpoint": true}));
    let mut framework = Framework::subscribe(&meshos.mesos, &about);
    let mut offer = framework.offer();
    while amount(&offer, "cpus") != 2.0 {
        offer = framework.offer();
    }
    framework.launch(&offer, &[task(&offer, "t", "sleep 1000")]);
    framework.until("t", "TASK_RUNNING");
    let mut known = about.clone();
    known["id"] = json!({"value": framework.id});
    let question = json!({"tasks": [{"task_id": {"value": "t"}, "agent_id": offer["agent_id"]}]});
    meshos.kill_9();
    drop(framework);

    // A new leader, and only the other agent.
    let meshos = one.start();
    let mut framework = Framework::subscribe(&meshos.mesos, &known);
    framework.offer();
    framework.tell("RECONCILE", question.clone());
    framework.none("UPDATE", QUIET);
    meshos.kill_9();
    drop(framework);

    let meshos = two.start();
    let mut framework = Framework::subscribe(&meshos.mesos, &known);
    let status = eventually("the agent is back", || {
        framework.tell("RECONCILE", question.clone());
        framework.next_within("UPDATE", QUIET).ok_or("no answer")
    });
    let status = &status["update"]["status"];
    assert_eq!((&status["state"], &status["task_id"]["value"]), (&json!("TASK_RUNNING"), &json!("t")));
    assert!(meshos.terminate().success());
}

#[test]
fn mesos_c45_of_an_agent_that_does_not_return_it_is_said_in_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let mut one = cluster(dir.path(), "cpus:1");
    let two =
        one.clone().with(&["--agents", "2", "--resources", "cpus:2;mem:64;disk:64;ports:[31200-31299]"]);
    let meshos = two.start();
    let about = info(json!({"failover_timeout": 3600, "checkpoint": true}));
    let mut framework = Framework::subscribe(&meshos.mesos, &about);
    let mut offer = framework.offer();
    while amount(&offer, "cpus") != 2.0 {
        offer = framework.offer();
    }
    framework.launch(&offer, &[task(&offer, "t", "sleep 1000")]);
    framework.until("t", "TASK_RUNNING");
    let mut known = about.clone();
    known["id"] = json!({"value": framework.id});
    meshos.kill_9();
    drop(framework);

    // Asked once, while it may still come back.
    for (name, value) in [("MESOS_AGENT_PING_TIMEOUT", "2secs"), ("MESOS_MAX_AGENT_PING_TIMEOUTS", "2")] {
        one.environment.push((name.to_owned(), value.to_owned()));
    }
    let meshos = one.start();
    let mut framework = Framework::subscribe(&meshos.mesos, &known);
    let question = json!({"tasks": [{"task_id": {"value": "t"}, "agent_id": offer["agent_id"]}]});
    framework.tell("RECONCILE", question.clone());
    let status = framework.update();
    assert_eq!((&status["state"], &status["task_id"]["value"]), (&json!("TASK_UNREACHABLE"), &json!("t")));
    assert_eq!(status["reason"], "REASON_RECONCILIATION");
    assert!(status["unreachable_time"].is_object(), "{status}");
    meshos.kill_9();
    drop(framework);

    // It returns all the same.
    let meshos = two.start();
    let mut framework = Framework::subscribe(&meshos.mesos, &known);
    eventually("the task is back", || {
        framework.tell("RECONCILE", question.clone());
        let status = framework.update();
        if status["state"] == "TASK_RUNNING" { Ok(()) } else { Err(status) }
    });
    assert!(meshos.terminate().success());
}
