//! How the scheduler API is spoken: lines 1 to 12, 74 and 75; and what HTTP itself allows.

use meshos_proto::mesos::v1::scheduler::{Call, Event, call, event};
use meshos_testing::{EventStream, Http, wait::PATIENCE};
use prost::Message;
use serde_json::{Value, json};

use crate::support::{Framework, JSON, SCHEDULER, cluster, info, open, task};

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
    // A second one comes; that it comes after 15 s, a test of the allocator in simulated time shows.
    while !stream.record(PATIENCE).unwrap().unwrap().starts_with(b"{\"type\":\"HEARTBEAT\"") {}

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
    let acknowledge =
        json!({"agent_id": {"value": "a"}, "task_id": {"value": "t"}, "uuid": "WHeN5IZSQfupX9c02qSmFg=="});
    for (kind, part) in [
        ("DECLINE", part.clone()),
        ("ACCEPT", part),
        ("REVIVE", json!({})),
        ("SUPPRESS", json!({})),
        ("KILL", json!({"task_id": {"value": "t"}})),
        ("ACKNOWLEDGE", acknowledge),
        ("RECONCILE", json!({})),
        ("UPDATE_FRAMEWORK", json!({"framework_info": info(json!({"id": {"value": framework.id}}))})),
        ("TEARDOWN", json!({})),
    ] {
        let wrong = framework.call_with(kind, part, &[JSON, ("Mesos-Stream-Id", "not-this-one")]);
        let text = wrong.text();
        assert_eq!(wrong.status, 400, "{kind}: {text}");
        assert!(text.contains("'not-this-one'") && text.contains(&framework.id), "{kind}: {text}");
    }
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
    let mut framework = Framework::subscribe(&meshos.mesos, &odd);
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
    let offer = framework.offer();
    framework.launch(&offer, &[task(&offer, "t", "true")]);
    let uuid = framework.update()["uuid"].as_str().unwrap().to_owned();
    // 16 bytes in the standard alphabet, with padding.
    assert!(uuid.len() == 24 && uuid.ends_with("==") && !uuid.contains(['-', '_']), "{uuid}");
    assert!(meshos.terminate().success());
}

#[test]
fn protobuf_is_spoken_both_ways() {
    const PROTOBUF: &str = "application/x-protobuf";
    let dir = tempfile::tempdir().unwrap();
    let meshos = cluster(dir.path(), "cpus:1").start();
    let text = json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": info(json!({}))}});
    let subscribe: Call = meshos_proto::json::from_json(&text).unwrap();
    let headers = [("Content-Type", PROTOBUF), ("Accept", PROTOBUF)];
    let body = subscribe.encode_to_vec();
    let mut stream = EventStream::open(&meshos.mesos, ("POST", SCHEDULER), &headers, &body).unwrap();
    assert_eq!((stream.status, stream.header("content-type")), (200, Some(PROTOBUF)));
    let stream_id = stream.header("mesos-stream-id").unwrap().to_owned();
    let mut next = |kind: event::Type| loop {
        let record = stream.record(PATIENCE).unwrap().expect("the stream goes on");
        let event = Event::decode(record.as_slice()).unwrap();
        if event.r#type() == kind {
            return event;
        }
    };
    let framework_id = Some(next(event::Type::Subscribed).subscribed.unwrap().framework_id);
    let offers = next(event::Type::Offers).offers.unwrap().offers;
    let offer_ids = offers.into_iter().map(|offer| offer.id).collect();
    let accept = Some(call::Accept { offer_ids, operations: Vec::new(), filters: None });
    let decline = Call { framework_id, r#type: Some(call::Type::Accept as i32), accept, ..Call::default() };
    let headers = [("Content-Type", PROTOBUF), ("Mesos-Stream-Id", stream_id.as_str())];
    let send = |body: &[u8]| meshos.mesos.send("POST", SCHEDULER, &headers, body).unwrap();
    let declined = send(&decline.encode_to_vec());
    assert_eq!((declined.status, declined.text()), (202, String::new()));
    let unread = send(b"\x01\x01");
    assert_eq!((unread.status, unread.text().as_str()), (400, "Failed to parse body into Call protobuf"));
    let health = [("Content-Type", PROTOBUF), ("Accept", PROTOBUF)];
    let health = meshos.mesos.send("POST", "/api/v1", &health, b"\x08\x01").unwrap();
    assert_eq!((health.status, health.header("content-type")), (200, Some(PROTOBUF)));
    assert!(meshos.terminate().success());
}

