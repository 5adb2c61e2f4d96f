//! Executors over HTTP, as their libraries speak it.

use std::time::Duration;

use meshos_proto::{
    meshos::allocator::v1::{FrameworkMessage, Kill, agent_message, allocator_message::Body},
    mesos::v1::{self as pb, TaskState},
};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    exchange::{Exchange, JSON},
    fakes::*,
};

struct Executor {
    address: std::net::SocketAddr,
    headers: String,
}

impl Executor {
    fn call(&self, kind: &str, more: Value) -> Value {
        let mut call = json!({
            "type": kind,
            "framework_id": {"value": "f-0000"},
            "executor_id": {"value": "e"},
        });
        call.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        call
    }

    async fn send(&self, kind: &str, more: Value) -> (u16, String) {
        let body = self.call(kind, more).to_string();
        Exchange::open(self.address, "/api/v1/executor", &self.headers, body.as_bytes()).await.text().await
    }

    async fn subscribe(&self, tasks: Value, updates: Value) -> Exchange {
        let subscribe = json!({"unacknowledged_tasks": tasks, "unacknowledged_updates": updates});
        let body = self.call("SUBSCRIBE", json!({ "subscribe": subscribe })).to_string();
        Exchange::open(self.address, "/slave(1)/api/v1/executor", &self.headers, body.as_bytes()).await
    }

    async fn update(&self, task: &str, state: &str, uuid: u8) -> (u16, String) {
        self.send("UPDATE", json!({"update": {"status": status(task, state, uuid)}})).await
    }
}

fn status(task: &str, state: &str, uuid: u8) -> Value {
    use base64::Engine;
    let uuid = base64::engine::general_purpose::STANDARD.encode([uuid; 16]);
    json!({"task_id": {"value": task}, "state": state, "source": "SOURCE_EXECUTOR", "uuid": uuid})
}

fn executor_task(id: &str) -> pb::TaskInfo {
    let command = pb::CommandInfo { value: Some("sleep forever".to_owned()), ..pb::CommandInfo::default() };
    let executor = pb::ExecutorInfo {
        executor_id: pb::ExecutorId { value: "e".to_owned() },
        command: Some(command),
        ..pb::ExecutorInfo::default()
    };
    pb::TaskInfo { command: None, executor: Some(executor), ..task(id, "") }
}

