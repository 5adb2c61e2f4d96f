//! What operators and their tools read: lines 68 to 70 and 72.

use meshos_testing::{EventStream, wait::PATIENCE};
use serde_json::{Value, json};

use crate::support::{Framework, JSON, cluster, eventually, info, task};

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn has(value: &Value, wanted: &[&str]) {
    for key in wanted {
        assert!(value.get(key).is_some(), "no {key} in {:?}", keys(value));
    }
}

#[test]
fn mesos_c68_c69_the_state_has_every_key_and_tasks_come_in_pages() {
    let dir = tempfile::tempdir().unwrap();
    let meshos = cluster(dir.path(), "cpus:4").start();
    let mut framework = Framework::subscribe(&meshos.mesos, &info(json!({})));
    let offer = framework.offer();
    let tasks: Vec<Value> = (0..30).map(|n| task(&offer, &format!("t{n:02}"), "true")).collect();
    framework.tell("SUPPRESS", json!({}));
    framework.launch(&offer, &tasks);
    let mut finished = 0;
    while finished < 30 {
        finished += usize::from(framework.acked()["state"] == "TASK_FINISHED");
    }
    framework.tell("REVIVE", json!({}));
    let offer = framework.offer();
    framework.launch(&offer, &[task(&offer, "lasting", "sleep 1000")]);
    framework.until("lasting", "TASK_RUNNING");
    framework.offer();

    let state = eventually("the gateway has heard of everything", || {
        let state = meshos.mesos.get("/master/state").unwrap().json();
        let shown = &state["frameworks"][0];
        let count = |key: &str| shown[key].as_array().map_or(0, Vec::len);
        let last = shown["tasks"][0]["statuses"].as_array().and_then(|all| all.last());
        let runs = last.is_some_and(|status| status["state"] == "TASK_RUNNING");
        if runs && count("completed_tasks") == 30 && count("offers") > 0 { Ok(state) } else { Err(state) }
    });
    has(
        &state,
        &[
            "version",
            "build_date",
            "build_time",
            "build_user",
            "start_time",
            "elected_time",
            "id",
            "pid",
            "hostname",
            "capabilities",
            "activated_slaves",
            "deactivated_slaves",
            "unreachable_slaves",
            "leader",
            "leader_info",
            "flags",
            "slaves",
            "recovered_slaves",
            "frameworks",
            "completed_frameworks",
            "orphan_tasks",
            "unregistered_frameworks",
        ],
    );
    let slave = &state["slaves"][0];
    has(
        slave,
        &[
            "id",
            "hostname",
            "port",
            "attributes",
            "pid",
            "registered_time",
            "resources",
            "used_resources",
            "offered_resources",
            "reserved_resources",
            "unreserved_resources",
            "active",
            "deactivated",
            "version",
            "capabilities",
        ],
    );
    for resources in ["resources", "used_resources", "offered_resources", "unreserved_resources"] {
        for name in ["cpus", "gpus", "mem", "disk"] {
            assert!(slave[resources][name].is_number(), "{resources}.{name}: {slave}");
        }
    }
    assert_eq!(slave["resources"]["ports"], "[31000-31099]");
    let shown = &state["frameworks"][0];
    has(
        shown,
        &[
            "id",
            "name",
            "used_resources",
            "offered_resources",
            "capabilities",
            "hostname",
            "webui_url",
            "active",
            "connected",
            "recovered",
            "user",
            "failover_timeout",
            "checkpoint",
            "registered_time",
            "unregistered_time",
            "resources",
            "roles",
            "tasks",
            "unreachable_tasks",
            "completed_tasks",
            "offers",
            "executors",
            "offer_constraints",
        ],
    );
    let running = &shown["tasks"][0];
    has(
        running,
        &["id", "name", "framework_id", "executor_id", "slave_id", "state", "resources", "role", "statuses"],
    );
    assert_eq!((&running["executor_id"], &running["role"]), (&json!(""), &json!("eng")));
    let status = running["statuses"].as_array().unwrap().last().unwrap();
    assert_eq!(status["state"], "TASK_RUNNING");
    for absent in ["message", "reason", "source", "uuid"] {
        assert_eq!(status.get(absent), None);
    }
    let addresses = &status["container_status"]["network_infos"][0]["ip_addresses"];
    assert!(addresses[0]["ip_address"].is_string(), "{status}");
    has(&shown["offers"][0], &["id", "framework_id", "allocation_info", "slave_id", "resources"]);

    let page = meshos.mesos.get("/tasks?limit=10&offset=20&order=asc").unwrap().json();
    let page = page["tasks"].as_array().unwrap().clone();
    assert_eq!(page.len(), 10);
    let all = meshos.mesos.get("/tasks?order=asc").unwrap().json();
    assert_eq!(all["tasks"].as_array().unwrap()[20..30], page);
    let times: Vec<f64> =
        page.iter().map(|task| task["statuses"][0]["timestamp"].as_f64().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");
    assert!(meshos.terminate().success());
}

#[test]
fn mesos_c70_output_is_read_in_pieces() {
    let dir = tempfile::tempdir().unwrap();
    let meshos = cluster(dir.path(), "cpus:1").start();
    let mut framework = Framework::subscribe(&meshos.mesos, &info(json!({})));
    let offer = framework.offer();
    let command = "head -c 100000 /dev/zero | tr '\\0' x; sleep 1000";
    framework.launch(&offer, &[task(&offer, "t", command)]);
    framework.until("t", "TASK_RUNNING");
    let agent = &meshos.agents[0];
    let state = agent.get("/state").unwrap().json();
    let directory = state["frameworks"][0]["executors"][0]["directory"].as_str().unwrap().to_owned();
    eventually("the output's size is told", || {
        let read = agent.get(&format!("/files/read?path={directory}/stdout&offset=-1")).unwrap().json();
        if read == json!({"data": "", "offset": 100_000}) { Ok(()) } else { Err(read) }
    });
    let read =
        agent.get(&format!("/files/read?path={directory}/stdout&offset=0&length=100000")).unwrap().json();
    assert_eq!(read["offset"], 0);
    assert_eq!(read["data"].as_str().unwrap().len(), 64 * 1024);
    assert!(meshos.terminate().success());
}

#[test]
fn mesos_c72_an_operator_sees_everything_from_its_state_on() {
    let dir = tempfile::tempdir().unwrap();
    let meshos = cluster(dir.path(), "cpus:1").start();
    let body = br#"{"type":"SUBSCRIBE"}"#;
    let mut stream = EventStream::open(&meshos.mesos, ("POST", "/api/v1"), &[JSON], body).unwrap();
    assert_eq!((stream.status, stream.header("content-type")), (200, Some("application/json")));
    let first = stream.event(PATIENCE).unwrap().unwrap();
    assert_eq!(first["type"], "SUBSCRIBED");
    let state = &first["subscribed"]["get_state"];
    assert_eq!(state["get_agents"]["agents"].as_array().unwrap().len(), 1);
    assert_eq!(state["get_tasks"]["tasks"], json!([]));
    assert_eq!(stream.record(PATIENCE).unwrap().unwrap(), br#"{"type":"HEARTBEAT"}"#);

    let mut framework = Framework::subscribe(&meshos.mesos, &info(json!({})));
    let offer = framework.offer();
    framework.launch(&offer, &[task(&offer, "t", "sleep 1")]);
    framework.until("t", "TASK_FINISHED");
    framework.tell("TEARDOWN", json!({}));
    let mut told = Vec::new();
    while told.last().is_none_or(|event: &Value| event["type"] != "FRAMEWORK_REMOVED") {
        let event = stream.event(PATIENCE).unwrap().unwrap();
        if event["type"] != "HEARTBEAT" {
            told.push(event);
        }
    }
    let kinds: Vec<&str> = told.iter().map(|event| event["type"].as_str().unwrap()).collect();
    let wanted = [
        "FRAMEWORK_ADDED",
        "TASK_ADDED",
        "TASK_UPDATED",
        "TASK_UPDATED",
        "TASK_UPDATED",
        "FRAMEWORK_REMOVED",
    ];
    assert_eq!(kinds, wanted, "{told:?}");
    assert_eq!(told[1]["task_added"]["task"]["state"], "TASK_STAGING");
    for (event, state) in told[2..5].iter().zip(["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"]) {
        assert_eq!(event["task_updated"]["status"]["state"], state);
        assert_eq!(event["task_updated"]["status"]["task_id"]["value"], "t");
        assert_eq!(event["task_updated"]["framework_id"]["value"], framework.id.as_str());
    }
    assert_eq!(told[5]["framework_removed"]["framework_info"]["id"]["value"], framework.id.as_str());
    assert!(meshos.terminate().success());
}
