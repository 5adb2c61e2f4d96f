//! Containers below a task's, and what is attached to them: lines 76 and 77.

use base64::Engine as _;
use meshos_testing::{EventStream, Http, Local, Response, wait::PATIENCE};
use serde_json::{Value, json};

use crate::support::{Framework, JSON, cluster, eventually, info, task};

const ACCEPT: (&str, &str) = ("Accept", "application/recordio");
const MESSAGE_ACCEPT: (&str, &str) = ("Message-Accept", "application/json");

pub(crate) fn encode(text: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// A cluster with a task that sleeps, and its container.
fn with_task(dir: &std::path::Path) -> (Local, Framework, String) {
    let meshos = cluster(dir, "cpus:1").start();
    let mut framework = Framework::subscribe(&meshos.mesos, &info(json!({})));
    let offer = framework.offer();
    framework.launch(&offer, &[task(&offer, "t", "echo inside > file; sleep 1000")]);
    let running = framework.until("t", "TASK_RUNNING");
    let container = running["container_status"]["container_id"]["value"].as_str().unwrap().to_owned();
    (meshos, framework, container)
}

fn call(kind: &str, part: Value) -> Value {
    json!({"type": kind, kind.to_lowercase(): part})
}

pub(crate) fn post(agent: &Http, kind: &str, part: Value) -> Response {
    agent.json("POST", "/api/v1", &call(kind, part)).unwrap()
}

pub(crate) fn session(agent: &Http, id: &Value, command: &str, container: Value) -> EventStream {
    let mut part = json!({"container_id": id, "command": {"value": command}});
    if !container.is_null() {
        part["container"] = container;
    }
    let body = call("LAUNCH_NESTED_CONTAINER_SESSION", part).to_string();
    let stream =
        EventStream::open(agent, ("POST", "/api/v1"), &[JSON, ACCEPT, MESSAGE_ACCEPT], body.as_bytes());
    let stream = stream.unwrap();
    assert_eq!((stream.status, stream.header("content-type")), (200, Some("application/recordio")));
    stream
}

/// What a container wrote to this stream, until `text` is in it or it ends.
pub(crate) fn read_until(stream: &mut EventStream, kind: &str, text: &str) -> String {
    let mut said = String::new();
    // Heartbeats come for ever.
    let ends = tokio::time::Instant::now() + PATIENCE;
    while !said.contains(text) || text.is_empty() {
        let left = ends - tokio::time::Instant::now();
        let Some(event) = stream.event(left).unwrap() else { break };
        if event["type"] == "DATA" && event["data"]["type"] == kind {
            let data = event["data"]["data"].as_str().unwrap();
            let bytes = base64::engine::general_purpose::STANDARD.decode(data).unwrap();
            said.push_str(&String::from_utf8_lossy(&bytes));
        }
    }
    said
}

/// Sends records to a container's input; the whole answer.
fn send_input(agent: &Http, id: &Value, pieces: &[Value]) -> Response {
    let mut body = String::new();
    let first = json!({"type": "CONTAINER_ID", "container_id": id});
    let rest = pieces.iter().map(|io| json!({"type": "PROCESS_IO", "process_io": io}));
    for part in std::iter::once(first).chain(rest) {
        let record = call("ATTACH_CONTAINER_INPUT", part).to_string();
        body.push_str(&format!("{}\n{record}", record.len()));
    }
    let headers = [("Content-Type", "application/recordio"), ("Message-Content-Type", "application/json")];
    agent.send("POST", "/api/v1", &headers, body.as_bytes()).unwrap()
}

fn stdin(text: &str) -> Value {
    json!({"type": "DATA", "data": {"type": "STDIN", "data": encode(text)}})
}

#[test]
fn a_session_runs_beside_its_task_and_tells_how_it_ended() {
    let dir = tempfile::tempdir().unwrap();
    let (meshos, _framework, parent) = with_task(dir.path());
    let agent = &meshos.agents[0];
    let id = json!({"value": "looking", "parent": {"value": parent}});
    // A shell that runs has not written its file yet.
    let command =
        "until [ -s file ]; do sleep 0.01; done; cat file; read line; echo got $line; echo oops >&2; exit 7";
    let mut stream = session(agent, &id, command, Value::Null);
    assert_eq!(read_until(&mut stream, "STDOUT", "inside\n"), "inside\n", "it begins in the task's sandbox");
    assert_eq!(send_input(agent, &id, &[stdin("hello\n")]).status, 200);
    assert_eq!(read_until(&mut stream, "STDOUT", ""), "got hello\n");
    let ended = post(agent, "WAIT_NESTED_CONTAINER", json!({"container_id": id})).json();
    assert_eq!(ended["wait_nested_container"]["exit_status"], 7 << 8);
    let other = json!({"value": "errors", "parent": {"value": parent}});
    let mut stream = session(agent, &other, "echo oops >&2", Value::Null);
    assert_eq!(read_until(&mut stream, "STDERR", ""), "oops\n");
    // Input that ends, as `cat` waits for.
    let cat = json!({"value": "cat", "parent": {"value": parent}});
    let mut stream = session(agent, &cat, "cat; echo end", Value::Null);
    assert_eq!(send_input(agent, &cat, &[stdin("a\n"), stdin("")]).status, 200);
    assert_eq!(read_until(&mut stream, "STDOUT", ""), "a\nend\n");
    assert!(meshos.terminate().success());
}

#[test]
fn mesos_c76_a_session_is_killed_when_its_client_goes() {
    let dir = tempfile::tempdir().unwrap();
    let (meshos, _framework, parent) = with_task(dir.path());
    let agent = &meshos.agents[0];
    let id = json!({"value": "left", "parent": {"value": parent}});
    let mut stream = session(agent, &id, "echo $$; exec sleep 1000", Value::Null);
    let pid = read_until(&mut stream, "STDOUT", "\n");
    let process = format!("/proc/{}", pid.trim());
    assert!(std::path::Path::new(&process).exists());
    drop(stream);
    eventually("the container is killed", || {
        let ended = post(agent, "WAIT_NESTED_CONTAINER", json!({"container_id": id})).json();
        if ended["wait_nested_container"]["exit_status"] == 9 { Ok(()) } else { Err(ended) }
    });
    assert!(!std::path::Path::new(&process).exists());
    assert!(meshos.terminate().success());
}

#[test]
fn a_terminal_has_a_size_an_end_and_further_readers() {
    let dir = tempfile::tempdir().unwrap();
    let (meshos, _framework, parent) = with_task(dir.path());
    let agent = &meshos.agents[0];
    let id = json!({"value": "tty", "parent": {"value": parent}});
    let tty = json!({"type": "MESOS", "tty_info": {"window_size": {"rows": 33, "columns": 101}}});
    let mut stream = session(agent, &id, "stty size; tty; read go; stty size; cat", tty);
    let said = read_until(&mut stream, "STDOUT", "/dev/pts/");
    assert!(said.contains("33 101\r\n"), "{said}");
    let attach = call("ATTACH_CONTAINER_OUTPUT", json!({"container_id": id})).to_string();
    let mut other = EventStream::open(agent, ("POST", "/api/v1"), &[JSON], attach.as_bytes()).unwrap();
    assert_eq!((other.status, other.header("content-type")), (200, Some("application/json")));
    let size = json!({"type": "CONTROL", "control": {"type": "TTY_INFO",
        "tty_info": {"window_size": {"rows": 40, "columns": 120}}}});
    let beat = json!({"type": "CONTROL", "control": {"type": "HEARTBEAT", "heartbeat": {}}});
    assert_eq!(send_input(agent, &id, &[size, beat, stdin("\n")]).status, 200);
    for stream in [&mut stream, &mut other] {
        let said = read_until(stream, "STDOUT", "40 120\r\n");
        assert!(said.contains("40 120\r\n"), "{said}");
    }
    // The end of input ends `cat`, and with it the container.
    assert_eq!(send_input(agent, &id, &[stdin("")]).status, 200);
    read_until(&mut stream, "STDOUT", "");
    let ended = post(agent, "WAIT_NESTED_CONTAINER", json!({"container_id": id})).json();
    assert_eq!(ended["wait_nested_container"]["exit_status"], 0);
    assert_eq!(send_input(agent, &id, &[stdin("late")]).status, 404);
    assert!(meshos.terminate().success());
}

#[test]
fn mesos_c77_input_of_another_media_type_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let meshos = cluster(dir.path(), "cpus:1").start();
    let part = json!({"type": "CONTAINER_ID", "container_id": {"value": "x"}});
    let refused = post(&meshos.agents[0], "ATTACH_CONTAINER_INPUT", part);
    let text = "Expecting 'Content-Type' to be application/recordio for ATTACH_CONTAINER_INPUT call";
    assert_eq!((refused.status, refused.text().as_str()), (415, text));
    assert!(meshos.terminate().success());
}

#[test]
fn a_container_of_its_own_outlives_the_agent() {
    let dir = tempfile::tempdir().unwrap();
    let local = cluster(dir.path(), "cpus:1");
    let meshos = local.start();
    let id = json!({"value": "alone"});
    let launch = json!({"container_id": id, "command": {"value": "sleep 1; exit 5"}});
    assert_eq!(post(&meshos.agents[0], "LAUNCH_CONTAINER", launch.clone()).status, 200);
    assert_eq!(post(&meshos.agents[0], "LAUNCH_CONTAINER", launch).status, 202);
    meshos.kill_9();
    let meshos = local.start();
    let agent = &meshos.agents[0];
    let ended = post(agent, "WAIT_CONTAINER", json!({"container_id": id})).json();
    assert_eq!(ended["wait_container"]["exit_status"], 5 << 8);
    assert_eq!(post(agent, "REMOVE_CONTAINER", json!({"container_id": id})).status, 200);
    assert_eq!(post(agent, "WAIT_CONTAINER", json!({"container_id": id})).status, 404);
    assert!(meshos.terminate().success());
}
