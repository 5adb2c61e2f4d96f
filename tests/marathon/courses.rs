//! Beyond Marathon: deployments that are rolled back by themselves, and what is kept of those that ended.

use crate::{
    common::{c, cluster, huge, message},
    stream::Stream,
};
use meshos_testing::wait::until_blocking;
use serde_json::{Value, json};

/// The course of a deployment that has ended.
fn ended(marathon: &crate::common::Cluster, id: &str) -> Value {
    until_blocking("the deployment ends", || {
        let found = marathon.read(&format!("/v2/deployments/{id}"));
        if found["outcome"].is_string() { Ok(found) } else { Err(found) }
    })
}

#[test]
fn a_deployment_past_its_deadline_is_rolled_back() {
    let marathon = cluster();
    marathon.run(&c("/a", json!({})));
    let events = Stream::open(&marathon, "", None);
    let path = "/v2/apps//a?deploymentDeadlineSeconds=1";
    let changed = marathon.ask("PUT", path, &json!({"cpus": 1000}));
    let id = changed.header("marathon-deployment-id").unwrap().to_owned();
    let course = ended(&marathon, &id);
    assert_eq!((&course["outcome"], &course["deadline"].is_string()), (&json!("failed"), &true));
    let undone = ended(&marathon, course["rolledBackBy"].as_str().unwrap());
    assert_eq!((&undone["outcome"], &undone["rollsBack"]), (&json!("success"), &json!(id)));
    assert_eq!(marathon.settled("/a", 1)["cpus"], 0.1);
    events.event("deployment_step_failure", |data| data["plan"]["id"] == id.as_str());
    events.event("deployment_failed", |data| data["id"] == id.as_str());
}

#[test]
fn a_deployment_with_too_many_failures_is_rolled_back() {
    let marathon = cluster();
    let path = "/v2/apps?deploymentMaxFailures=2";
    // What is never healthy is not done before it fails.
    let check = json!([{"protocol": "TCP", "port": 1}]);
    let fails = json!({"cmd": "exit 1", "backoffFactor": 1, "healthChecks": check});
    let created = marathon.ask("POST", path, &c("/a", fails));
    let id = created.header("marathon-deployment-id").unwrap().to_owned();
    let course = ended(&marathon, &id);
    let wanted = (json!("failed"), json!(3), json!(2));
    assert_eq!(
        (course["outcome"].clone(), course["failures"].clone(), course["maxFailures"].clone()),
        wanted
    );
    marathon.gone("/a");
    let odd = marathon.ask("POST", "/v2/apps?deploymentMaxFailures=x", &c("/b", json!({})));
    assert_eq!(odd.status, 422);
}

#[test]
fn deployments_that_ended_are_listed_with_their_history() {
    let marathon = cluster();
    let first = marathon.create(&c("/a", json!({})));
    marathon.settled("/a", 1);
    let stuck = marathon.create(&huge("/b"));
    let running = marathon.read(&format!("/v2/deployments/{stuck}"));
    assert_eq!((&running["currentStep"], running.get("outcome")), (&json!(2), None));
    assert_eq!(marathon.bare("DELETE", &format!("/v2/deployments/{stuck}?force=true")).status, 202);
    let listed = marathon.read("/v2/deployments/finished");
    let listed: Vec<_> =
        listed["deployments"].as_array().unwrap().iter().map(|one| one["id"].clone()).collect();
    assert_eq!(listed, [json!(stuck), json!(first)], "the last one first");
    let one = marathon.read("/v2/deployments/finished?offset=1&limit=1");
    assert_eq!(one["deployments"][0]["id"], first.as_str());
    let history = one["deployments"][0]["history"].as_array().unwrap().clone();
    let told: Vec<_> = history.iter().map(|moment| moment["event"].as_str().unwrap()).collect();
    assert_eq!(told, ["step_started", "step_success", "step_started", "step_success", "success"]);
    assert_eq!(ended(&marathon, &stuck)["reason"], "The upgrade has been cancelled");
    let none = marathon.get("/v2/deployments/nope").unwrap();
    assert_eq!(message(&none), (404, "DeploymentPlan nope does not exist".to_owned()));
    assert_eq!(marathon.bare("DELETE", "/v2/leader").status, 200);
    until_blocking("the next leader shows them too", || {
        let listed = marathon.get("/v2/deployments/finished").unwrap();
        if listed.text().contains(&first) { Ok(()) } else { Err(listed.text()) }
    });
}
