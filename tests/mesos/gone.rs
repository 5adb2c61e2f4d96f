//! An agent that an operator declares gone: line 54.

use std::time::Duration;

use meshos_testing::{Http, Response};
use serde_json::{Value, json};

use crate::support::{Framework, JSON, cluster, eventually, info, task};

fn mark_gone(mesos: &Http, id: &str) -> Response {
    let call = json!({"type": "MARK_AGENT_GONE", "mark_agent_gone": {"agent_id": {"value": id}}});
    mesos.send("POST", "/api/v1", &[JSON], call.to_string().as_bytes()).unwrap()
}

#[test]
fn mesos_c54_an_agent_that_is_marked_gone_never_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let meshos = cluster(dir.path(), "cpus:4").start();
    let mesos = meshos.mesos.clone();
    let mut aware = Framework::subscribe(&mesos, &info(json!({})));
    let offer = aware.offer();
    let agent = offer["agent_id"]["value"].as_str().unwrap().to_owned();
    aware.launch(&offer, &[task(&offer, "known", "sleep 1000")]);
    aware.until("known", "TASK_RUNNING");
    aware.tell("SUPPRESS", json!({}));
    let plain = json!({"name": "plain", "capabilities": [{"type": "MULTI_ROLE"}]});
    let mut plain = Framework::subscribe(&mesos, &info(plain));
    eventually("it has an offer", || {
        // What the first framework was offered in between comes back.
        while let Some(event) = aware.next_within("OFFERS", Duration::ZERO) {
            for offer in event["offers"]["offers"].as_array().unwrap() {
                aware.decline(offer, Value::Null);
            }
        }
        plain.next_within("OFFERS", Duration::from_millis(200)).map_or(Err("none"), |event| {
            let offer = &event["offers"]["offers"][0];
            plain.launch(offer, &[task(offer, "lost", "sleep 1000")]);
            Ok(())
        })
    });
    plain.until("lost", "TASK_RUNNING");

    let unknown = mark_gone(&mesos, "nobody");
    assert_eq!((unknown.status, unknown.text().as_str()), (404, "Agent 'nobody' not found"));
    let gone = mark_gone(&mesos, &agent);
    assert_eq!((gone.status, gone.text().as_str()), (200, ""));
    for (framework, state) in [(&mut aware, "TASK_GONE_BY_OPERATOR"), (&mut plain, "TASK_LOST")] {
        let status = framework.update();
        assert_eq!(
            (&status["state"], &status["reason"], &status["source"]),
            (&json!(state), &json!("REASON_AGENT_REMOVED_BY_OPERATOR"), &json!("SOURCE_MASTER"))
        );
        assert_eq!(status.get("uuid"), None);
        assert_eq!(framework.next("FAILURE")["failure"]["agent_id"]["value"], agent.as_str());
    }
    // At once, to whoever called.
    assert_eq!(mesos.get("/slaves").unwrap().json(), json!({"slaves": [], "recovered_slaves": []}));
    let registry = mesos.get("/registrar(1)/registry").unwrap().json();
    assert_eq!(registry["gone"]["slaves"][0]["id"]["value"], agent.as_str());
    assert_eq!(mark_gone(&mesos, &agent).status, 200, "a second time changes nothing");
    aware
        .tell("RECONCILE", json!({"tasks": [{"task_id": {"value": "other"}, "agent_id": {"value": agent}}]}));
    assert_eq!(aware.update()["state"], "TASK_GONE_BY_OPERATOR");

    eventually("the agent ends its tasks", || {
        let containers = meshos.agents[0].get("/containers").unwrap().json();
        if containers == json!([]) { Ok(()) } else { Err(containers) }
    });
    assert!(meshos.terminate().success());
}