/// The environment of the executor's process, once it runs.
async fn environment(cluster: &Cluster) -> std::collections::BTreeMap<String, String> {
    loop {
        if let Some(spec) = cluster.containers.running().into_values().next() {
            return spec.environment;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn an_executor_serves_its_framework_over_restarts_of_the_agent() {
    let mut cluster = Cluster::new(None).await;
    let agent = cluster.agent().await;
    let mut link = cluster.link().await;
    link.launch(vec![executor_task("t")]).await;
    let env = environment(&cluster).await;
    assert_eq!(env["MESOS_AGENT_ENDPOINT"], agent.http_address().unwrap().to_string());
    assert!(!env.contains_key("MESOS_EXECUTOR_AUTHENTICATION_TOKEN"));
    let executor = Executor { address: agent.http_address().unwrap(), headers: JSON.to_owned() };
    let mut events = executor.subscribe(json!([]), json!([])).await;
    assert_eq!(events.status, 200);
    assert!(events.head.contains("content-type: application/json\r\n"), "{}", events.head);
    let subscribed = events.event().await;
    assert_eq!(subscribed["subscribed"]["executor_info"]["executor_id"], json!({"value": "e"}));
    assert_eq!(subscribed["subscribed"]["framework_info"]["id"], json!({"value": "f-0000"}));
    let launch = events.event().await;
    assert_eq!(
        (&launch["type"], &launch["launch"]["task"]["task_id"]["value"]),
        (&json!("LAUNCH"), &json!("t"))
    );
    assert_eq!(executor.update("t", "TASK_RUNNING", 1).await, (202, String::new()));
    let acknowledged = events.event().await;
    assert_eq!(acknowledged["acknowledged"]["uuid"], status("t", "", 1)["uuid"]);
    assert_eq!(link.until(TaskState::TaskRunning).await, [TaskState::TaskRunning]);

    let message = json!({"message": {"data": "aGVsbG8="}});
    assert_eq!(executor.send("MESSAGE", message.clone()).await.0, 202);
    let received = timeout(PATIENCE, link.messages.message()).await.unwrap().unwrap().unwrap();
    assert!(matches!(received.body, Some(agent_message::Body::FrameworkMessage(m)) if m.data == "hello"));
    link.command(Body::FrameworkMessage(FrameworkMessage {
        framework_id: Some(framework_id()),
        executor_id: Some(pb::ExecutorId { value: "e".to_owned() }),
        data: "back".into(),
    }))
    .await;
    assert_eq!(events.event().await["message"]["data"], "YmFjaw==");

    // The agent dies; the executor finishes one task meanwhile, and comes back with what was not acknowledged.
    agent.shutdown(true).await;
    assert!(events.chunk().await.is_none(), "the stream ends with the agent");
    let agent = cluster.agent().await;
    let mut link = cluster.link().await;
    assert_eq!(link.reregister.executors[0].executor_id.value, "e");
    assert_eq!(link.reregister.tasks[0].executor_id.as_ref().unwrap().value, "e");
    let executor = Executor { address: agent.http_address().unwrap(), ..executor };
    let unacknowledged = json!([{"status": status("t", "TASK_FINISHED", 2)}]);
    let mut events = executor.subscribe(json!([]), unacknowledged).await;
    assert_eq!(events.event().await["type"], "SUBSCRIBED");
    assert_eq!(events.event().await["type"], "ACKNOWLEDGED");
    link.until(TaskState::TaskFinished).await;

    // It goes on with another task, and is told to kill it.
    link.launch(vec![executor_task("u")]).await;
    assert_eq!(events.event().await["launch"]["task"]["task_id"]["value"], "u");
    assert_eq!(cluster.containers.launches(), 1, "it is the same process");
    let kill = Kill {
        framework_id: Some(framework_id()),
        task_id: Some(pb::TaskId { value: "u".to_owned() }),
        kill_policy: None,
    };
    link.command(Body::Kill(kill)).await;
    assert_eq!(events.event().await["kill"]["task_id"]["value"], "u");
    // It crashes instead.
    let container = cluster.containers.running().into_keys().next().unwrap();
    cluster.containers.end(&container, meshos_agent::containerizer::ExitStatus::Signal(11));
    let mut ended = None;
    let mut failed = None;
    while ended.is_none() || failed.is_none() {
        let message = timeout(PATIENCE, link.messages.message()).await.unwrap().unwrap().unwrap();
        match message.body.unwrap() {
            agent_message::Body::ExecutorEnded(it) => ended = Some(it),
            agent_message::Body::Update(update) => failed = update.status,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(failed.unwrap().reason(), pb::task_status::Reason::ExecutorTerminated);
    assert_eq!(ended.unwrap().wait_status, 11);
    agent.shutdown(false).await;
    cluster.end().await;
}

#[tokio::test]
async fn calls_that_do_not_fit_are_refused_with_the_words_of_mesos() {
    let mut cluster = Cluster::new(None).await;
    let agent = cluster.agent().await;
    let address = agent.http_address().unwrap();
    let link = cluster.link().await;
    let post = async |headers: &str, body: &str| {
        Exchange::open(address, "/api/v1/executor", headers, body.as_bytes()).await.text().await
    };
    assert_eq!(post("", "{}").await, (400, "Expecting 'Content-Type' to be present".to_owned()));
    assert_eq!(post("Content-Type: text/plain\r\n", "{}").await.0, 415);
    assert!(post(JSON, "{").await.1.starts_with("Failed to parse body into JSON: "));
    assert!(
        post(JSON, "{}")
            .await
            .1
            .starts_with("Failed to convert JSON into Call protobuf: Missing required fields")
    );
    let executor = Executor { address, headers: JSON.to_owned() };
    assert_eq!(executor.send("HEARTBEAT", json!({})).await, (400, "Framework cannot be found".to_owned()));
    link.launch(vec![executor_task("t")]).await;
    environment(&cluster).await;
    assert_eq!(executor.send("HEARTBEAT", json!({})).await, (403, "Executor is not subscribed".to_owned()));
    let text = "Failed to validate Executor::Call: Expecting 'update' to be present";
    assert_eq!(executor.send("UPDATE", json!({})).await, (400, text.to_owned()));
    assert_eq!(executor.send("UNKNOWN", json!({})).await.0, 501);
    let html = Executor { address, headers: JSON.replace("Accept: application/json", "Accept: text/html") };
    assert_eq!(html.subscribe(json!([]), json!([])).await.status, 406);
    let (status, body) = get(&agent, "/api/v1/executor").await;
    assert_eq!(status, 405);
    assert_eq!(body, "405 Method Not Allowed. Expecting one of { 'POST' }, but received 'GET'.");
    agent.shutdown(false).await;
    cluster.end().await;
}

#[tokio::test]
async fn executors_prove_who_they_are_where_that_is_asked_for() {
    let mut cluster = Cluster::new(None).await;
    let key = cluster.dir.path().join("key");
    std::fs::write(&key, "a long random text").unwrap();
    let config = meshos_agent::Config {
        authenticate_http_executors: true,
        jwt_secret_key: Some(key),
        ..cluster.config()
    };
    let agent = cluster.agent_with(config).await;
    let address = agent.http_address().unwrap();
    let link = cluster.link().await;
    link.launch(vec![executor_task("t")]).await;
    let token = environment(&cluster).await["MESOS_EXECUTOR_AUTHENTICATION_TOKEN"].clone();
    let nobody = Executor { address, headers: JSON.to_owned() };
    let refused = nobody.subscribe(json!([]), json!([])).await;
    assert_eq!(refused.status, 401);
    assert!(
        refused.head.contains("www-authenticate: Bearer realm=\"mesos-agent-executor\""),
        "{}",
        refused.head
    );
    let with =
        |token: &str| Executor { address, headers: format!("{JSON}Authorization: Bearer {token}\r\n") };
    assert_eq!(with("x.y.z").subscribe(json!([]), json!([])).await.status, 401);
    let mut events = with(&token).subscribe(json!([]), json!([])).await;
    assert_eq!((events.status, events.event().await["type"].clone()), (200, json!("SUBSCRIBED")));
    // A token is good for one run of one executor.
    agent.shutdown(false).await;
    cluster.end().await;
}

#[tokio::test]
async fn protobuf_speaks_the_same() {
    use meshos_proto::mesos::v1::executor::{Call, Event, call};
    use prost::Message;
    let mut cluster = Cluster::new(None).await;
    let agent = cluster.agent().await;
    let link = cluster.link().await;
    link.launch(vec![executor_task("t")]).await;
    environment(&cluster).await;
    let call = Call {
        executor_id: pb::ExecutorId { value: "e".to_owned() },
        framework_id: framework_id(),
        r#type: Some(call::Type::Subscribe as i32),
        subscribe: Some(call::Subscribe::default()),
        ..Call::default()
    };
    let headers = "Content-Type: application/x-protobuf\r\nAccept: application/x-protobuf\r\n";
    let address = agent.http_address().unwrap();
    let mut events = Exchange::open(address, "/api/v1/executor", headers, &call.encode_to_vec()).await;
    assert!(events.head.contains("content-type: application/x-protobuf\r\n"));
    let record = loop {
        match events.decoder.next().unwrap() {
            Some(record) => break record,
            None => {
                let chunk = events.chunk().await.unwrap();
                events.decoder.push(&chunk);
            }
        }
    };
    let event = Event::decode(record).unwrap();
    assert_eq!(event.subscribed.unwrap().framework_info.id, Some(framework_id()));
    agent.shutdown(false).await;
    cluster.end().await;
}
