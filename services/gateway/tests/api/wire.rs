//! What clients do to connections.

use std::time::Duration;

use meshos_proto::{
    meshos::allocator::v1::SubscribeResponse,
    mesos::v1::scheduler::{Event, event},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    client::{SOON, get, open},
    scene::Scene,
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
