//! Who is offered what, and when: lines 15 to 22 and 64.

use std::time::{Duration, Instant};

use meshos_testing::wait::PATIENCE;
use serde_json::{Value, json};

use crate::support::{Framework, QUIET, amount, cluster, info, open, scalar, sized, task};

#[allow(clippy::disallowed_methods, reason = "a real process is waited for in real time")]
fn now() -> Instant {
    Instant::now()
}

#[test]
fn mesos_c15_c16_c17_an_idle_framework_is_offered_all_and_a_declined_offer_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let meshos = cluster(dir.path(), "cpus:4").start();
    let mut framework = Framework::subscribe(&meshos.mesos, &info(json!({})));
    let offer = framework.offer();
    assert_eq!(amount(&offer, "cpus"), 4.0);
    assert_eq!(offer["allocation_info"], json!({"role": "eng"}));

    framework.decline(&offer, json!({"refuse_seconds": 0}));
    let again = framework.offer();
    assert_eq!(amount(&again, "cpus"), 4.0);
    assert_ne!(again["id"], offer["id"]);

    let since = now();
    framework.decline(&again, Value::Null);
    assert_eq!(amount(&framework.offer(), "cpus"), 4.0);
    assert!(since.elapsed() >= Duration::from_secs(5), "{:?}", since.elapsed());
    assert!(meshos.terminate().success());
}

#[test]
fn mesos_c18_senseless_filters_have_senseful_lengths() {
    let dir = tempfile::tempdir().unwrap();
    let meshos = cluster(dir.path(), "cpus:4").start();
    let mut framework = Framework::subscribe(&meshos.mesos, &info(json!({})));
    let offer = framework.offer();
    let since = now();
    framework.decline(&offer, json!({"refuse_seconds": -1}));
    let offer = framework.offer();
    assert!(since.elapsed() >= Duration::from_secs(5), "{:?}", since.elapsed());
    framework.decline(&offer, json!({"refuse_seconds": 1e9}));
    framework.none("OFFERS", QUIET);
    assert!(meshos.terminate().success());
}

#[test]
fn mesos_c19_c20_revive_and_suppress() {
    let dir = tempfile::tempdir().unwrap();
    let meshos = cluster(dir.path(), "cpus:4").start();
    let mut framework = Framework::subscribe(&meshos.mesos, &info(json!({})));
    let offer = framework.offer();
    framework.decline(&offer, json!({"refuse_seconds": 3600}));
    framework.none("OFFERS", QUIET);
    framework.tell("REVIVE", json!({}));
    let offer = framework.offer();

    // A held offer stays good, and what it leaves is not offered.
    framework.tell("SUPPRESS", json!({}));
    framework.launch(&offer, &[task(&offer, "short", "true")]);
    framework.until("short", "TASK_FINISHED");
    framework.none("OFFERS", QUIET);
    framework.tell("REVIVE", json!({}));
    assert_eq!(amount(&framework.offer(), "cpus"), 4.0);
    assert!(meshos.terminate().success());
}

#[test]
fn mesos_c21_a_filter_does_not_hide_more_than_was_declined() {
    let dir = tempfile::tempdir().unwrap();
    let meshos = cluster(dir.path(), "cpus:2").start();
    let mut busy = Framework::subscribe(&meshos.mesos, &info(json!({"name": "busy"})));
    let offer = busy.offer();
    busy.tell("SUPPRESS", json!({}));
    busy.launch(&offer, &[sized(&offer, "t", "sleep 1000", 1.0)]);
    busy.until("t", "TASK_RUNNING");
    let mut other = Framework::subscribe(&meshos.mesos, &info(json!({"name": "other"})));
    let offer = other.offer();
    assert_eq!(amount(&offer, "cpus"), 1.0);
    other.decline(&offer, json!({"refuse_seconds": 3600}));
    other.none("OFFERS", QUIET);
    busy.kill("t");
    busy.until("t", "TASK_KILLED");
    assert_eq!(amount(&other.offer(), "cpus"), 2.0);
    assert!(meshos.terminate().success());
}

