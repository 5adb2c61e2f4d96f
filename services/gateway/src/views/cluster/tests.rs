use super::*;
use meshos_proto::{
    meshos::allocator::v1::{self as allocator, Delta, TaskKey},
    mesos::v1::{self as mesos, ExecutorInfo, Resource, TaskStatus, value},
    packed,
};

fn task(id: &str, state: TaskState, place: TaskPlace) -> packed::Task {
    let task = Task {
        task_id: mesos::TaskId { value: id.to_owned() },
        framework_id: mesos::FrameworkId { value: "f".to_owned() },
        agent_id: mesos::AgentId { value: "a".to_owned() },
        state: state as i32,
        ..Default::default()
    };
    packed::Task::new(&task, place)
}

fn delta(changes: Vec<Body>) -> WatchResponse {
    let changes = changes.into_iter().map(|body| Change { body: Some(body) }).collect();
    WatchResponse { epoch: 1, revision: 2, body: Some(Message::Delta(Delta { changes })) }
}

fn applied(changes: Vec<Body>) -> Cluster {
    let mut cluster = Cluster::default();
    cluster.apply(delta(changes));
    cluster
}

#[test]
fn counts_follow_the_tasks() {
    let live = TaskPlace::Live;
    let mut cluster = applied(vec![
        Body::Task(Box::new(task("1", TaskState::TaskStaging, live))),
        Body::Task(Box::new(task("2", TaskState::TaskStaging, live))),
        Body::Task(Box::new(task("1", TaskState::TaskRunning, live))),
    ]);
    assert_eq!(cluster.count_of(TaskState::TaskStaging), 1);
    assert_eq!(cluster.count_of(TaskState::TaskRunning), 1);
    let counts = &cluster.counts_of_agent("a").unwrap()["f"];
    assert_eq!((counts.get(TaskState::TaskStaging), counts.get(TaskState::TaskRunning)), (1, 1));
    assert_eq!(cluster.counts_in_framework("f"), Some(counts));
    cluster.apply(delta(vec![Body::FrameworkRemoved("f".to_owned())]));
    assert!(cluster.counts_of_framework("f").is_none() && cluster.counts_in_framework("f").is_none());
    assert!(cluster.counts_of_agent("a").is_none());
    assert_eq!((cluster.tasks().count(), cluster.count_of(TaskState::TaskRunning)), (0, 0));
}

#[test]
fn a_completed_task_and_a_live_one_of_the_same_id_are_two() {
    let mut cluster = applied(vec![
        Body::Task(Box::new(task("1", TaskState::TaskFinished, TaskPlace::Completed))),
        Body::Task(Box::new(task("1", TaskState::TaskRunning, TaskPlace::Live))),
    ]);
    assert_eq!(cluster.tasks_of("f", TaskPlace::Completed).count(), 1);
    let place = TaskPlace::Live as i32;
    let key = TaskKey { framework_id: "f".to_owned(), task_id: "1".to_owned(), place };
    cluster.apply(delta(vec![Body::TaskRemoved(key)]));
    assert_eq!(cluster.tasks_of("f", TaskPlace::Completed).count(), 1);
    assert_eq!(cluster.tasks_of("f", TaskPlace::Live).count(), 0);
}

#[test]
fn offers_are_found_by_framework_and_removed_by_id() {
    let offer = Offer {
        id: mesos::OfferId { value: "o".to_owned() },
        framework_id: mesos::FrameworkId { value: "f".to_owned() },
        ..Default::default()
    };
    let mut cluster = applied(vec![Body::Offer(offer)]);
    assert_eq!((cluster.offers_of("f").count(), cluster.offer_count()), (1, 1));
    cluster.apply(delta(vec![Body::OfferRemoved("o".to_owned()), Body::OfferRemoved("o".to_owned())]));
    assert_eq!((cluster.offers_of("f").count(), cluster.offer_count()), (0, 0));
}

#[test]
fn the_parts_of_a_snapshot_add_up() {
    let mut cluster = Cluster::default();
    for (id, more) in [("1", true), ("2", false)] {
        let tasks = vec![task(id, TaskState::TaskRunning, TaskPlace::Live)];
        let snapshot = Snapshot { tasks, more, ..Default::default() };
        cluster.apply(WatchResponse { epoch: 2, revision: 1, body: Some(Message::Snapshot(snapshot)) });
    }
    assert_eq!(cluster.tasks().count(), 2);
    assert_eq!(cluster.count_of(TaskState::TaskRunning), 2);
}

fn cpus(amount: f64) -> Vec<Resource> {
    let scalar = Some(value::Scalar { value: amount });
    vec![Resource { name: "cpus".to_owned(), scalar, ..Default::default() }]
}

