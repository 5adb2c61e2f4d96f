//! Executors of frameworks' own, and task groups.

mod rules;

use meshos_proto::{
    meshos::{
        allocator::v1::{
            ExecutorEnded, FrameworkMessage, Launch, Reregister, TaskPlace, allocator_message::Body,
        },
        registry::v1::AgentState,
    },
    mesos::v1::{
        self as pb, TaskState, executor_info,
        offer::{Operation, operation},
        scheduler::{Call, call, event},
        task_status::Reason,
    },
};

use super::{super::*, harness::*};

const TOTAL: &str = "cpus:4;mem:1024;disk:1024;ports:[31000-31009]";

/// A custom executor.
pub(super) fn custom(id: &str, takes: &str) -> pb::ExecutorInfo {
    pb::ExecutorInfo {
        executor_id: pb::ExecutorId { value: id.to_owned() },
        command: Some(pb::CommandInfo { value: Some("run".to_owned()), ..pb::CommandInfo::default() }),
        resources: resources(takes),
        ..pb::ExecutorInfo::default()
    }
}

pub(super) fn with_executor(task: pb::TaskInfo, executor: pb::ExecutorInfo) -> pb::TaskInfo {
    pb::TaskInfo { command: None, executor: Some(executor), ..task }
}

/// The executor that upstream brings for task groups.
pub(super) fn default_executor(framework: &FrameworkId, id: &str) -> pb::ExecutorInfo {
    pb::ExecutorInfo {
        r#type: Some(executor_info::Type::Default.into()),
        framework_id: Some(framework.to_proto()),
        command: None,
        ..custom(id, "cpus:0.1;mem:32;disk:10")
    }
}

pub(super) fn group(executor: pb::ExecutorInfo, tasks: Vec<pb::TaskInfo>) -> Operation {
    let launch_group = operation::LaunchGroup { executor, task_group: pb::TaskGroupInfo { tasks } };
    Operation {
        r#type: Some(operation::Type::LaunchGroup.into()),
        launch_group: Some(launch_group),
        ..Operation::default()
    }
}

fn scene() -> (Harness, (FrameworkId, StreamId), LinkId, pb::Offer) {
    let mut cluster = Harness::new();
    let link = cluster.agent("s1", TOTAL);
    let framework = cluster.subscribe(info("a"));
    let offer = cluster.take_offers(&framework.1).remove(0);
    cluster.take_commands(link);
    (cluster, framework, link, offer)
}

fn launches(commands: Vec<Body>) -> Vec<Launch> {
    let launch = |command| match command {
        Body::Launch(launch) => launch,
        other => panic!("{other:?}"),
    };
    commands.into_iter().map(launch).collect()
}

fn used(cluster: &Harness) -> (f64, f64) {
    let snapshot = cluster.core.snapshot();
    (cpus(&snapshot.agents[0].used), cpus(&snapshot.frameworks[0].used))
}

fn shown(cluster: &Harness) -> Vec<String> {
    let executors = cluster.core.snapshot().executors.into_iter();
    executors.map(|executor| executor.info.unwrap().executor_id.value).collect()
}

#[test]
fn an_executor_is_held_once_from_its_first_task_until_it_ends() {
    let (mut cluster, framework, link, offer) = scene();
    let task = |id| with_executor(task(id, "s1", "cpus:1"), custom("e", "cpus:0.5;mem:32"));
    cluster.accept(&framework, &[&offer], vec![launch(vec![task("t1"), task("t2")])]);
    let launched = launches(cluster.take_commands(link)).remove(0);
    let given = launched.tasks[0].executor.clone().unwrap();
    assert_eq!(given.framework_id.as_ref().unwrap().value, framework.0.as_str(), "filled in");
    assert_eq!(launched.tasks[1].executor.as_ref(), Some(&given));
    assert!(launched.group_executor.is_none());
    assert_eq!(used(&cluster), (2.5, 2.5));
    assert_eq!(shown(&cluster), ["e"]);
    let known = cluster.core.snapshot().tasks[0].unpack().unwrap();
    assert_eq!(known.executor_id.unwrap().value, "e");

    // Its tasks end, and it stays.
    cluster.update(link, &framework.0, "t1", TaskState::TaskFinished, 1);
    cluster.update(link, &framework.0, "t2", TaskState::TaskFinished, 2);
    assert_eq!(used(&cluster), (0.5, 0.5));
    cluster.advance(6_000);
    let events = cluster.take(&framework.1);
    let offer = events.iter().rev().find_map(|event| event.offers.clone()).unwrap().offers.remove(0);
    assert_eq!(offer.executor_ids, [pb::ExecutorId { value: "e".to_owned() }]);

    cluster.input(Input::ExecutorEnded { link, ended: ended(&framework.0, "e", 256) });
    assert_eq!(used(&cluster), (0.0, 0.0));
    assert!(shown(&cluster).is_empty());
    let failures: Vec<_> = cluster.take(&framework.1).into_iter().filter_map(|event| event.failure).collect();
    assert_eq!(failures[0].agent_id.as_ref().unwrap().value, "s1");
    assert_eq!(failures[0].executor_id.as_ref().unwrap().value, "e");
    assert_eq!(failures[0].status, Some(256));
    // Told twice, it means nothing.
    cluster.input(Input::ExecutorEnded { link, ended: ended(&framework.0, "e", 256) });
    assert!(cluster.take(&framework.1).iter().all(|event| event.failure.is_none()));
}