#[test]
fn mesos_c22_whoever_has_less_is_offered_first() {
    let dir = tempfile::tempdir().unwrap();
    let meshos = cluster(dir.path(), "cpus:4").start();
    let mut rich = Framework::subscribe(&meshos.mesos, &info(json!({"name": "rich"})));
    let offer = rich.offer();
    rich.tell("SUPPRESS", json!({}));
    rich.launch(&offer, &[sized(&offer, "t", "sleep 1000", 1.0)]);
    rich.until("t", "TASK_RUNNING");
    let mut poor = Framework::subscribe(&meshos.mesos, &info(json!({"name": "poor"})));
    let mut offer = poor.offer();
    rich.tell("REVIVE", json!({}));
    for round in ["a", "b", "c"] {
        let mut all = task(&offer, round, "sleep 1000");
        all["resources"] = offer["resources"].clone();
        poor.launch(&offer, &[all]);
        poor.until(round, "TASK_RUNNING");
        poor.kill(round);
        poor.until(round, "TASK_KILLED");
        offer = poor.offer();
        assert_eq!(amount(&offer, "cpus"), 3.0);
    }
    rich.none("OFFERS", Duration::from_millis(100));
    poor.decline(&offer, json!({"refuse_seconds": 3600}));
    assert_eq!(amount(&rich.offer(), "cpus"), 3.0, "what the first does not want goes to the next");
    assert!(meshos.terminate().success());
}

#[test]
fn mesos_c64_a_framework_of_one_role_sees_no_allocation_info() {
    let dir = tempfile::tempdir().unwrap();
    let meshos = cluster(dir.path(), "cpus:1").start();
    let mut old = Framework::subscribe(&meshos.mesos, &json!({"user": "root", "name": "old", "role": "eng"}));
    let offer = old.offer();
    assert_eq!(offer.get("allocation_info"), None, "{offer}");
    for resource in offer["resources"].as_array().unwrap() {
        assert_eq!(resource.get("allocation_info"), None, "{resource}");
        assert_eq!(resource["role"], "*");
    }
    let mut refused = open(&meshos.mesos, &json!({"user": "root", "name": "wrong", "roles": ["eng"]}));
    assert_eq!(refused.status, 200);
    let error = refused.event(PATIENCE).unwrap().unwrap();
    let text = "'FrameworkInfo.roles' must not be set when the framework is not MULTI_ROLE capable";
    assert_eq!(error, json!({"type": "ERROR", "error": {"message": text}}));
    assert_eq!(refused.event(PATIENCE).unwrap(), None);
    assert!(meshos.terminate().success());
}

/// A task that leaves nothing of its agent that is worth an offer.
fn filling(offer: &Value, id: &str) -> Value {
    let mut task = task(offer, id, "sleep 1000");
    task["resources"] = json!([scalar("cpus", 1.0), scalar("mem", 1024.0)]);
    task
}

#[test]
fn mesos_c22_over_many_agents_who_holds_less_is_offered_first() {
    const AGENTS: usize = 7;
    let dir = tempfile::tempdir().unwrap();
    let more = ["--resources", "cpus:1;mem:1024;disk:1024;ports:[31000-31099]"].repeat(AGENTS - 1);
    let meshos = cluster(dir.path(), "cpus:1").with(&["--agents", "7"]).with(&more).start();
    let take = |framework: &mut Framework, offer: &Value, id: &str| {
        framework.accept(&[offer["id"].clone()], &[filling(offer, id)], 3600.0);
        framework.until(id, "TASK_RUNNING");
    };
    let long = || json!({"refuse_seconds": 3600});
    let mut rich = Framework::subscribe(&meshos.mesos, &info(json!({"name": "rich"})));
    let offers: Vec<Value> = (0..AGENTS).map(|_| rich.offer()).collect();
    // It takes five agents, and leaves two to the other one, which takes one of them.
    for (number, offer) in offers[..5].iter().enumerate() {
        take(&mut rich, offer, &format!("rich-{number}"));
    }
    offers[5..].iter().for_each(|offer| rich.decline(offer, long()));
    let mut poor = Framework::subscribe(&meshos.mesos, &info(json!({"name": "poor"})));
    let (first, second) = (poor.offer(), poor.offer());
    take(&mut poor, &first, "poor-0");
    poor.decline(&second, long());

    // Whatever becomes free goes to the poorer one first, agent by agent.
    for number in 0..2 {
        let id = format!("rich-{number}");
        rich.kill(&id);
        rich.until(&id, "TASK_KILLED");
        let offer = poor.offer();
        assert_eq!(amount(&offer, "cpus"), 1.0);
        rich.none("OFFERS", QUIET);
        take(&mut poor, &offer, &format!("poor-{}", number + 1));
    }
    assert!(meshos.terminate().success());
}
