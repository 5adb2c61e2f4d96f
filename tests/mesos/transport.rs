//! How the scheduler API is spoken: lines 1 to 12, 74 and 75.

use meshos_testing::{EventStream, Http, wait::PATIENCE};
use serde_json::{Value, json};

use crate::support::{Framework, JSON, SCHEDULER, cluster, info, open};

fn post(mesos: &Http, headers: &[(&str, &str)], call: &Value) -> (u16, String) {
    let response = mesos.send("POST", SCHEDULER, headers, call.to_string().as_bytes()).unwrap();
    (response.status, response.text())
}

#[test]
fn mesos_c01_c02_c03_c12_a_subscription_is_a_stream_of_records() {
    let dir = tempfile::tempdir().unwrap();
    let meshos = cluster(dir.path(), "cpus:1").start();
    let mut stream = open(&meshos.mesos, &info(json!({})));
    assert_eq!(stream.status, 200);
    assert_eq!(stream.header("transfer-encoding"), Some("chunked"));
    let id = stream.header("mesos-stream-id").unwrap();
    let groups: Vec<usize> = id.split('-').map(str::len).collect();
    assert_eq!(groups, [8, 4, 4, 4, 12], "{id}");
    let first: Value = serde_json::from_slice(&stream.record(PATIENCE).unwrap().unwrap()).unwrap();
    assert_eq!(first["type"], "SUBSCRIBED");
    assert_eq!(first["subscribed"]["heartbeat_interval_seconds"], 15.0);
    assert!(first["subscribed"]["framework_id"]["value"].as_str().unwrap().ends_with("-0000"), "{first}");
    // Offers may come before the first heartbeat.
    let heartbeat = loop {
        let record = stream.record(PATIENCE).unwrap().unwrap();
        if record.starts_with(b"{\"type\":\"HEARTBEAT\"") {
            break record;
        }
    };
    assert_eq!(heartbeat, br#"{"type":"HEARTBEAT"}"#);
    // A second one comes in its time; what comes before it is not a heartbeat.
    #[allow(clippy::disallowed_methods, reason = "a real process is waited for in real time")]
    let since = std::time::Instant::now();
    while !stream.record(PATIENCE).unwrap().unwrap().starts_with(b"{\"type\":\"HEARTBEAT\"") {}
    let seconds = since.elapsed().as_secs_f64();
    assert!((13.0..18.0).contains(&seconds), "{seconds}");

    let get = meshos.mesos.get(SCHEDULER).unwrap();
    assert_eq!((get.status, get.header("allow")), (405, Some("POST")));
    assert!(meshos.terminate().success());
}

#[test]
fn mesos_c04_c05_c06_c07_c08_content_types_and_headers() {
    let dir = tempfile::tempdir().unwrap();
    let meshos = cluster(dir.path(), "cpus:1").start();
    let mesos = &meshos.mesos;
    let subscribe = json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": info(json!({}))}});
    assert_eq!(post(mesos, &[], &subscribe), (400, "Expecting 'Content-Type' to be present".to_owned()));
    let (status, text) = post(mesos, &[("Content-Type", "text/plain")], &subscribe);
    assert_eq!(status, 415);
    assert!(text.contains("application/json") && text.contains("application/x-protobuf"), "{text}");
    let (status, text) = post(mesos, &[JSON, ("Accept", "text/html")], &subscribe);
    assert_eq!(status, 406);
    assert!(text.contains("'Accept'"), "{text}");
    let (status, text) = post(mesos, &[JSON, ("Mesos-Stream-Id", "x")], &subscribe);
    assert_eq!(
        (status, text.as_str()),
        (400, "Subscribe calls should not include the 'Mesos-Stream-Id' header")
    );
    for headers in [vec![JSON, ("Accept", "*/*")], vec![JSON]] {
        let body = subscribe.to_string();
        let mut stream = EventStream::open(mesos, ("POST", SCHEDULER), &headers, body.as_bytes()).unwrap();
        assert_eq!((stream.status, stream.header("content-type")), (200, Some("application/json")));
        assert_eq!(stream.event(PATIENCE).unwrap().unwrap()["type"], "SUBSCRIBED");
    }
    assert!(meshos.terminate().success());
}

#[test]
fn mesos_c09_c10_c11_calls_name_their_stream_and_framework() {
    let dir = tempfile::tempdir().unwrap();
    let meshos = cluster(dir.path(), "cpus:1").start();
    let mut framework = Framework::subscribe(&meshos.mesos, &info(json!({})));
    let offer = framework.offer();
    let part = json!({"offer_ids": [offer["id"]]});
    let missing = framework.call_with("DECLINE", part.clone(), &[JSON]);
    assert_eq!(
        (missing.status, missing.text().as_str()),
        (400, "All non-subscribe calls should include the 'Mesos-Stream-Id' header")
    );
    let wrong = framework.call_with("DECLINE", part, &[JSON, ("Mesos-Stream-Id", "not-this-one")]);
    assert_eq!(wrong.status, 400);
    assert!(
        wrong.text().contains("'not-this-one'") && wrong.text().contains(&framework.id),
        "{}",
        wrong.text()
    );
    let state = meshos.mesos.get("/state").unwrap().json();
    assert_eq!(state["frameworks"][0]["offers"][0]["id"], offer["id"]["value"], "nothing changed");
    let unknown = json!({"type": "ACCEPT", "framework_id": {"value": "nobody"}, "accept": {"offer_ids": []}});
    let headers = [JSON, ("Mesos-Stream-Id", framework.stream_id.as_str())];
    assert_eq!(post(&meshos.mesos, &headers, &unknown), (400, "Framework cannot be found".to_owned()));
    assert!(meshos.terminate().success());
}

#[test]
fn mesos_c74_c75_unknown_names_are_dropped_and_bytes_are_base64() {
    let dir = tempfile::tempdir().unwrap();
    let meshos = cluster(dir.path(), "cpus:1").start();
    let capabilities = json!([{"type": "NO_SUCH_CAPABILITY"}, {"type": "MULTI_ROLE"}]);
    let odd = info(json!({"capabilities": capabilities, "no_such_field": {"a": [1]}}));
    let framework = Framework::subscribe(&meshos.mesos, &odd);
    let shown = meshos.mesos.get("/frameworks").unwrap().json();
    assert_eq!(shown["frameworks"][0]["capabilities"], json!(["MULTI_ROLE"]));
    let unknown = json!({"type": "NO_SUCH_CALL", "framework_id": {"value": framework.id}});
    let (status, text) = post(&meshos.mesos, &[JSON], &unknown);
    assert_eq!(status, 400);
    assert!(text.ends_with("Expecting 'type' to be present"), "{text}");
    let part = |uuid: &str| json!({"agent_id": {"value": "a"}, "task_id": {"value": "t"}, "uuid": uuid});
    let short = framework.call("ACKNOWLEDGE", part("AAAA"));
    assert_eq!(short.status, 400);
    assert!(short.text().contains("UUID"), "{}", short.text());
    assert_eq!(framework.call("ACKNOWLEDGE", part("no base64!")).status, 400);
    framework.tell("ACKNOWLEDGE", part("WHeN5IZSQfupX9c02qSmFg=="));
    assert!(meshos.terminate().success());
}
