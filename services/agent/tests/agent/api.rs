//! `POST /api/v1` and what else is read of an agent, with simulated containers.

use meshos_agent::Config;
use meshos_proto::mesos::v1::{self as pb, TaskState};
use serde_json::{Value, json};

use crate::{
    exchange::{Exchange, JSON},
    fakes::*,
};

async fn post(agent: &meshos_agent::Handle, headers: &str, call: &Value) -> (u16, String) {
    let body = call.to_string();
    let address = agent.http_address().unwrap();
    Exchange::open(address, "/api/v1", headers, body.as_bytes()).await.text().await
}

async fn ask(agent: &meshos_agent::Handle, call: Value) -> Value {
    let (status, body) = post(agent, JSON, &call).await;
    assert_eq!(status, 200, "{call}: {body}");
    serde_json::from_str(&body).unwrap()
}

fn group(ids: &[&str]) -> (Vec<pb::TaskInfo>, pb::ExecutorInfo) {
    let executor = pb::ExecutorInfo {
        r#type: Some(pb::executor_info::Type::Default as i32),
        executor_id: pb::ExecutorId { value: "pod".to_owned() },
        name: Some("a pod".to_owned()),
        ..pb::ExecutorInfo::default()
    };
    (ids.iter().map(|id| task(id, "sleep forever")).collect(), executor)
}

