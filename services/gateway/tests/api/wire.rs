//! What clients do to connections.

use std::{cell::Cell, time::Duration};

use meshos_proto::{
    meshos::allocator::v1::{SubscribeResponse, TaskPlace, change::Body},
    mesos::v1::{
        self as mesos,
        scheduler::{Event, event},
    },
    packed,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    client::{SOON, get, open, send},
    scene::{Scene, cluster_delta},
};

const JSON: (&str, &str) = ("content-type", "application/json");
const SUBSCRIBE: &str = r#"{"type":"SUBSCRIBE","subscribe":{"framework_info":{"user":"u","name":"n"}}}"#;

/// Sends bytes, and reads what comes back until the server closes.
async fn raw(address: &str, bytes: &[u8]) -> String {
    let mut connection = TcpStream::connect(address).await.unwrap();
    connection.write_all(bytes).await.unwrap();
    connection.shutdown().await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(SOON, connection.read_to_end(&mut answer)).await.expect("the server closes");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn bytes_that_are_no_http_hurt_nobody() {
    let scene = Scene::new().await;
    let long = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(200_000));
    for (bytes, status) in [
        (b"\x16\x03\x01\x00\xff".as_slice(), "400"),
        (b"GET / HTTP/9.9\r\n\r\n", ""),
        (b"GET /state HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx: \x01\r\n\r\n", "400"),
        (b"GET //%ff%00/../..?%zz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "404"),
        (b"OPTIONS * HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "404"),
        (long.as_bytes(), "4"),
        (b"POST /v2/apps HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n{", ""),
    ] {
        for address in [scene.mesos(), scene.marathon()] {
            let answer = raw(address, bytes).await;
            let wanted = if status.is_empty() { String::new() } else { format!("HTTP/1.1 {status}") };
            assert!(answer.starts_with(&wanted), "{:?}: {answer}", String::from_utf8_lossy(bytes));
        }
    }
    assert_eq!(get(scene.mesos(), "/state").await.status, 200);
    assert_eq!(get(scene.marathon(), "/v2/apps").await.status, 200);
    scene.stop().await;
}

#[tokio::test]
async fn a_framework_that_does_not_read_is_cut_off() {
    let scene = Scene::new().await;
    let stream = open(scene.mesos(), "POST /api/v1/scheduler", &[JSON], SUBSCRIBE).await;
    let sender = scene.allocator.events.borrow().clone().unwrap();
    let message = event::Error { message: "x".repeat(1 << 20) };
    let event = Event { error: Some(message), ..Default::default() };
    let response = SubscribeResponse { events: vec![event] };
    let flood = async { while sender.send(Ok(response.clone())).await.is_ok() {} };
    timeout(SOON, flood).await.expect("the gateway gives the client up");
    assert_eq!(get(scene.mesos(), "/health").await.status, 200);
    drop(stream);
    scene.stop().await;
}

const LARGE: usize = 4 << 20;

/// What the tasks before this one take on the wire at least.
fn number_of_bytes(number: u64) -> usize {
    usize::try_from(number).unwrap() * LARGE
}

/// A task with a long name.
fn large(number: u64) -> Body {
    let task = mesos::Task {
        name: "x".repeat(LARGE),
        task_id: mesos::TaskId { value: number.to_string() },
        framework_id: mesos::FrameworkId { value: "f".to_owned() },
        ..Default::default()
    };
    Body::Task(Box::new(packed::Task::new(&task, TaskPlace::Live)))
}

#[tokio::test]
async fn an_operator_that_does_not_read_is_cut_off_and_others_are_not() {
    let scene = Scene::new().await;
    let subscribe = r#"{"type":"SUBSCRIBE"}"#;
    let idle = open(scene.mesos(), "POST /api/v1", &[JSON], subscribe).await;
    let mut reader = open(scene.mesos(), "POST /api/v1", &[JSON], subscribe).await;
    let bytes = Cell::new(0);
    let read = async {
        while bytes.get() < 64 << 20 {
            bytes.set(bytes.get() + reader.next().await.expect("who reads is not cut off").len());
        }
    };
    let publish = async {
        for number in 0..16 {
            let revision = number + 2;
            scene.allocator.watch.publish(cluster_delta(revision, vec![large(number)]));
            // One by one: the allocator's own window is not what is tested.
            let shown = async || get(scene.mesos(), "/tasks?limit=0&task_id=0").await.status;
            assert_eq!(shown().await, 200);
            // Nor is how fast the reader is: it has what came before.
            while bytes.get() < number_of_bytes(number) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    };
    tokio::join!(read, publish);
    let gone = async {
        loop {
            let metrics = get(scene.mesos(), "/metrics/snapshot").await.json();
            if metrics["master/operator_event_stream_subscribers"] == 1.0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(SOON, gone).await.expect("the gateway gives the idle one up");
    drop((idle, reader));
    scene.stop().await;
}

#[tokio::test]
async fn bodies_are_packed_for_those_who_ask() {
    use std::io::{Read, Write};
    let scene = Scene::new().await;
    let gzip = ("accept-encoding", "gzip, deflate");
    for (address, path) in [(scene.mesos(), "/metrics/snapshot"), (scene.marathon(), "/v2/info")] {
        let packed = send(address, &format!("GET {path}"), &[gzip], "").await;
        assert_eq!((packed.status, packed.header("content-encoding")), (200, "gzip"));
        let mut text = String::new();
        flate2::read::GzDecoder::new(&packed.body[..]).read_to_string(&mut text).unwrap();
        assert!(serde_json::from_str::<serde_json::Value>(&text).unwrap().is_object());
        let plain = get(address, path).await;
        assert_eq!((plain.header("content-encoding"), plain.json().is_object()), ("", true));
    }
    let short = send(scene.mesos(), "GET /version", &[gzip], "").await;
    assert_eq!(short.header("content-encoding"), "");
    let stream = open(scene.mesos(), "POST /api/v1/scheduler", &[JSON, gzip], SUBSCRIBE).await;
    assert!(!stream.headers.contains_key("content-encoding"));
    drop(stream);

    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(br#"{"type":"GET_HEALTH"}"#).unwrap();
    let body = encoder.finish().unwrap();
    let head = format!(
        "POST /api/v1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let answer = raw(scene.mesos(), &[head.as_bytes(), &body].concat()).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(r#"{"healthy":true}}"#), "{answer}");
    scene.stop().await;
}

#[tokio::test]
async fn a_stop_ends_open_streams() {
    let scene = Scene::new().await;
    let mut stream = open(scene.mesos(), "POST /api/v1/scheduler", &[JSON], SUBSCRIBE).await;
    let idle = TcpStream::connect(scene.marathon()).await.unwrap();
    let stopped = scene.env.tasks.shutdown(Duration::from_secs(10));
    let (stopped, end) = tokio::join!(stopped, stream.next());
    assert!(stopped && end.is_none());
    drop(idle);
}
