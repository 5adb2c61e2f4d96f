//! What waits: the queue, delays, failures.

use crate::{
    common::{c, cluster, declined, huge, message},
    stream::Stream,
};
use serde_json::{Value, json};

#[test]
fn marathon_c65_c68_what_does_not_fit_waits_with_a_reason() {
    let marathon = cluster();
    assert_eq!(marathon.read("/v2/queue"), json!({"queue": []}), "c68");
    marathon.run(&c("/a", json!({})));
    let none = marathon.bare("DELETE", "/v2/queue//a/delay");
    assert_eq!(message(&none), (404, "Application /a not found in tasks queue.".to_owned()), "c68");

    marathon.create(&huge("/h"));
    let entry = marathon.queued("/h", |entry| declined(entry, "InsufficientCpus") > 0);
    assert_eq!((&entry["count"], &entry["delay"]["overdue"]), (&json!(1), &json!(true)), "c65");
    let summary = &entry["processedOffersSummary"];
    assert!(summary["processedOffersCount"].as_u64().unwrap() > 0, "c65");
    assert!(summary["lastUnusedOfferAt"].is_string(), "c65");
    assert_eq!(summary["rejectSummaryLastOffers"].as_array().unwrap().len(), 10, "c65");
}

#[test]
fn marathon_c66_c67_c70_failing_tasks_wait_until_reset_or_changed() {
    let marathon = cluster();
    marathon.create(&c("/a", json!({"cmd": "exit 1", "backoffSeconds": 200})));
    let delayed = |entry: &Value| entry["delay"]["overdue"] == false;
    let entry = marathon.queued("/a", delayed);
    let left = entry["delay"]["timeLeftSeconds"].as_u64().unwrap();
    assert!((100..=200).contains(&left), "c66: {left}");
    let failure = marathon.app("/a", |app| app["lastTaskFailure"].is_object())["lastTaskFailure"].clone();
    assert_eq!((&failure["state"], &failure["host"]), (&json!("TASK_FAILED"), &json!("127.0.0.1")), "c70");
    let task = failure["taskId"].as_str().unwrap().to_owned();
    assert!(task.ends_with("._app.1") && failure["version"].is_string(), "c70");

    assert_eq!(marathon.bare("DELETE", "/v2/queue//a/delay").status, 204, "c66");
    marathon.app("/a", |app| app["lastTaskFailure"]["taskId"].as_str().unwrap().ends_with("._app.2"));
    marathon.queued("/a", delayed);

    let scaled = marathon.ask("PUT", "/v2/apps//a?force=true", &json!({"instances": 2}));
    assert_eq!(scaled.status, 200, "{}", scaled.text());
    marathon.queued("/a", |entry| entry["count"] == 2 && delayed(entry));
    marathon.ask("PUT", "/v2/apps//a?force=true", &json!({"cmd": "sleep 1000"}));
    marathon.settled("/a", 2);
}

#[test]
fn marathon_c69_a_finished_task_is_no_failure() {
    let marathon = cluster();
    let events = Stream::open(&marathon, "?event_type=status_update_event", None);
    marathon.create(&c("/a", json!({"cmd": "exit 0"})));
    events.event("status_update_event", |data| data["taskStatus"] == "TASK_FINISHED");
    let again = |data: &Value| data["taskId"].as_str().unwrap().ends_with("._app.2");
    events.event("status_update_event", again);
    assert!(marathon.app("/a", |_| true).get("lastTaskFailure").is_none());
}