fn ended(framework: &FrameworkId, executor: &str, wait_status: i32) -> ExecutorEnded {
    ExecutorEnded {
        framework_id: Some(framework.to_proto()),
        executor_id: Some(pb::ExecutorId { value: executor.to_owned() }),
        wait_status,
    }
}

#[test]
fn a_group_is_launched_as_a_whole() {
    let (mut cluster, framework, link, offer) = scene();
    let executor = default_executor(&framework.0, "e");
    let tasks = vec![task("a", "s1", "cpus:1"), task("b", "s1", "cpus:1")];
    let second = group(executor.clone(), vec![task("d", "s1", "cpus:0.1")]);
    let operations = vec![group(executor, tasks), launch(vec![task("c", "s1", "cpus:1")]), second];
    cluster.accept(&framework, &[&offer], operations);
    assert!(cluster.take_statuses(&framework.1).is_empty());
    let launched = launches(cluster.take_commands(link));
    let ids = |launch: &Launch| -> Vec<String> {
        launch.tasks.iter().map(|task| task.task_id.value.clone()).collect()
    };
    let all: Vec<_> = launched.iter().map(|launch| (ids(launch), launch.group_executor.is_some())).collect();
    let of = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
    assert_eq!(all, [(of(&["c"]), false), (of(&["a", "b"]), true), (of(&["d"]), true)]);
    assert_eq!(launched[1].tasks[0].executor, launched[1].group_executor);
    assert_eq!(used(&cluster), (3.2, 3.2), "the executor counts once");
}

#[test]
fn mesos_c31_one_invalid_member_is_the_fault_of_the_whole_group() {
    let (mut cluster, framework, link, offer) = scene();
    let tasks = vec![task("a", "s1", "cpus:1"), task("b", "s9", "cpus:1")];
    let good = launch(vec![task("c", "s1", "cpus:1")]);
    let operations = vec![group(default_executor(&framework.0, "e"), tasks), good];
    cluster.accept(&framework, &[&offer], operations);
    let statuses = cluster.take_statuses(&framework.1);
    let told: Vec<_> = statuses.iter().map(|s| (s.task_id.value.as_str(), s.state(), s.reason())).collect();
    let verdict = |id| (id, TaskState::TaskError, Reason::TaskGroupInvalid);
    assert_eq!(told, [verdict("a"), verdict("b")]);
    let text = "Task 'b' is invalid: Task uses invalid agent s9 while agent s1 is expected";
    assert!(statuses.iter().all(|status| status.message() == text && status.uuid.is_none()));
    assert_eq!(cluster.tasks().keys().collect::<Vec<_>>(), ["c"]);
    assert!(shown(&cluster).is_empty(), "its executor is not there either");
    assert_eq!(launches(cluster.take_commands(link)).len(), 1);
}

#[test]
fn an_executor_of_the_same_id_must_be_the_same() {
    let (mut cluster, framework, _, offer) = scene();
    let task = |id, takes| with_executor(task(id, "s1", "cpus:1"), custom("e", takes));
    cluster.accept(&framework, &[&offer], vec![launch(vec![task("t1", "cpus:0.5"), task("t2", "cpus:0.6")])]);
    let statuses = cluster.take_statuses(&framework.1);
    assert_eq!(statuses.len(), 1);
    let text = "ExecutorInfo is not compatible with existing ExecutorInfo with same ExecutorID";
    assert!(statuses[0].message().starts_with(text), "{}", statuses[0].message());
    assert_eq!(used(&cluster), (1.5, 1.5));
}

/// One running task under its executor; also the report that its agent would make.
fn running() -> (Harness, (FrameworkId, StreamId), LinkId, Reregister) {
    let (mut cluster, framework, link, offer) = scene();
    let task = with_executor(task("t1", "s1", "cpus:1"), custom("e", "cpus:0.5"));
    cluster.accept(&framework, &[&offer], vec![launch(vec![task])]);
    cluster.update(link, &framework.0, "t1", TaskState::TaskRunning, 1);
    let report = cluster.report_with("s1", TOTAL, &["t1"]);
    cluster.take(&framework.1);
    cluster.take_commands(link);
    (cluster, framework, link, report)
}

