//! Event streams of operators.

use meshos_gateway::Config;
use meshos_proto::{
    meshos::allocator::v1::{self as allocator, TaskKey, TaskPlace, change::Body},
    mesos::v1::{AgentId, FrameworkId, Task, TaskId, TaskState, TaskStatus, master},
    packed,
    recordio::Decoder,
};
use serde_json::{Value, json};

use crate::{
    client::{Stream, get, open, post},
    operator::{agent, see_agent},
    scene::{Scene, cluster_delta, cluster_snapshot},
};

const JSON: (&str, &str) = ("content-type", "application/json");
const OPERATOR: &str = "POST /api/v1";

/// Records of an event stream.
struct Records {
    stream: Stream,
    decoder: Decoder,
}

impl Records {
    async fn open(scene: &Scene, headers: &[(&str, &str)]) -> Self {
        let stream = open(scene.mesos(), OPERATOR, headers, r#"{"type":"SUBSCRIBE"}"#).await;
        assert_eq!((stream.status, &stream.headers["transfer-encoding"]), (200, &"chunked".parse().unwrap()));
        Self { stream, decoder: Decoder::new(1 << 24) }
    }

    async fn raw(&mut self) -> Option<bytes::Bytes> {
        loop {
            if let Some(record) = self.decoder.next().unwrap() {
                return Some(record);
            }
            self.decoder.push(&self.stream.next().await?);
        }
    }

    async fn next(&mut self) -> Value {
        serde_json::from_slice(&self.raw().await.expect("the stream goes on")).unwrap()
    }
}

fn task(state: TaskState, statuses: Vec<TaskState>) -> Task {
    let status = |state: TaskState| TaskStatus { state: state as i32, ..Default::default() };
    Task {
        name: "n".to_owned(),
        task_id: TaskId { value: "t".to_owned() },
        framework_id: FrameworkId { value: "f".to_owned() },
        agent_id: AgentId { value: "a".to_owned() },
        state: state as i32,
        statuses: statuses.into_iter().map(status).collect(),
        ..Default::default()
    }
}

fn at(place: TaskPlace, task: Task) -> Body {
    Body::Task(Box::new(packed::Task::new(&task, place)))
}

#[tokio::test]
async fn mesos_c72_the_stream_begins_with_the_state_and_goes_on_without_a_gap() {
    let scene = Scene::new().await;
    let mut records = Records::open(&scene, &[JSON]).await;
    let first = records.next().await;
    assert_eq!(first["type"], "SUBSCRIBED");
    assert_eq!(first["subscribed"]["heartbeat_interval_seconds"], 15.0);
    assert_eq!(first["subscribed"]["get_state"]["get_agents"]["agents"], json!([]));
    assert_eq!(records.next().await, json!({"type": "HEARTBEAT"}));

    use TaskState::{TaskFinished, TaskRunning, TaskStaging};
    let publish = |revision, changes| scene.allocator.watch.publish(cluster_delta(revision, changes));
    publish(2, vec![Body::Agent(agent(4.0)), at(TaskPlace::Live, task(TaskStaging, vec![]))]);
    publish(3, vec![at(TaskPlace::Live, task(TaskRunning, vec![TaskRunning]))]);
    let place = TaskPlace::Live as i32;
    let key = TaskKey { framework_id: "f".to_owned(), task_id: "t".to_owned(), place };
    let done = task(TaskFinished, vec![TaskRunning, TaskFinished]);
    publish(4, vec![Body::TaskRemoved(key), at(TaskPlace::Completed, done)]);
    publish(5, vec![Body::AgentRemoved("a".to_owned())]);

    let added = records.next().await;
    assert_eq!(added["agent_added"]["agent"]["agent_info"]["id"], json!({"value": "a"}));
    let added = records.next().await;
    assert_eq!(
        (added["type"].as_str(), &added["task_added"]["task"]["state"]),
        (Some("TASK_ADDED"), &json!("TASK_STAGING"))
    );
    for state in ["TASK_RUNNING", "TASK_FINISHED"] {
        let updated = records.next().await;
        assert_eq!(updated["type"], "TASK_UPDATED");
        assert_eq!(updated["task_updated"]["framework_id"], json!({"value": "f"}));
        assert_eq!(updated["task_updated"]["status"]["state"], state);
        assert_eq!(updated["task_updated"]["state"], state);
    }
    let removed = json!({"type": "AGENT_REMOVED", "agent_removed": {"agent_id": {"value": "a"}}});
    assert_eq!(records.next().await, removed);
    scene.stop().await;
}

#[tokio::test]
async fn a_stream_in_protobuf_and_one_that_ends_with_the_picture_it_goes_on_from() {
    let scene = Scene::new().await;
    let mut records = Records::open(&scene, &[JSON, ("accept", "application/x-protobuf")]).await;
    let first: master::Event = meshos_proto::decode(&records.raw().await.unwrap()).unwrap();
    assert!(first.subscribed.unwrap().get_state.is_some());
    let second: master::Event = meshos_proto::decode(&records.raw().await.unwrap()).unwrap();
    assert_eq!(second.r#type(), master::event::Type::Heartbeat);
    scene.allocator.watch.restart(cluster_snapshot(2, allocator::Snapshot::default()));
    assert!(records.raw().await.is_none(), "what happened between the two pictures is not known");
    scene.stop().await;
}

#[tokio::test]
async fn mesos_c73_one_stream_too_many_closes_the_oldest() {
    let scene =
        Scene::leaderless(Config { max_operator_event_stream_subscribers: 2, ..Config::default() }).await;
    assert_eq!(post(scene.mesos(), OPERATOR, r#"{"type":"SUBSCRIBE"}"#).await.status, 503);
    scene.lead("allocator").await;
    scene.handle.cluster_synced().await;
    let mut first = Records::open(&scene, &[JSON]).await;
    let mut second = Records::open(&scene, &[JSON]).await;
    let third = Records::open(&scene, &[JSON]).await;
    for _ in 0..2 {
        first.next().await;
        second.next().await;
    }
    assert!(first.raw().await.is_none());
    let streams = get(scene.mesos(), "/metrics/snapshot").await.json();
    assert_eq!(streams["master/operator_event_stream_subscribers"], 2.0);
    see_agent(&scene).await;
    assert_eq!(second.next().await["type"], "AGENT_ADDED", "the others go on");
    drop(third);
    scene.stop().await;
}

#[tokio::test]
async fn mesos_c73_a_thousand_and_one_operators_are_one_too_many() {
    let scene = Scene::new().await;
    let mut streams = Vec::new();
    for _ in 0..1001 {
        streams.push(Records::open(&scene, &[JSON]).await);
    }
    let mut oldest = streams.remove(0);
    let mut records = 0;
    while oldest.raw().await.is_some() {
        records += 1;
    }
    assert_eq!(records, 2, "SUBSCRIBED and HEARTBEAT");
    see_agent(&scene).await;
    for stream in [0, 999] {
        let stream = &mut streams[stream];
        let kinds = [stream.next().await, stream.next().await, stream.next().await];
        assert_eq!(kinds.map(|event| event["type"].clone()), ["SUBSCRIBED", "HEARTBEAT", "AGENT_ADDED"]);
    }
    drop(streams);
    scene.stop().await;
}
