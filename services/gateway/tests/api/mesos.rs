//! The Mesos API.

use std::time::Duration;

use meshos_gateway::Config;
use meshos_proto::{
    meshos::allocator::v1::{self as allocator, change::Body},
    mesos::v1::{
        FrameworkId, FrameworkInfo, MasterInfo,
        scheduler::{Event, event},
    },
};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use tonic::Status;

use crate::{
    client::{SOON, get, open, post, send},
    scene::{Scene, cluster_delta, cluster_snapshot},
};

const SCHEDULER: &str = "POST /api/v1/scheduler";
const SUBSCRIBE: &str = r#"{"type":"SUBSCRIBE","subscribe":{"framework_info":{"user":"u","name":"n"}}}"#;
const REVIVE: &str = r#"{"type":"REVIVE","framework_id":{"value":"f"}}"#;
const JSON: (&str, &str) = ("content-type", "application/json");

fn golden(name: &str) -> String {
    let path = format!("{}/tests/golden/{name}.body", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap()
}

fn events(list: Vec<Event>) -> Result<allocator::SubscribeResponse, Status> {
    Ok(allocator::SubscribeResponse { events: list })
}

fn subscribed() -> Event {
    let subscribed = event::Subscribed {
        framework_id: FrameworkId { value: "f".to_owned() },
        heartbeat_interval_seconds: Some(15.0),
        master_info: Some(MasterInfo { id: "m".to_owned(), port: 1, ..Default::default() }),
    };
    Event { r#type: Some(event::Type::Subscribed as i32), subscribed: Some(subscribed), ..Default::default() }
}

fn heartbeat() -> Event {
    Event { r#type: Some(event::Type::Heartbeat as i32), ..Default::default() }
}

fn framework(id: &str, completed: bool) -> allocator::Framework {
    let info = FrameworkInfo { id: Some(FrameworkId { value: id.to_owned() }), ..Default::default() };
    allocator::Framework { info: Some(info), completed, connected: true, active: true, ..Default::default() }
}

#[tokio::test]
async fn mesos_c01_c02_c03_a_subscription_streams_record_io() {
    let scene = Scene::new().await;
    let mut stream = open(scene.mesos(), SCHEDULER, &[JSON], SUBSCRIBE).await;
    assert_eq!(stream.status, 200);
    assert_eq!(stream.headers["mesos-stream-id"], "stream-1");
    assert_eq!(stream.headers["content-type"], "application/json");
    assert_eq!(stream.headers["transfer-encoding"], "chunked");
    let sender = scene.allocator.events.borrow().clone().unwrap();
    sender.send(events(vec![subscribed(), heartbeat()])).await.unwrap();
    let piece = stream.next().await.unwrap();
    let text = std::str::from_utf8(&piece).unwrap();
    let (length, rest) = text.split_once('\n').unwrap();
    let (first, second) = rest.split_at(length.parse().unwrap());
    let first: Value = serde_json::from_str(first).unwrap();
    assert_eq!(first["subscribed"]["framework_id"]["value"], "f");
    let port = scene.mesos().rsplit_once(':').unwrap().1.parse::<u16>().unwrap();
    assert_eq!(first["subscribed"]["master_info"]["address"]["port"], port, "clients reach the gateway");
    assert_eq!(second, "20\n{\"type\":\"HEARTBEAT\"}");
    drop(sender);
    scene.allocator.events.send_replace(None);
    assert!(stream.next().await.is_none(), "the stream ends with the leader's");
    scene.stop().await;
}

#[tokio::test]
async fn a_framework_that_goes_away_ends_its_stream_at_the_allocator() {
    let scene = Scene::new().await;
    let stream = open(scene.mesos(), "POST /master/api/v1/scheduler", &[JSON], SUBSCRIBE).await;
    let sender = scene.allocator.events.borrow().clone().unwrap();
    drop(stream);
    timeout(SOON, sender.closed()).await.expect("the allocator learns of it");
    scene.stop().await;
}

#[tokio::test]
async fn a_protobuf_subscription_gets_protobuf() {
    use prost::Message;
    let scene = Scene::new().await;
    let headers = [JSON, ("accept", "application/x-protobuf")];
    let mut stream = open(scene.mesos(), SCHEDULER, &headers, SUBSCRIBE).await;
    assert_eq!(stream.headers["content-type"], "application/x-protobuf");
    let sender = scene.allocator.events.borrow().clone().unwrap();
    sender.send(events(vec![heartbeat()])).await.unwrap();
    let piece = stream.next().await.unwrap();
    assert_eq!(Event::decode(&piece[2..]).unwrap(), heartbeat());
    drop(stream);
    scene.stop().await;
}

#[tokio::test]
async fn calls_carry_their_stream_id_and_are_accepted() {
    let scene = Scene::new().await;
    let headers = [JSON, ("mesos-stream-id", "stream-1")];
    let reply = send(scene.mesos(), SCHEDULER, &headers, REVIVE).await;
    assert_eq!((reply.status, reply.text()), (202, ""));
    let call = scene.allocator.last_call();
    assert!(call.contains("stream_id: \"stream-1\"") && call.contains("Revive"), "{call}");
    let update = r#"{"type":"UPDATE_FRAMEWORK","framework_id":{"value":"f"},"update_framework":
        {"framework_info":{"user":"u","name":"n","id":{"value":"f"}}}}"#;
    assert_eq!(send(scene.mesos(), SCHEDULER, &headers, update).await.status, 200);
    scene.stop().await;
}

#[tokio::test]
async fn mesos_c09_c10_c11_refusals_of_the_allocator_are_passed_on() {
    let scene = Scene::new().await;
    for name in ["err_no_stream_id", "err_wrong_stream_id", "err_no_such_framework"] {
        scene.allocator.refuse(Status::invalid_argument(golden(name)));
        let reply = post(scene.mesos(), SCHEDULER, REVIVE).await;
        assert_eq!((reply.status, reply.text()), (400, golden(name).as_str()));
        assert_eq!(reply.header("content-type"), "text/plain; charset=utf-8");
    }
    scene.allocator.refuse(Status::permission_denied("Framework is not subscribed"));
    assert_eq!(post(scene.mesos(), SCHEDULER, REVIVE).await.status, 403);
    scene.stop().await;
}

#[tokio::test]
async fn refusals_of_the_gateway_never_reach_the_allocator() {
    let scene = Scene::new().await;
    let address = scene.mesos();
    for (line, headers, body, status, name) in [
        ("GET /api/v1/scheduler", vec![], "", 405, "err_scheduler_GET"),
        (SCHEDULER, vec![("content-type", "text/plain")], "{}", 415, "err_no_content_type"),
        (SCHEDULER, vec![JSON], "{}", 400, "err_no_type"),
        (SCHEDULER, vec![JSON], r#"{"type":"SUBSCRIBE"}"#, 400, "err_subscribe_no_info"),
        (SCHEDULER, vec![JSON, ("accept", "text/html")], SUBSCRIBE, 406, "err_accept_bad"),
        ("GET /teardown", vec![], "", 405, "err_teardown_get"),
        ("POST /api/v1", vec![JSON], r#"{"type":"x"}"#, 400, "err_operator_bad_type"),
        ("POST /api/v1", vec![JSON], r#"{"type":"SET_LOGGING_LEVEL"}"#, 400, "err_operator_missing"),
    ] {
        let reply = send(address, line, &headers, body).await;
        assert_eq!((reply.status, reply.text()), (status, golden(name).as_str()), "{line} {body}");
    }
    let headers = [JSON, ("mesos-stream-id", "x")];
    let reply = send(address, SCHEDULER, &headers, SUBSCRIBE).await;
    let text = "Subscribe calls should not include the 'Mesos-Stream-Id' header";
    assert_eq!((reply.status, reply.text()), (400, text));
    let reply = post(address, "POST /api/v1", r#"{"type":"START_MAINTENANCE","start_maintenance":{}}"#).await;
    assert_eq!(reply.status, 501);
    assert!(scene.allocator.calls.lock().unwrap().is_empty());
    scene.stop().await;
}

#[tokio::test]
async fn a_call_to_a_leader_that_just_changed_is_repeated() {
    let scene = Scene::new().await;
    scene.allocator.refuse(Status::unavailable("not leading"));
    scene.allocator.refuse(Status::unavailable("not leading"));
    assert_eq!(post(scene.mesos(), SCHEDULER, REVIVE).await.status, 202);
    assert_eq!(scene.allocator.calls.lock().unwrap().len(), 3);
    // What may have been carried out is not sent twice.
    scene.allocator.refuse(Status::unavailable("connection reset"));
    let accept = r#"{"type":"ACCEPT","framework_id":{"value":"f"},"accept":{}}"#;
    assert_eq!(post(scene.mesos(), SCHEDULER, accept).await.status, 503);
    assert_eq!(scene.allocator.calls.lock().unwrap().len(), 4);
    scene.stop().await;
}

#[tokio::test]
async fn mesos_c14_without_a_leader() {
    let scene = Scene::leaderless(Config::default()).await;
    let state = get(scene.mesos(), "/state").await;
    assert_eq!((state.status, state.text()), (503, "No leader elected"));
    assert_eq!(get(scene.mesos(), "/redirect").await.status, 503);
    let health = get(scene.mesos(), "/health").await;
    assert_eq!((health.status, health.text()), (200, ""));
    assert_eq!(get(scene.mesos(), "/metrics/snapshot").await.json()["master/elected"], json!(0.0));
    assert_eq!(get(scene.marathon(), "/v2/apps").await.status, 503);
    assert_eq!(get(scene.marathon(), "/v2/leader").await.status, 404);
    scene.stop().await;
}

#[tokio::test]
async fn read_endpoints_answer_from_the_view() {
    let scene = Scene::new().await;
    let address = scene.mesos();
    for path in
        ["/state", "/master/state", "/state-summary", "/slaves", "/frameworks", "/tasks", "/roles", "/flags"]
    {
        let reply = get(address, path).await;
        assert_eq!((reply.status, reply.header("content-type")), (200, "application/json"), "{path}");
        assert!(reply.json().is_object());
    }
    assert_eq!(get(address, "/version").await.json()["version"], "1.12.0");
    let redirect = get(address, "/master/redirect").await;
    assert_eq!((redirect.status, redirect.header("location")), (307, format!("//{address}").as_str()));
    let jsonp = get(address, "/state?jsonp=cb").await;
    assert_eq!(jsonp.header("content-type"), "text/javascript");
    assert!(jsonp.text().starts_with("cb({") && jsonp.text().ends_with("})"));
    let unknown = get(address, "/nosuch").await;
    assert_eq!((unknown.status, unknown.text()), (404, "404 Not Found."));
    let head = send(address, "HEAD /state", &[], "").await;
    assert_eq!((head.status, head.text()), (200, ""));
    let health = post(address, "POST /api/v1", r#"{"type":"GET_HEALTH"}"#).await;
    assert_eq!(health.json(), json!({"type": "GET_HEALTH", "get_health": {"healthy": true}}));
    scene.stop().await;
}

#[tokio::test]
async fn mesos_c61_teardown() {
    let scene = Scene::new().await;
    let address = scene.mesos();
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let missing = send(address, "POST /teardown", &form, "x=y").await;
    let text = "Missing 'frameworkId' query parameter in the request body";
    assert_eq!((missing.status, missing.text()), (400, text));
    scene.allocator.refuse(Status::invalid_argument("No framework found with specified ID"));
    let unknown = send(address, "POST /teardown", &form, "frameworkId=x").await;
    assert_eq!((unknown.status, unknown.text()), (400, golden("err_teardown_post").as_str()));
    // The answer comes when the view shows it.
    scene.allocator.watch.publish(cluster_delta(2, vec![Body::Framework(framework("f", false))]));
    while get(address, "/frameworks").await.json()["frameworks"] == json!([]) {
        sleep(Duration::from_millis(5)).await;
    }
    *scene.allocator.written.lock().unwrap() = (1, 3);
    let publish = async {
        while !scene.allocator.last_call().contains("\"f\"") {
            sleep(Duration::from_millis(5)).await;
        }
        sleep(Duration::from_millis(50)).await;
        scene.allocator.watch.publish(cluster_delta(3, vec![Body::Framework(framework("f", true))]));
    };
    let (reply, ()) = tokio::join!(send(address, "POST /teardown", &form, "frameworkId=f"), publish);
    assert_eq!(reply.status, 200);
    let shown = get(address, "/frameworks").await.json();
    assert_eq!(
        (shown["frameworks"].clone(), shown["completed_frameworks"][0]["id"].clone()),
        (json!([]), json!("f"))
    );
    scene.stop().await;
}

#[tokio::test]
async fn a_broken_view_goes_on_answering_and_is_replaced() {
    let scene = Scene::new().await;
    let before = allocator::Snapshot { frameworks: vec![framework("old", false)], ..Default::default() };
    scene.allocator.watch.restart(cluster_snapshot(1, before));
    let shows = async |id: &str| loop {
        let reply = get(scene.mesos(), "/frameworks").await;
        assert_eq!(reply.status, 200, "there is always an answer");
        if reply.json()["frameworks"][0]["id"] == id {
            return;
        }
        sleep(Duration::from_millis(5)).await;
    };
    timeout(SOON, shows("old")).await.unwrap();
    let after = allocator::Snapshot { frameworks: vec![framework("new", false)], ..Default::default() };
    scene.allocator.watch.restart(cluster_snapshot(2, after));
    timeout(SOON, shows("new")).await.unwrap();
    scene.stop().await;
}

#[tokio::test]
async fn bodies_over_the_limit_are_refused() {
    let config = Config { mesos_body_limit: 10, marathon_body_limit: 10, ..Config::default() };
    let scene = Scene::leaderless(config).await;
    let reply = post(scene.mesos(), SCHEDULER, SUBSCRIBE).await;
    assert_eq!(reply.status, 413);
    let reply = post(scene.marathon(), "POST /v2/apps", r#"{"id":"/a","cmd":"x"}"#).await;
    assert_eq!(reply.status, 413);
    assert!(reply.json()["message"].as_str().unwrap().contains("limit of 10 bytes"));
    scene.stop().await;
}

#[tokio::test]
async fn a_taken_port_stops_the_start_and_says_so() {
    let scene = Scene::leaderless(Config::default()).await;
    let config = Config {
        listen: "second".to_owned(),
        marathon_listen: scene.marathon().to_owned(),
        ..Config::default()
    };
    let error =
        meshos_gateway::start(&scene.env, std::sync::Arc::clone(&scene.store), config).await.unwrap_err();
    let text = error.to_string();
    for part in ["Marathon API", "--marathon-listen", scene.marathon(), "in use", "choose another address"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    scene.stop().await;
}
