//! The stream of events.

use crate::{
    common::{c, cluster},
    stream::Stream,
};
use meshos_testing::wait::until_blocking;
use serde_json::{Value, json};

#[test]
fn marathon_c02_c83_c84_c85_c86_the_life_of_an_app_is_told() {
    let marathon = cluster();
    let all = Stream::open(&marathon, "", None);
    let ends = Stream::open(&marathon, "?event_type=deployment_success", None);
    assert_eq!(all.status, 200);
    let first = all.until("a first event", |events| events.first().cloned());
    assert_eq!(first.kind, "event_stream_attached", "c84");
    let json_only = marathon.send("GET", "/v2/events", &[("Accept", "application/json")], b"").unwrap();
    assert_eq!(json_only.status, 405, "c83");

    let deployment = marathon.create(&c("/a", json!({})));
    let of_this = |data: &Value| data["id"] == deployment.as_str();
    ends.event("deployment_success", of_this);
    let posted = all.event("api_post_event", |_| true);
    assert_eq!(posted.data["clientIp"], "127.0.0.1");
    assert_eq!(
        (&posted.data["uri"], &posted.data["appDefinition"]["id"]),
        (&json!("/v2/apps"), &json!("/a"))
    );
    all.event("group_change_success", |data| data["groupId"] == "/");
    let condition =
        |wanted: &'static str| all.place("instance_changed_event", move |data| data["condition"] == wanted);
    let status =
        |wanted: &'static str| all.place("status_update_event", move |data| data["taskStatus"] == wanted);
    let step = |kind: &str, action: &'static str| {
        all.place(kind, move |data| data["currentStep"]["actions"][0]["action"] == action)
    };
    assert!(
        step("deployment_info", "StartApplication") < step("deployment_step_success", "StartApplication")
    );
    assert!(
        step("deployment_step_success", "StartApplication") < step("deployment_info", "ScaleApplication")
    );
    assert!(
        condition("Scheduled") < condition("Provisioned") && condition("Provisioned") < condition("Running")
    );
    assert!(status("TASK_RUNNING") < condition("Running"), "c85");
    assert!(condition("Running") < step("deployment_step_success", "ScaleApplication"));
    assert!(step("deployment_step_success", "ScaleApplication") < all.place("deployment_success", of_this));

    let deleted = marathon.bare("DELETE", "/v2/apps//a").json();
    let of_that = |data: &Value| data["id"] == deleted["deploymentId"];
    let over = all.place("deployment_success", of_that);
    assert!(all.place("app_terminated_event", |data| data["appId"] == "/a") < over, "c86");
    assert!(status("TASK_KILLED") < over && condition("Killed") < over, "c86");
    let count = ends.until("two successes", |events| Some(events.len()).filter(|count| *count >= 2));
    assert_eq!(count, 2, "c02: one for each deployment");
    assert!(ends.events().iter().all(|event| event.kind == "deployment_success"), "c83");
    let told = all.events();
    assert!(told.iter().all(|event| event.data["eventType"] == event.kind.as_str()));
    assert!(told.iter().all(|event| event.data["timestamp"].is_string()));
}

#[test]
fn marathon_c84_a_silent_stream_shows_that_it_lives() {
    let marathon = cluster();
    let silent = Stream::open(&marathon, "?event_type=nosuch", None);
    until_blocking("a heartbeat", || {
        let text = silent.text();
        if text.contains(':') { Ok(()) } else { Err(text) }
    });
}

#[test]
fn a_reader_that_comes_back_misses_nothing() {
    let marathon = cluster();
    let before = Stream::open(&marathon, "?event_type=deployment_success", None);
    marathon.create(&c("/a", json!({"instances": 0})));
    let last = before.event("deployment_success", |_| true).id.unwrap();
    drop(before);
    let missed = [
        marathon.create(&c("/b", json!({"instances": 0}))),
        marathon.create(&c("/d", json!({"instances": 0}))),
    ];
    marathon.quiet();
    let after = Stream::open(&marathon, "?event_type=deployment_success", Some(&last));
    for id in &missed {
        after.event("deployment_success", |data| data["id"] == id.as_str());
    }
    assert_eq!(after.events().len(), 2);
}
