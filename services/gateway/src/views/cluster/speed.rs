//! What a change costs, and a picture: figures, not assertions.
//!
//! `cargo test --release -p meshos-gateway --lib speed -- --ignored --nocapture`
#![allow(clippy::print_stdout, reason = "the figures are the result")]

use meshos_proto::{
    meshos::allocator::v1::{AgentUsage, Delta, FrameworkUsage, TaskKey},
    mesos::v1::{self as mesos, Resource, TaskState, TaskStatus, value},
    packed,
};
use prost::Message as _;

use super::*;

const AGENTS: usize = 50_000;
const FRAMEWORKS: usize = 200;
const TASKS: usize = 400_000;
const LAUNCHES: usize = 20_000;

fn scalar(name: &str, amount: f64) -> Resource {
    let scalar = Some(value::Scalar { value: amount });
    Resource { name: name.to_owned(), scalar, ..Default::default() }
}

fn usage() -> Vec<Resource> {
    vec![scalar("cpus", 1.5), scalar("mem", 512.0), scalar("disk", 100.0)]
}

fn agent(number: usize) -> Agent {
    let id = Some(mesos::AgentId { value: format!("5d800d81-bdf3-45c4-bfff-5e251f64541e-S{number}") });
    let info = mesos::AgentInfo { id, hostname: format!("host-{number}"), ..Default::default() };
    Agent { info: Some(info), total: usage(), used: usage(), ..Default::default() }
}

fn framework(number: usize) -> String {
    format!("5d800d81-bdf3-45c4-bfff-5e251f64541e-{number:04}")
}

fn task(number: usize, state: TaskState, statuses: usize, place: TaskPlace) -> packed::Task {
    let status = |at: usize| TaskStatus {
        state: state as i32,
        timestamp: Some(number as f64 + at as f64),
        uuid: Some(Bytes::from_static(&[7; 16])),
        ..Default::default()
    };
    let task = Task {
        name: format!("task-{number}"),
        task_id: mesos::TaskId { value: format!("task-{number}") },
        framework_id: mesos::FrameworkId { value: framework(number % FRAMEWORKS) },
        agent_id: agent(number % AGENTS).info.unwrap().id.unwrap(),
        state: state as i32,
        statuses: (0..statuses).map(status).collect(),
        resources: usage(),
        ..Default::default()
    };
    packed::Task::new(&task, place)
}

/// What a launch does to the view, up to the end of its task.
fn launch(number: usize) -> Vec<Body> {
    let live = TaskPlace::Live;
    let framework_id = framework(number % FRAMEWORKS);
    let agent_id = agent(number % AGENTS).info.unwrap().id.unwrap().value;
    let key =
        TaskKey { framework_id: framework_id.clone(), task_id: format!("task-{number}"), place: live as i32 };
    vec![
        Body::AgentUsage(AgentUsage { agent_id: agent_id.clone(), used: usage(), offered: usage() }),
        Body::FrameworkUsage(FrameworkUsage { framework_id, used: usage(), offered: usage() }),
        Body::Task(task(number, TaskState::TaskStaging, 0, live).into()),
        Body::Task(task(number, TaskState::TaskStarting, 1, live).into()),
        Body::Task(task(number, TaskState::TaskRunning, 2, live).into()),
        Body::Task(task(number, TaskState::TaskFinished, 3, live).into()),
        Body::TaskRemoved(key),
        Body::Task(task(number, TaskState::TaskFinished, 3, TaskPlace::Completed).into()),
        Body::AgentUsage(AgentUsage { agent_id, used: Vec::new(), offered: usage() }),
    ]
}

/// Time that this thread has been on a processor, in microseconds: others may use the machine meanwhile.
fn busy_us() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1000.0
}

fn measure<R>(what: &str, of: usize, work: impl FnOnce() -> R) -> R {
    let begin = busy_us();
    let result = work();
    let took = busy_us() - begin;
    println!("{what}: {:.1} ms in all, {:.2} µs each", took / 1000.0, took / of as f64);
    result
}

#[test]
#[ignore = "a measurement"]
fn speed() {
    let frameworks = (0..FRAMEWORKS).map(|number| {
        let id = Some(mesos::FrameworkId { value: framework(number) });
        Framework { info: Some(mesos::FrameworkInfo { id, ..Default::default() }), ..Default::default() }
    });
    let snapshot = Snapshot {
        agents: (0..AGENTS).map(agent).collect(),
        frameworks: frameworks.collect(),
        tasks: (0..TASKS).map(|number| task(number, TaskState::TaskRunning, 2, TaskPlace::Live)).collect(),
        ..Snapshot::default()
    };
    let mut cluster = Cluster::default();
    measure("snapshot applied, for each agent and task", AGENTS + TASKS, || {
        cluster.apply(WatchResponse { epoch: 1, revision: 1, body: Some(Message::Snapshot(snapshot)) });
    });
    let picture = measure("picture", 1, || cluster.clone());
    measure("picture dropped", 1, || drop(picture));
    let page = Page { framework: None, task: None, ascending: false, offset: 0, limit: 100 };
    let shown = measure("page of 100 tasks", 1, || cluster.page(&page).len());
    assert_eq!(shown, 100);
    let encoded: Vec<Vec<u8>> = (TASKS..TASKS + LAUNCHES)
        .map(|number| {
            let changes = launch(number).into_iter().map(|body| Change { body: Some(body) }).collect();
            Delta { changes }.encode_to_vec()
        })
        .collect();
    let deltas: Vec<Delta> = measure("changes of a launch decoded", LAUNCHES, || {
        encoded.iter().map(|bytes| Delta::decode(bytes.as_slice()).unwrap()).collect()
    });
    measure("changes of a launch applied", LAUNCHES, || {
        for delta in deltas {
            cluster.apply(WatchResponse { epoch: 1, revision: 2, body: Some(Message::Delta(delta)) });
        }
    });
}
