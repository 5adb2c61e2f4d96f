//! What operators do over the Mesos API.

use meshos_proto::{
    meshos::allocator::v1::{self as allocator, change::Body},
    mesos::v1::{self as mesos, AgentId, FrameworkId, value},
};
use serde_json::json;
use tokio::time::{Duration, sleep};
use tonic::Status;

use crate::{
    client::{Response, get, post, send},
    scene::{Scene, cluster_delta, cluster_snapshot},
};

const FORM: [(&str, &str); 1] = [("content-type", "application/x-www-form-urlencoded")];
const OPERATOR: &str = "POST /api/v1";

fn cpus(amount: f64) -> mesos::Resource {
    mesos::Resource {
        name: "cpus".to_owned(),
        r#type: value::Type::Scalar as i32,
        scalar: Some(value::Scalar { value: amount }),
        ..Default::default()
    }
}

pub(crate) fn agent(cpus_total: f64) -> allocator::Agent {
    let id = Some(AgentId { value: "a".to_owned() });
    let info = mesos::AgentInfo { id, hostname: "h".to_owned(), ..Default::default() };
    let total = vec![cpus(cpus_total)];
    allocator::Agent { info: Some(info), active: true, connected: true, total, ..Default::default() }
}

/// Waits until the view holds the agent.
pub(crate) async fn see_agent(scene: &Scene) {
    scene.allocator.watch.publish(cluster_delta(2, vec![Body::Agent(agent(4.0))]));
    while get(scene.mesos(), "/slaves").await.json()["slaves"] == json!([]) {
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn calls_that_only_read_are_answered() {
    let scene = Scene::new().await;
    for (call, part) in [
        ("GET_OPERATIONS", json!({})),
        ("GET_ROLES", json!({})),
        ("GET_QUOTA", json!({"status": {}})),
        ("GET_MAINTENANCE_STATUS", json!({"status": {}})),
        ("GET_MAINTENANCE_SCHEDULE", json!({"schedule": {}})),
        ("GET_LOGGING_LEVEL", json!({"level": 0})),
    ] {
        let reply = post(scene.mesos(), OPERATOR, &json!({"type": call}).to_string()).await;
        let wanted = json!({"type": call, call.to_lowercase(): part});
        assert_eq!((reply.status, reply.json()), (200, wanted));
    }
    let weights = post(scene.mesos(), OPERATOR, r#"{"type":"GET_WEIGHTS"}"#).await;
    assert_eq!(weights.json(), json!({"type": "GET_WEIGHTS"}));
    for body in [
        r#"{"type":"LIST_FILES","list_files":{"path":"/x"}}"#,
        r#"{"type":"READ_FILE","read_file":{"path":"/x","offset":0}}"#,
    ] {
        let reply = post(scene.mesos(), OPERATOR, body).await;
        assert_eq!((reply.status, reply.text()), (404, ""));
    }
    let set = r#"{"type":"SET_LOGGING_LEVEL","set_logging_level":{"level":2,"duration":{"nanoseconds":60000000000}}}"#;
    let set = post(scene.mesos(), OPERATOR, set).await;
    assert_eq!((set.status, set.text()), (200, ""));
    assert_eq!(get(scene.mesos(), "/logging/toggle").await.text(), "2\n");
    scene.stop().await;
}

/// Makes a call while the view learns what it leads to.
async fn with_view(scene: &Scene, call: impl Future<Output = Response>, then: Vec<Body>) -> Response {
    let before = scene.allocator.calls.lock().unwrap().len();
    let revision = {
        let mut written = scene.allocator.written.lock().unwrap();
        *written = (1, written.1.max(100) + 1);
        written.1
    };
    let publish = async {
        while scene.allocator.calls.lock().unwrap().len() == before {
            sleep(Duration::from_millis(5)).await;
        }
        // An answer that did not wait would be here before.
        sleep(Duration::from_millis(20)).await;
        scene.allocator.watch.publish(cluster_delta(revision, then));
    };
    tokio::join!(call, publish).0
}

fn role(weight: Option<f64>, quota: Option<f64>) -> Body {
    let quota = quota.map(|cpus| {
        let amounts = || [("cpus".to_owned(), value::Scalar { value: cpus })].into();
        mesos::quota::QuotaConfig { role: "eng".to_owned(), guarantees: amounts(), limits: amounts() }
    });
    Body::Role(allocator::RoleSettings { role: "eng".to_owned(), weight, quota })
}

#[tokio::test]
async fn weights_are_set_and_shown() {
    let scene = Scene::new().await;
    let address = scene.mesos();
    assert_eq!(get(address, "/weights").await.json(), json!([]));
    let body = r#"[{"role":"eng","weight":2.0}]"#;
    let put = with_view(&scene, send(address, "PUT /weights", &[], body), vec![role(Some(2.0), None)]).await;
    assert_eq!((put.status, put.text()), (200, ""));
    assert_eq!(get(address, "/master/weights").await.json(), json!([{"weight": 2.0, "role": "eng"}]));
    let got = post(address, OPERATOR, r#"{"type":"GET_WEIGHTS"}"#).await.json();
    assert_eq!(got["get_weights"]["weight_infos"], json!([{"weight": 2.0, "role": "eng"}]));
    let call = r#"{"type":"UPDATE_WEIGHTS","update_weights":{"weight_infos":[{"role":"eng","weight":3}]}}"#;
    let updated = with_view(&scene, post(address, OPERATOR, call), vec![role(Some(3.0), None)]).await;
    assert_eq!((updated.status, updated.text()), (200, ""));
    assert_eq!(get(address, "/roles").await.json()["roles"][0]["weight"], 3.0);
    let calls = scene.allocator.calls.lock().unwrap().len();
    assert_eq!(send(address, "PUT /weights", &[], r#"[{"role":"eng","weight":0}]"#).await.status, 400);
    assert_eq!(send(address, "PUT /weights", &[], "x").await.status, 400);
    let post = send(address, "POST /weights", &[], body).await;
    let text = "405 Method Not Allowed. Expecting one of { 'GET', 'PUT' }, but received 'POST'.";
    assert_eq!((post.status, post.text(), post.header("allow")), (405, text, "GET, PUT"));
    assert_eq!(scene.allocator.calls.lock().unwrap().len(), calls, "refusals change nothing");
    scene.stop().await;
}

#[tokio::test]
async fn quota_is_set_once_updated_and_removed() {
    let scene = Scene::new().await;
    let address = scene.mesos();
    assert_eq!(get(address, "/quota").await.json(), json!({}));
    see_agent(&scene).await;
    let request = |cpus: f64, force: bool| {
        let guarantee = json!([{"name": "cpus", "type": "SCALAR", "scalar": {"value": cpus}}]);
        json!({"role": "eng", "guarantee": guarantee, "force": force}).to_string()
    };
    let over = send(address, "POST /quota", &[], &request(5.0, false)).await;
    assert_eq!(over.status, 409, "{}", over.text());
    let set = send(address, "POST /quota", &[], "");
    assert_eq!(set.await.status, 400);
    let body = request(5.0, true);
    let set = with_view(&scene, send(address, "POST /quota", &[], &body), vec![role(None, Some(5.0))]).await;
    assert_eq!((set.status, set.text()), (200, ""));
    let shown = get(address, "/quota").await.json();
    assert_eq!(shown["configs"][0]["limits"], json!({"cpus": {"value": 5.0}}));
    assert_eq!(shown["infos"][0]["guarantee"][0]["scalar"]["value"], 5.0);
    let again = send(address, "POST /quota", &[], &request(1.0, false)).await;
    let text =
        "Failed to validate set quota request: Cannot set quota for role 'eng' which already has quota";
    assert_eq!((again.status, again.text()), (400, text));
    let update = r#"{"type":"UPDATE_QUOTA","update_quota":{"quota_configs":[{"role":"eng",
        "guarantees":{"cpus":{"value":1}},"limits":{"cpus":{"value":1}}}]}}"#;
    let updated = with_view(&scene, post(address, OPERATOR, update), vec![role(None, Some(1.0))]).await;
    assert_eq!(updated.status, 200);
    assert!(scene.allocator.last_call().contains("force: false"), "{}", scene.allocator.last_call());
    scene
        .allocator
        .refuse(Status::invalid_argument("Updating quota on nested role 'a/b' is not supported yet"));
    let nested = r#"{"type":"UPDATE_QUOTA","update_quota":{"quota_configs":[{"role":"a/b"}]}}"#;
    let nested = post(address, OPERATOR, nested).await;
    assert_eq!(
        (nested.status, nested.text()),
        (400, "Updating quota on nested role 'a/b' is not supported yet")
    );
    let gone = vec![Body::RoleRemoved("eng".to_owned())];
    let removed = with_view(&scene, send(address, "DELETE /quota/eng", &[], ""), gone).await;
    assert_eq!(removed.status, 200);
    let none = send(address, "DELETE /master/quota/eng", &[], "").await;
    let text = "Failed to remove quota for path '/master/quota/eng': Role 'eng' has no quota set";
    assert_eq!((none.status, none.text()), (400, text));
    let none = post(address, OPERATOR, r#"{"type":"REMOVE_QUOTA","remove_quota":{"role":"eng"}}"#).await;
    assert_eq!((none.status, none.text()), (400, "Failed to remove quota: Role 'eng' has no quota set"));
    scene.stop().await;
}

#[tokio::test]
async fn reservations_and_volumes_go_to_the_allocator() {
    let scene = Scene::new().await;
    let address = scene.mesos();
    let resources = r#"[{"name":"cpus","type":"SCALAR","scalar":{"value":1}}]"#;
    let form = format!("slaveId=a&resources={resources}");
    let unknown = send(address, "POST /reserve", &FORM, &form).await;
    assert_eq!((unknown.status, unknown.text()), (400, "No agent found with specified ID"));
    see_agent(&scene).await;
    let changed = || vec![Body::Agent(agent(5.0))];
    for (path, field, operation) in [
        ("reserve", "resources", "Some(Reserve {"),
        ("unreserve", "resources", "Some(Unreserve {"),
        ("create-volumes", "volumes", "Some(Create {"),
        ("destroy-volumes", "volumes", "Some(Destroy {"),
    ] {
        let line = format!("POST /{path}");
        let missing = send(address, &line, &FORM, "slaveId=a").await;
        let text = format!("Missing '{field}' query parameter in the request body");
        assert_eq!((missing.status, missing.text()), (400, text.as_str()));
        let form = format!("slaveId=a&{field}={resources}");
        let done = with_view(&scene, send(address, &line, &FORM, &form), changed()).await;
        assert_eq!((done.status, done.text()), (202, ""));
        let call = scene.allocator.last_call();
        assert!(call.contains(operation) && call.contains("\"cpus\""), "{call}");
        assert_eq!(get(address, &format!("/{path}")).await.header("allow"), "POST");
    }
    for (call, part) in [
        ("RESERVE_RESOURCES", json!({"agent_id": {"value": "a"}, "resources": [], "source": []})),
        ("UNRESERVE_RESOURCES", json!({"agent_id": {"value": "a"}, "resources": []})),
        ("CREATE_VOLUMES", json!({"agent_id": {"value": "a"}, "volumes": []})),
        ("DESTROY_VOLUMES", json!({"agent_id": {"value": "a"}, "volumes": []})),
    ] {
        let body = json!({"type": call, call.to_lowercase(): part}).to_string();
        let done = with_view(&scene, post(address, OPERATOR, &body), changed()).await;
        assert_eq!((done.status, done.text()), (202, ""), "{call}");
    }
    let volume = json!({"name": "disk", "type": "SCALAR", "scalar": {"value": 1}});
    let grow = json!({"type": "GROW_VOLUME", "grow_volume": {"volume": volume, "addition": volume}});
    let nowhere = post(address, OPERATOR, &grow.to_string()).await;
    let text = "Failed to validate master::Call: Expecting 'agent_id' to be present";
    assert_eq!((nowhere.status, nowhere.text()), (400, text));
    scene.allocator.refuse(Status::aborted("in use"));
    let busy = send(address, "POST /reserve", &FORM, &form).await;
    assert_eq!((busy.status, busy.text()), (409, "in use"));
    scene.stop().await;
}

#[tokio::test]
async fn the_rest_of_the_unversioned_endpoints() {
    let scene = Scene::new().await;
    let address = scene.mesos();
    for (path, body) in [
        ("/maintenance/status", "{}"),
        ("/maintenance/schedule", "{}"),
        ("/files/debug", "{}"),
        ("/quota?jsonp=f", "f({})"),
        ("/weights?jsonp=f", "f([])"),
        ("/logging/toggle", "0\n"),
    ] {
        let reply = get(address, path).await;
        assert_eq!((reply.status, reply.text()), (200, body), "{path}");
    }
    let read = get(address, "/files/read?path=/x").await;
    assert_eq!((read.status, read.text()), (404, ""));
    let help = get(address, "/help").await;
    assert_eq!((help.status, help.header("content-type")), (200, "text/x-markdown"));
    let wrong = send(address, "POST /maintenance/status", &[], "").await;
    assert_eq!((wrong.status, wrong.header("allow")), (405, "GET"));
    assert_eq!(get(address, "/machine/down").await.header("allow"), "POST");
    let metrics = get(address, "/metrics/snapshot").await.json();
    assert_eq!(metrics["master/messages_kill_task"], 2.0, "the leader's own");
    assert_eq!(metrics["master/tasks_finished"], 7.0, "ended tasks are counted by the leader");
    assert_eq!(metrics["master/tasks_running"], 0.0);
    let prometheus = get(address, "/metrics").await;
    assert!(prometheus.header("content-type").starts_with("text/plain"));
    assert!(prometheus.text().contains("\nmesos_master_tasks_finished 7\n"), "{}", prometheus.text());
    assert!(prometheus.text().contains("meshos_gateway_mesos_requests_total"));
    scene.stop().await;
}

#[tokio::test]
async fn the_allocator_explains_why_there_are_no_offers() {
    let scene = Scene::new().await;
    let address = scene.mesos();
    let path = "/api/meshos/v1/explain";
    assert_eq!(get(address, path).await.status, 400);
    let reply = get(address, &format!("{path}?role=eng")).await;
    let wanted = json!({"explanations": [{"framework_id": "f", "role": "eng", "suppressed": false,
        "offered": 0, "refusals": {"filter": 3}, "dominant_share": 0.0}]});
    assert_eq!((reply.status, reply.json()), (200, wanted));
    assert!(scene.allocator.last_call().contains("Role(\"eng\")"));
    scene.allocator.refuse(Status::not_found("no framework x"));
    let unknown = get(address, &format!("{path}?framework=x")).await;
    assert_eq!((unknown.status, unknown.text()), (404, "no framework x"));
    scene.stop().await;
}

#[tokio::test]
async fn executors_operations_and_usage_are_shown_and_a_picture_may_come_in_parts() {
    let scene = Scene::new().await;
    let address = scene.mesos();
    let framework = |id: &str| {
        let id = Some(FrameworkId { value: id.to_owned() });
        let info = mesos::FrameworkInfo { id, name: "n".to_owned(), ..Default::default() };
        allocator::Framework { info: Some(info), connected: true, active: true, ..Default::default() }
    };
    let info = mesos::ExecutorInfo {
        executor_id: mesos::ExecutorId { value: "e".to_owned() },
        framework_id: Some(FrameworkId { value: "f".to_owned() }),
        ..Default::default()
    };
    let executor = allocator::Executor { info: Some(info), agent_id: "a".to_owned() };
    let uuid = bytes::Bytes::from_static(&[7; 16]);
    let operation = mesos::Operation { uuid: mesos::Uuid { value: uuid.clone() }, ..Default::default() };
    let operation = allocator::Operation { operation: Some(operation) };
    let first = allocator::Snapshot {
        agents: vec![agent(4.0)],
        frameworks: vec![framework("f")],
        more: true,
        ..Default::default()
    };
    let second =
        allocator::Snapshot { executors: vec![executor], operations: vec![operation], ..Default::default() };
    scene.allocator.watch.restart_in_parts(vec![cluster_snapshot(2, first), cluster_snapshot(2, second)]);
    let operator = async |call: &str| {
        let reply = post(address, OPERATOR, &json!({"type": call}).to_string()).await.json();
        reply[call.to_lowercase()].clone()
    };
    while operator("GET_AGENTS").await["agents"] == json!([]) {
        sleep(Duration::from_millis(5)).await;
    }
    // All of it is there at once.
    let executors = operator("GET_EXECUTORS").await["executors"].clone();
    assert_eq!(executors[0]["executor_info"]["executor_id"], json!({"value": "e"}));
    assert_eq!(executors[0]["agent_id"], json!({"value": "a"}));
    assert_eq!(operator("GET_STATE").await["get_executors"]["executors"], executors);
    let operations = operator("GET_OPERATIONS").await["operations"].clone();
    assert_eq!(operations[0]["uuid"], json!({"value": "BwcHBwcHBwcHBwcHBwcHBw=="}));
    for path in ["/state", "/frameworks"] {
        let shown = get(address, path).await.json()["frameworks"][0]["executors"][0].clone();
        assert_eq!((&shown["executor_id"], &shown["slave_id"]), (&json!("e"), &json!("a")), "{path}");
    }

    let used = allocator::AgentUsage { agent_id: "a".to_owned(), used: vec![cpus(1.5)], offered: vec![] };
    let of_framework =
        allocator::FrameworkUsage { framework_id: "f".to_owned(), used: vec![cpus(1.5)], offered: vec![] };
    let key = allocator::ExecutorKey {
        framework_id: "f".to_owned(),
        agent_id: "a".to_owned(),
        executor_id: "e".to_owned(),
    };
    let changes = vec![
        Body::AgentUsage(used),
        Body::FrameworkUsage(of_framework),
        Body::ExecutorRemoved(key),
        Body::OperationRemoved(uuid),
    ];
    scene.allocator.watch.publish(cluster_delta(3, changes));
    while operator("GET_EXECUTORS").await["executors"] != json!([]) {
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(operator("GET_OPERATIONS").await, json!({}));
    let state = get(address, "/state").await.json();
    assert_eq!(state["slaves"][0]["used_resources"]["cpus"], 1.5);
    assert_eq!(state["slaves"][0]["resources"]["cpus"], 4.0);
    assert_eq!(state["frameworks"][0]["used_resources"]["cpus"], 1.5);
    assert_eq!(get(address, "/metrics/snapshot").await.json()["master/cpus_used"], 1.5);
    scene.stop().await;
}
