//! What of a task's files shows while they are fetched, and the logs of agent and master as files.

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    thread,
};

use meshos_testing::Http;
use serde_json::json;

use crate::support::{Framework, cluster, eventually, info, task};

/// A web server that answers once it is told to; its address.
fn slow_web() -> (String, mpsc::Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let (mut stream, _): (TcpStream, _) = listener.accept().unwrap();
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).unwrap();
        let _ = told.recv();
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
        stream.write_all(answer.as_bytes()).unwrap();
    });
    (address, tell)
}

#[test]
fn a_task_whose_files_are_on_their_way_is_staging_and_waits_with_its_executor() {
    let dir = tempfile::tempdir().unwrap();
    let (web, answer) = slow_web();
    let meshos = cluster(dir.path(), "cpus:1").start();
    let mut framework = Framework::subscribe(&meshos.mesos, &info(json!({})));
    let offer = framework.offer();
    let mut fetching = task(&offer, "slow", "cat hello; sleep 1000");
    fetching["command"]["uris"] = json!([{"value": format!("{web}/hello")}]);
    framework.launch(&offer, &[fetching]);
    let executor = eventually("the agent has the task", || {
        let state = meshos.agents[0].get("/state").unwrap().json();
        let executor = state["frameworks"][0]["executors"][0].clone();
        if executor.is_object() { Ok(executor) } else { Err(state["frameworks"].clone()) }
    });
    assert_eq!((&executor["tasks"], &executor["queued_tasks"][0]["id"]), (&json!([]), &json!("slow")));
    assert_eq!(executor["queued_tasks"][0]["command"]["value"], "cat hello; sleep 1000");
    let metrics = meshos.agents[0].get("/metrics/snapshot").unwrap().json();
    assert_eq!(
        (&metrics["slave/tasks_staging"], &metrics["slave/tasks_running"]),
        (&json!(1.0), &json!(0.0))
    );
    let call = json!({"type": "GET_TASKS"});
    let tasks = meshos.agents[0].json("POST", "/api/v1", &call).unwrap().json();
    assert_eq!(tasks["get_tasks"]["queued_tasks"][0]["task_id"]["value"], "slow", "{tasks}");
    let tasks = meshos.mesos.get("/tasks").unwrap().json();
    assert_eq!(tasks["tasks"][0]["state"], "TASK_STAGING");
    answer.send(()).unwrap();
    let states = [framework.acked(), framework.acked()].map(|status| status["state"].clone());
    assert_eq!(states, ["TASK_STARTING", "TASK_RUNNING"]);
    let metrics = meshos.agents[0].get("/metrics/snapshot").unwrap().json();
    assert_eq!(metrics["containerizer/fetcher/task_fetches_succeeded"], 1.0);
    framework.kill("slow");
    framework.until("slow", "TASK_KILLED");
}

/// What a file of the files API begins with.
fn begin(http: &Http, path: &str) -> String {
    let read = http.get(&format!("/files/read?path={path}&offset=0&length=100000")).unwrap();
    assert_eq!(read.status, 200, "{path}");
    read.json()["data"].as_str().unwrap().to_owned()
}

#[test]
fn the_logs_of_master_and_agent_are_files() {
    let dir = tempfile::tempdir().unwrap();
    let logs = dir.path().join("logs");
    let flags = ["--log_dir", logs.to_str().unwrap()];
    let meshos = cluster(dir.path(), "cpus:1").with(&flags).start();
    let file = logs.join("meshos.log").display().to_string();
    for (http, name) in [(&meshos.mesos, "/master/log"), (&meshos.agents[0], "/slave/log")] {
        assert!(begin(http, name).contains("agent started"), "{name}");
        assert_eq!(http.get("/files/debug").unwrap().json()[name], file);
        assert_eq!(http.get("/state").unwrap().json()["log_dir"], logs.display().to_string());
        assert_eq!(http.get("/flags").unwrap().json()["flags"]["log_dir"], logs.display().to_string());
        assert_eq!(http.get(&format!("/files/browse?path={name}")).unwrap().json(), json!([]));
        let whole = http.get(&format!("/files/download?path={name}")).unwrap();
        assert!(whole.status == 200 && whole.text().contains("agent started"), "{name}");
        let call = json!({"type": "READ_FILE", "read_file": {"path": name, "offset": 0, "length": 10}});
        let read = http.json("POST", "/api/v1", &call).unwrap().json();
        assert_eq!(read["read_file"]["data"].as_str().map(str::len), Some(16), "ten bytes in base64: {read}");
        let call = json!({"type": "LIST_FILES", "list_files": {"path": name}});
        assert_eq!(http.json("POST", "/api/v1", &call).unwrap().json()["list_files"], json!({}));
        assert_eq!(http.get(&format!("/files/read?path={name}/x")).unwrap().status, 404);
    }
    assert_eq!(meshos.mesos.get("/files/read?path=/etc/passwd").unwrap().status, 404);
}