/// Field names with their types, all the way down; of a list, of its first element.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(object) => object
            .iter()
            .map(|(name, value)| (name.clone(), shape(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Array(list) => list.first().map_or(json!([]), |first| json!([shape(first)])),
        Value::String(_) => json!("text"),
        Value::Number(_) => json!(0),
        Value::Bool(_) => json!(true),
        Value::Null => Value::Null,
    }
}

#[tokio::test]
async fn the_operator_api_tells_of_the_agent_and_what_it_runs() {
    let mut cluster = Cluster::new(None).await;
    let agent = cluster.agent().await;
    let mut link = cluster.link().await;
    let empty = ask(&agent, json!({"type": "GET_CONTAINERS"})).await;
    assert_eq!(empty, json!({"type": "GET_CONTAINERS"}), "the part is left out when there is none");
    let tasks = ask(&agent, json!({"type": "GET_TASKS"})).await;
    assert_eq!(tasks["get_tasks"]["launched_tasks"], json!([]), "lists are there, though empty");
    let (tasks, executor) = group(&["a", "b"]);
    link.launch_group(tasks, executor).await;
    for _ in 0..2 {
        link.until(TaskState::TaskRunning).await;
    }
    link.launch(vec![task("alone", "sleep forever")]).await;
    link.until(TaskState::TaskRunning).await;

    assert_eq!(ask(&agent, json!({"type": "GET_HEALTH"})).await["get_health"], json!({"healthy": true}));
    assert_eq!(
        ask(&agent, json!({"type": "GET_VERSION"})).await["get_version"]["version_info"]["version"],
        "1.12.0"
    );
    let flags = ask(&agent, json!({"type": "GET_FLAGS"})).await;
    assert!(flags["get_flags"]["flags"].as_array().unwrap().contains(&json!({"name": "port", "value": "0"})));
    let metrics = ask(&agent, json!({"type": "GET_METRICS", "get_metrics": {}})).await;
    let running = json!({"name": "slave/tasks_running", "value": 3.0});
    assert!(metrics["get_metrics"]["metrics"].as_array().unwrap().contains(&running));
    let info = ask(&agent, json!({"type": "GET_AGENT"})).await;
    assert_eq!(info["get_agent"]["agent_info"]["id"]["value"], AGENT);
    assert_eq!(ask(&agent, json!({"type": "GET_OPERATIONS"})).await["get_operations"], json!({}));

    let state = ask(&agent, json!({"type": "GET_STATE"})).await["get_state"].clone();
    assert_eq!(state["get_tasks"]["launched_tasks"].as_array().unwrap().len(), 3);
    let names = |list: &Value| -> Vec<String> {
        let ids = list.as_array().unwrap().iter();
        ids.map(|e| e["executor_info"]["executor_id"]["value"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&state["get_executors"]["executors"]), ["pod", "alone"]);
    assert_eq!(state["get_frameworks"]["frameworks"][0]["framework_info"]["name"], "test");

    let containers = ask(&agent, json!({"type": "GET_CONTAINERS"})).await;
    assert_eq!(containers["get_containers"]["containers"].as_array().unwrap().len(), 2);
    let nested = json!({"type": "GET_CONTAINERS", "get_containers": {"show_nested": true}});
    let nested = ask(&agent, nested).await["get_containers"]["containers"].clone();
    let member = nested.as_array().unwrap().last().unwrap();
    assert!(
        member.get("framework_id").is_none() && member["container_id"].get("parent").is_none(),
        "{member}"
    );
    assert!(member["container_status"]["container_id"]["parent"]["value"].is_string(), "{member}");
    // As a real agent answered.
    let golden = |name: &str| -> Value {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        serde_json::from_str(&std::fs::read_to_string(dir.join(name)).unwrap()).unwrap()
    };
    let alone = nested.as_array().unwrap().iter().find(|c| c["executor_id"]["value"] == "alone").unwrap();
    let mut want = shape(&golden("agent_v1_GET_CONTAINERS.json")["get_containers"]["containers"][0]);
    want["resource_statistics"]["processes"] = json!(0);
    assert_eq!(shape(alone), want);

    let shown = get_json(&agent, "/state").await["frameworks"][0]["executors"].clone();
    let pod = shown.as_array().unwrap().iter().find(|executor| executor["id"] == "pod").unwrap();
    assert_eq!((&pod["type"], pod["tasks"].as_array().unwrap().len()), (&json!("DEFAULT"), 2));
    assert_eq!(pod["tasks"][0]["executor_id"], "pod");
    let all = get_json(&agent, "/containers").await;
    assert_eq!(all.as_array().unwrap().len(), 2);
    let directory = pod["directory"].as_str().unwrap();
    assert!(get_json(&agent, "/files/debug").await.get(directory).is_some());
    agent.shutdown(false).await;
    cluster.end().await;
}

#[tokio::test]
async fn files_are_listed_and_read_through_the_operator_api() {
    let mut cluster = Cluster::new(None).await;
    // As on a full disk: what is taken for a sandbox of the past goes at once.
    let agent = cluster.agent_with(Config { gc_disk_headroom: 1.0, ..cluster.config() }).await;
    let mut link = cluster.link().await;
    link.launch(vec![task("t", "sleep forever")]).await;
    link.until(TaskState::TaskRunning).await;
    let sandbox = cluster.containers.running().into_values().next().unwrap().sandbox;
    std::fs::create_dir_all(&sandbox).unwrap();
    std::fs::write(sandbox.join("stdout"), "hello\n").unwrap();
    let path = |name: &str| sandbox.join(name).display().to_string();
    let listed = ask(&agent, json!({"type": "LIST_FILES", "list_files": {"path": path("")}})).await;
    let file = &listed["list_files"]["file_infos"][0];
    assert_eq!((file["path"].as_str().unwrap(), &file["size"]), (path("stdout").as_str(), &json!(6)));
    let read =
        |offset: u64| json!({"type": "READ_FILE", "read_file": {"path": path("stdout"), "offset": offset}});
    assert_eq!(ask(&agent, read(0)).await["read_file"], json!({"size": 6, "data": "aGVsbG8K"}));
    assert_eq!(ask(&agent, read(9)).await["read_file"], json!({"size": 6, "data": ""}));
    let none = json!({"type": "LIST_FILES", "list_files": {"path": "/etc"}});
    assert_eq!(post(&agent, JSON, &none).await, (404, String::new()));
    agent.shutdown(false).await;
    cluster.end().await;
}

#[tokio::test]
async fn containers_are_launched_waited_for_killed_and_removed() {
    let mut cluster = Cluster::new(None).await;
    let agent = cluster.agent().await;
    let mut link = cluster.link().await;
    link.launch(vec![task("t", "sleep forever")]).await;
    link.until(TaskState::TaskRunning).await;
    let parent = cluster.containers.running().into_keys().next().unwrap();
    let id = json!({"value": "n", "parent": {"value": parent}});
    let call = |kind: &str, part: Value| {
        let mut part = part;
        part["container_id"] = id.clone();
        json!({"type": kind, kind.to_lowercase(): part})
    };
    let launch = call("LAUNCH_CONTAINER", json!({"command": {"value": "sleep forever"}}));
    assert_eq!(post(&agent, JSON, &launch).await, (200, String::new()));
    assert_eq!(post(&agent, JSON, &launch).await, (202, String::new()), "it is there already");
    let (status, text) = post(&agent, JSON, &call("REMOVE_CONTAINER", json!({}))).await;
    assert_eq!((status, text.contains("has not terminated yet")), (500, true), "{text}");
    let waiting = call("WAIT_CONTAINER", json!({}));
    let kill = call("KILL_CONTAINER", json!({"signal": 15}));
    let (waited, killed) = tokio::join!(ask(&agent, waiting.clone()), post(&agent, JSON, &kill));
    assert_eq!(killed, (200, String::new()));
    assert_eq!(waited, json!({"type": "WAIT_CONTAINER", "wait_container": {"exit_status": 15}}));
    assert_eq!(
        ask(&agent, waiting.clone()).await["wait_container"]["exit_status"],
        15,
        "as often as one asks"
    );
    let (status, text) = post(&agent, JSON, &kill).await;
    let want = format!("Container '{parent}.n' cannot be found (or is already killed)");
    assert_eq!((status, text), (404, want));
    assert_eq!(post(&agent, JSON, &call("REMOVE_CONTAINER", json!({}))).await.0, 200);
    assert_eq!(post(&agent, JSON, &waiting).await, (404, format!("Container '{parent}.n' cannot be found")));
    let unknown = json!({"type": "REMOVE_CONTAINER", "remove_container": {"container_id": {"value": "x"}}});
    assert_eq!(post(&agent, JSON, &unknown).await, (500, "Unknown root container".to_owned()));
    let image =
        json!({"command": {"value": "true"}, "container": {"type": "DOCKER", "docker": {"image": "x"}}});
    let refused = post(&agent, JSON, &call("LAUNCH_CONTAINER", image)).await;
    assert!(refused.0 == 400 && refused.1.contains("'ContainerInfo.type' must be MESOS"), "{refused:?}");
    agent.shutdown(false).await;
    cluster.end().await;
}

#[tokio::test]
async fn mesos_c77_calls_that_do_not_fit_are_refused_with_the_words_of_mesos() {
    let cluster = Cluster::new(None).await;
    let agent = cluster.agent().await;
    let input = json!({"type": "ATTACH_CONTAINER_INPUT", "attach_container_input": {
        "type": "CONTAINER_ID", "container_id": {"value": "x"}}});
    let (status, text) = post(&agent, JSON, &input).await;
    let want = "Expecting 'Content-Type' to be application/recordio for ATTACH_CONTAINER_INPUT call";
    assert_eq!((status, text.as_str()), (415, want));
    let record = input.to_string();
    let record = format!("{}\n{record}", record.len());
    let headers = "Content-Type: application/recordio\r\nMessage-Content-Type: application/json\r\n";
    let address = agent.http_address().unwrap();
    let unknown = Exchange::open(address, "/api/v1", headers, record.as_bytes()).await.text().await;
    assert_eq!(unknown, (404, "Container 'x' cannot be found".to_owned()));
    let (status, text) = post(&agent, JSON, &json!({"type": "KILL_CONTAINER"})).await;
    let want = "Failed to validate agent::Call: Expecting 'kill_container' to be present";
    assert_eq!((status, text.as_str()), (400, want));
    assert_eq!(post(&agent, "", &json!({})).await.0, 400);
    assert_eq!(post(&agent, JSON, &json!({"type": "UNKNOWN"})).await.0, 501);
    assert_eq!(post(&agent, JSON, &json!({"type": "PRUNE_IMAGES"})).await.0, 200);
    let stream = JSON.replace(
        "Accept: application/json",
        "Accept: application/recordio\r\nMessage-Accept: application/json",
    );
    assert_eq!(post(&agent, &stream, &json!({"type": "GET_STATE"})).await.0, 406);
    let (status, text) = get(&agent, "/api/v1").await;
    assert_eq!((status, text.contains("'POST'")), (405, true));
    agent.shutdown(false).await;
    cluster.end().await;
}

#[tokio::test]
async fn the_level_of_logging_and_help_are_there() {
    let cluster = Cluster::new(None).await;
    let agent = cluster.agent().await;
    assert_eq!(get(&agent, "/logging/toggle").await, (200, "0\n".to_owned()));
    assert_eq!(get(&agent, "/logging/toggle?level=2&duration=1hrs").await, (200, String::new()));
    let level = ask(&agent, json!({"type": "GET_LOGGING_LEVEL"})).await;
    assert_eq!(level["get_logging_level"], json!({"level": 2}));
    let set = json!({"type": "SET_LOGGING_LEVEL", "set_logging_level": {"level": 1, "duration": {"nanoseconds": 60_000_000_000_u64}}});
    assert_eq!(post(&agent, JSON, &set).await, (200, String::new()));
    assert_eq!(get(&agent, "/logging/toggle").await.1, "1\n");
    assert_eq!(get(&agent, "/logging/toggle?level=1").await.0, 400);
    let (status, text) = get(&agent, "/help").await;
    assert!(status == 200 && text.contains("[slave(1)]: help/slave(1)"), "{text}");
    assert!(get(&agent, "/help/slave(1)").await.1.contains("/slave(1)/state"));
    assert_eq!(get(&agent, "/help/nobody").await.0, 404);
    agent.shutdown(false).await;
    cluster.end().await;
}