#[test]
fn a_new_leader_learns_executors_from_agents() {
    let (old, framework, _, report) = running();
    assert_eq!(report.executors.len(), 1);
    let mut leader = Harness::new();
    leader.input(Input::FrameworkRecords(old.records.clone()));
    leader.input(Input::RegistrySnapshot(vec![record("s1", AgentState::Connected)]));
    leader.link(report);
    assert_eq!(used(&leader), (1.5, 1.5));
    assert_eq!(shown(&leader), ["e"]);
    // It is the same to the framework: a further task may use it.
    let again = leader.subscribe(pb::FrameworkInfo { id: Some(framework.0.to_proto()), ..info("a") });
    let offer = leader.take_offers(&again.1).remove(0);
    let task = with_executor(task("t2", "s1", "cpus:1"), custom("e", "cpus:0.5"));
    leader.accept(&again, &[&offer], vec![launch(vec![task])]);
    assert!(leader.take_statuses(&again.1).is_empty());
    assert_eq!(used(&leader), (2.5, 2.5));
}

#[test]
fn an_executor_that_its_agent_does_not_have_is_over() {
    let (mut cluster, framework, link, report) = running();
    cluster.input(Input::AgentUnlinked { link });
    cluster.link(Reregister { executors: Vec::new(), ..report.clone() });
    assert_eq!(used(&cluster), (1.0, 1.0));
    // It is there after all, and takes more than was known.
    let mut larger = report.clone();
    larger.executors[0].resources = resources("cpus:0.7");
    cluster.link(larger);
    assert_eq!(used(&cluster), (1.7, 1.7));
    cluster.input(Input::Teardown { framework: framework.0 });
    assert!(shown(&cluster).is_empty() && cluster.core.snapshot().agents[0].used.is_empty());
}

#[test]
fn an_agent_that_is_lost_takes_its_executors_along() {
    let (mut cluster, framework, _, report) = running();
    cluster.input(Input::RegistryChanged(Box::new(record("s1", AgentState::Unreachable))));
    assert_eq!(used(&cluster), (0.0, 0.0));
    let status = cluster.take_statuses(&framework.1).remove(0);
    assert_eq!(status.executor_id.unwrap().value, "e");
    cluster.link(report);
    cluster.input(Input::RegistryChanged(Box::new(record("s1", AgentState::Connected))));
    assert_eq!(used(&cluster), (1.5, 1.5));
    assert_eq!(cluster.tasks()["t1"], (TaskState::TaskRunning, TaskPlace::Live));
}

fn message(framework: &FrameworkId, agent: &str) -> Call {
    let message = call::Message {
        agent_id: pb::AgentId { value: agent.to_owned() },
        executor_id: pb::ExecutorId { value: "e".to_owned() },
        data: vec![1, 2].into(),
    };
    Call { message: Some(message), ..call(framework, call::Type::Message) }
}

#[test]
fn messages_go_both_ways_and_an_executor_can_be_shut_down() {
    let (mut cluster, framework, link, _) = running();
    cluster.call(&framework.1, message(&framework.0, "s1"));
    cluster.call(&framework.1, message(&framework.0, "s9"));
    let commands = cluster.take_commands(link);
    let [Body::FrameworkMessage(down)] = commands.as_slice() else { panic!("{commands:?}") };
    assert_eq!((down.executor_id.as_ref().unwrap().value.as_str(), &down.data[..]), ("e", [1, 2].as_slice()));

    let up = FrameworkMessage { data: vec![3].into(), ..down.clone() };
    cluster.input(Input::MessageToFramework { link, message: Box::new(up.clone()) });
    let stranger = Some(pb::FrameworkId { value: "x".to_owned() });
    let lost = FrameworkMessage { framework_id: stranger, ..up };
    cluster.input(Input::MessageToFramework { link, message: Box::new(lost) });
    let events = cluster.take(&framework.1);
    assert_eq!(kinds(&events), [event::Type::Message]);
    let came = events[0].message.clone().unwrap();
    assert_eq!((came.agent_id.value.as_str(), came.executor_id.value.as_str()), ("s1", "e"));
    assert_eq!(&came.data[..], [3]);
    let metrics = cluster.core.metrics();
    for name in ["framework_to_executor", "executor_to_framework"] {
        assert_eq!(metrics[&format!("master/valid_{name}_messages")], 1.0);
        assert_eq!(metrics[&format!("master/invalid_{name}_messages")], 1.0);
        assert_eq!(metrics[&format!("master/messages_{name}")], 2.0);
    }

    let shutdown = |agent: &str| {
        let shutdown = call::Shutdown {
            executor_id: pb::ExecutorId { value: "e".to_owned() },
            agent_id: pb::AgentId { value: agent.to_owned() },
        };
        Call { shutdown: Some(shutdown), ..call(&framework.0, call::Type::Shutdown) }
    };
    cluster.call(&framework.1, shutdown("s9"));
    cluster.call(&framework.1, shutdown("s1"));
    assert!(matches!(cluster.take_commands(link).as_slice(), [Body::ShutdownExecutor(_)]));
    assert_eq!(shown(&cluster), ["e"], "its agent says when it has ended");
}