fn agent(id: &str, used: f64) -> Agent {
    let info = mesos::AgentInfo { id: Some(mesos::AgentId { value: id.to_owned() }), ..Default::default() };
    Agent { info: Some(info), total: cpus(4.0), used: cpus(used), ..Default::default() }
}

#[test]
fn usage_changes_an_agent_and_the_sums() {
    let mut cluster = applied(vec![Body::Agent(agent("a", 1.0)), Body::Agent(agent("b", 0.0))]);
    let picture = cluster.clone();
    let usage = AgentUsage { agent_id: "a".to_owned(), used: cpus(2.5), offered: cpus(0.5) };
    let unknown = AgentUsage { agent_id: "nobody".to_owned(), used: cpus(9.0), ..Default::default() };
    cluster.apply(delta(vec![Body::AgentUsage(usage), Body::AgentUsage(unknown)]));
    let shown = |cluster: &Cluster| {
        let sums = cluster.sums();
        [&sums.total, &sums.used, &sums.offered].map(|amounts| amounts.firm("cpus").to_f64())
    };
    assert_eq!(shown(&cluster), [8.0, 2.5, 0.5]);
    assert_eq!(
        (cluster.agents["a"].used[0].scalar.unwrap().value, cluster.agents["a"].total.len()),
        (2.5, 1)
    );
    assert_eq!(shown(&picture), [8.0, 1.0, 0.0], "a picture stays as it was");
    assert_eq!(picture.agents["a"].used, cpus(1.0));
    cluster.apply(delta(vec![Body::Agent(Agent { unreachable: true, ..agent("a", 2.5) })]));
    assert_eq!(shown(&cluster), [4.0, 0.0, 0.0]);
    cluster.apply(delta(vec![Body::AgentRemoved("b".to_owned()), Body::AgentRemoved("a".to_owned())]));
    assert_eq!(shown(&cluster), [0.0; 3]);
}

#[test]
fn executors_and_operations_come_and_go() {
    let info = ExecutorInfo {
        executor_id: mesos::ExecutorId { value: "e".to_owned() },
        framework_id: Some(mesos::FrameworkId { value: "f".to_owned() }),
        ..Default::default()
    };
    let executor = Executor { info: Some(info), agent_id: "a".to_owned() };
    let uuid = Bytes::from_static(&[7; 16]);
    let operation = Operation { uuid: mesos::Uuid { value: uuid.clone() }, ..Default::default() };
    let operation = allocator::Operation { operation: Some(operation) };
    let mut cluster = applied(vec![Body::Executor(Box::new(executor)), Body::Operation(Box::new(operation))]);
    assert_eq!((cluster.executors_of("f").count(), cluster.executors().count()), (1, 1));
    assert_eq!(cluster.operations().count(), 1);
    let key =
        ExecutorKey { framework_id: "f".to_owned(), agent_id: "a".to_owned(), executor_id: "e".to_owned() };
    cluster.apply(delta(vec![Body::ExecutorRemoved(key), Body::OperationRemoved(uuid)]));
    assert_eq!((cluster.executors().count(), cluster.operations().count()), (0, 0));
}

proptest::proptest! {
    /// A page is what sorting everything gives.
    #[test]
    fn a_page_is_a_part_of_the_whole_in_order(
        times in proptest::collection::vec(0u8..6, 0..40),
        (offset, limit, ascending) in (0usize..45, 0usize..45, proptest::bool::ANY),
    ) {
        let mut cluster = Cluster::default();
        for (number, time) in times.iter().enumerate() {
            let task = task(&format!("{number:02}"), TaskState::TaskRunning, TaskPlace::Live);
            let status = TaskStatus { timestamp: Some(f64::from(*time)), ..Default::default() };
            let task = Task { statuses: vec![status], ..task.unpack().unwrap() };
            let task = packed::Task::new(&task, TaskPlace::Live);
            cluster.change(Change { body: Some(Body::Task(Box::new(task))) });
        }
        let mut wanted: Vec<_> = cluster.tasks().map(|(task, _)| task.clone()).collect();
        wanted.sort_by(|a, b| a.statuses[0].timestamp().total_cmp(&b.statuses[0].timestamp()));
        if !ascending {
            wanted.reverse();
        }
        let wanted: Vec<_> = wanted.into_iter().skip(offset).take(limit).collect();
        let page = Page { framework: None, task: None, ascending, offset, limit };
        let page: Vec<_> = cluster.page(&page).into_iter().map(|task| (**task).clone()).collect();
        proptest::prop_assert_eq!(page, wanted);
    }
}
