//! Deployments: conflicts, cancelling, order, capacity, what goes first.

use crate::{
    common::{c, cluster, huge, ids, message},
    stream::Stream,
};
use serde_json::json;

#[test]
fn marathon_c32_c33_c34_a_deployment_locks_its_app_until_forced() {
    let marathon = cluster();
    let events = Stream::open(&marathon, "?event_type=deployment_failed", None);
    let running = marathon.create(&huge("/a"));
    let locked = marathon.ask("PUT", "/v2/apps//a", &json!({"cpus": 0.1}));
    assert_eq!((locked.status, &locked.json()["deployments"][0]["id"]), (409, &json!(running)), "c32");
    assert!(message(&locked).1.starts_with("App is locked by one or more deployments."), "c32");

    let forced = marathon.ask("PUT", "/v2/apps//a?force=true", &json!({"cpus": 0.1}));
    assert_eq!(forced.status, 200, "{}", forced.text());
    let failed = events.event("deployment_failed", |data| data["id"] == running.as_str());
    assert_eq!(failed.data["reason"], "The upgrade has been cancelled", "c33");
    marathon.settled("/a", 1);

    marathon.create(&huge("/b"));
    assert_eq!(marathon.bare("DELETE", "/v2/apps//b").status, 200, "c34");
    marathon.gone("/b");
}

#[test]
fn marathon_c35_c36_c37_deployments_are_cancelled_or_stopped() {
    let marathon = cluster();
    let events = Stream::open(&marathon, "?event_type=deployment_failed", None);
    let id = marathon.create(&huge("/a"));
    let cancelled = marathon.bare("DELETE", &format!("/v2/deployments/{id}"));
    assert_eq!(cancelled.status, 200);
    assert!(cancelled.json()["deploymentId"].is_string(), "c35");
    marathon.gone("/a");

    let id = marathon.create(&huge("/b"));
    let stopped = marathon.bare("DELETE", &format!("/v2/deployments/{id}?force=true"));
    assert_eq!((stopped.status, stopped.body.len()), (202, 0), "c36");
    events.event("deployment_failed", |data| data["id"] == id.as_str());
    assert_eq!(marathon.app("/b", |_| true)["cpus"], 1000, "c36");

    let unknown = marathon.bare("DELETE", "/v2/deployments/nope");
    assert_eq!(message(&unknown), (404, "DeploymentPlan nope does not exist".to_owned()), "c37");
}

#[test]
fn marathon_c55_dependencies_start_first() {
    let marathon = cluster();
    let events = Stream::open(&marathon, "?event_type=deployment_info&event_type=status_update_event", None);
    let apps = json!([
        c("web", json!({"dependencies": ["svc"]})),
        c("db", json!({})),
        c("svc", json!({"dependencies": ["db"]})),
    ]);
    let posted = marathon.ask("POST", "/v2/groups", &json!({"id": "/p", "apps": apps}));
    assert_eq!(posted.status, 201, "{}", posted.text());
    marathon.settled("/p/web", 1);
    marathon.quiet();
    let step = |app: &str| {
        let action = json!([{"action": "ScaleApplication", "app": app}]);
        events.place("deployment_info", |data| data["currentStep"]["actions"] == action)
    };
    let runs = |app: &str| {
        events
            .place("status_update_event", |data| data["appId"] == app && data["taskStatus"] == "TASK_RUNNING")
    };
    let first = |app: &str| events.place("status_update_event", |data| data["appId"] == app);
    assert!(step("/p/db") < step("/p/svc") && step("/p/svc") < step("/p/web"));
    assert!(runs("/p/db") < first("/p/svc") && runs("/p/svc") < first("/p/web"));
}

#[test]
fn marathon_c62_c63_a_restart_keeps_its_bounds_and_what_runs() {
    let marathon = cluster();
    let strategy = json!({"minimumHealthCapacity": 1, "maximumOverCapacity": 0});
    let before = marathon.run(&c("/a", json!({"instances": 4, "upgradeStrategy": strategy})));
    marathon.ask("PUT", "/v2/apps//a", &json!({"cmd": "sleep 2000"}));
    marathon.app("/a", |app| {
        let tasks = app["tasks"].as_array().unwrap();
        let alive = tasks.iter().filter(|task| task["state"] != "TASK_KILLED").count();
        let running = tasks.iter().filter(|task| task["state"] == "TASK_RUNNING").count();
        assert!(alive <= 5 && running >= 4, "c62: {running} of {alive}");
        app["deployments"] == json!([]) && ids(app).iter().all(|id| !ids(&before).contains(id))
    });

    let old = marathon.run(&c("/b", json!({})));
    marathon.ask("PUT", "/v2/apps//b", &json!({"cpus": 1000}));
    marathon.queued("/b", |entry| entry["processedOffersSummary"]["unusedOffersCount"] != 0);
    let still = marathon.app("/b", |_| true);
    assert_eq!((ids(&still), still["deployments"].as_array().unwrap().len()), (ids(&old), 1), "c63");
}

#[test]
fn marathon_c64_the_youngest_or_the_oldest_go() {
    let marathon = cluster();
    for (id, selection) in [("/young", "YOUNGEST_FIRST"), ("/old", "OLDEST_FIRST")] {
        let mut by_age = ids(&marathon.run(&c(id, json!({"killSelection": selection}))));
        for count in 2..=5 {
            marathon.ask("PUT", &format!("/v2/apps/{id}"), &json!({"instances": count}));
            let all = ids(&marathon.settled(id, count));
            by_age.extend(all.into_iter().filter(|task| !by_age.contains(task)).collect::<Vec<_>>());
        }
        marathon.ask("PUT", &format!("/v2/apps/{id}"), &json!({"instances": 3}));
        let mut kept = if id == "/young" { by_age[..3].to_vec() } else { by_age[2..].to_vec() };
        kept.sort();
        assert_eq!(ids(&marathon.settled(id, 3)), kept, "{id}");
    }
}

#[test]
fn marathon_c97_no_more_deployments_than_allowed() {
    let marathon = cluster();
    for number in 0..100 {
        marathon.create(&huge(&format!("/h{number}")));
    }
    for force in ["", "?force=true"] {
        let refused = marathon.ask("POST", &format!("/v2/apps{force}"), &huge("/more"));
        let (status, text) = message(&refused);
        assert!(status == 403 && text.starts_with("Max number (100) of running deployments"), "{text}");
    }
}