#[test]
fn bodies_come_in_chunks_in_pieces_and_not_too_large() {
    let dir = tempfile::tempdir().unwrap();
    let meshos = cluster(dir.path(), "cpus:1").start();
    let health = br#"{"type":"GET_HEALTH"}"#;
    let chunks: Vec<Vec<u8>> = health
        .chunks(8)
        .map(|piece| [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat())
        .chain([b"0\r\n\r\n".to_vec()])
        .collect();
    let pieces: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
    let chunked = [JSON, ("Transfer-Encoding", "chunked")];
    let answer = meshos.mesos.pieces("POST", "/api/v1", &chunked, &pieces).unwrap();
    assert_eq!((answer.status, &answer.json()["get_health"]), (200, &json!({"healthy": true})));
    let length = health.len().to_string();
    let plain = [JSON, ("Content-Length", length.as_str())];
    let slow = meshos.mesos.pieces("POST", "/api/v1", &plain, &[&health[..3], &health[3..]]).unwrap();
    assert_eq!(slow.status, 200);
    // An announced length is enough: nothing of it is read.
    let large = [JSON, ("Content-Length", "40000000")];
    for path in [SCHEDULER, "/api/v1", "/weights", "/teardown"] {
        let method = if path == "/weights" { "PUT" } else { "POST" };
        let refused = meshos.mesos.pieces(method, path, &large, &[b""]).unwrap();
        assert_eq!(refused.status, 413, "{path}: {}", refused.text());
        assert!(refused.text().contains("33554432 bytes"), "{path}: {}", refused.text());
    }
    assert!(meshos.terminate().success());
}

#[test]
fn methods_are_looked_at_where_mesos_looks() {
    let dir = tempfile::tempdir().unwrap();
    let meshos = cluster(dir.path(), "cpus:1").start();
    let send = |method: &str, path: &str| meshos.mesos.send(method, path, &[], b"").unwrap();
    for (path, allow) in [
        (SCHEDULER, "POST"),
        ("/api/v1", "POST"),
        ("/reserve", "POST"),
        ("/unreserve", "POST"),
        ("/create-volumes", "POST"),
        ("/destroy-volumes", "POST"),
        ("/teardown", "POST"),
        ("/machine/down", "POST"),
        ("/machine/up", "POST"),
        ("/weights", "GET, PUT"),
        ("/quota", "GET, POST, DELETE"),
        ("/maintenance/schedule", "GET, POST"),
        ("/maintenance/status", "GET"),
    ] {
        for path in [path.to_owned(), format!("/master{path}")] {
            let wrong = send("PATCH", &path);
            assert_eq!((wrong.status, wrong.header("allow")), (405, Some(allow)), "{path}");
            let names = allow.split(", ").collect::<Vec<_>>().join("', '");
            let text =
                format!("405 Method Not Allowed. Expecting one of {{ '{names}' }}, but received 'PATCH'.");
            assert_eq!(wrong.text(), text, "{path}");
        }
    }
    for path in ["/state", "/flags", "/version", "/health", "/tasks"] {
        let whole = send("GET", path);
        assert_eq!(send("POST", path).status, 200, "{path}: the verb is not looked at");
        assert_eq!(send("OPTIONS", path).status, 200, "{path}");
        let head = send("HEAD", path);
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        assert_eq!(head.header("content-type"), whole.header("content-type"), "{path}");
    }
    for path in ["/nosuch", "/master/nosuch", "/master/state.json", "/redirect/x", "/index.htm"] {
        let unknown = send("GET", path);
        assert_eq!((unknown.status, unknown.text().as_str()), (404, "404 Not Found."), "{path}");
    }
    assert!(meshos.terminate().success());
}
