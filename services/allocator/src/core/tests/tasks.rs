//! Updates, acknowledgements, kills, reconciliation.

use meshos_proto::{
    meshos::{
        allocator::v1::{TaskPlace, allocator_message::Body},
        registry::v1::AgentState,
    },
    mesos::v1::{
        self as pb, TaskState,
        scheduler::{Call, call, event},
        task_status::Reason,
    },
};

use super::{super::*, harness::*};

#[test]
fn mesos_c37_c38_resources_are_free_at_once_and_the_task_completed_when_acknowledged() {
    let (mut cluster, framework, link) = Harness::with_running_task(info("a"));
    cluster.acknowledge(&framework, "s1", "t1", 1);
    cluster.take_commands(link);
    cluster.update(link, &framework.0, "t1", TaskState::TaskFinished, 2);
    let events = cluster.take(&framework.1);
    assert_eq!(kinds(&events), [event::Type::Update, event::Type::Offers]);
    assert_eq!(cpus(&events[1].offers.as_ref().unwrap().offers[0].resources), 4.0);
    assert_eq!(cluster.tasks()["t1"], (TaskState::TaskFinished, TaskPlace::Live));
    cluster.acknowledge(&framework, "s1", "t1", 9);
    assert_eq!(cluster.tasks()["t1"].1, TaskPlace::Live, "another uuid acknowledges nothing");
    cluster.acknowledge(&framework, "s1", "t1", 2);
    assert_eq!(cluster.tasks()["t1"], (TaskState::TaskFinished, TaskPlace::Completed));
    let commands = cluster.take_commands(link);
    assert!(commands.iter().all(|command| matches!(command, Body::Acknowledge(_))) && commands.len() == 2);
    let offer = &events[1].offers.as_ref().unwrap().offers[0];
    cluster.accept(&framework, &[offer], vec![launch(vec![task("t1", "s1", "cpus:1")])]);
    assert!(cluster.take_statuses(&framework.1).is_empty(), "the id may be used again");
}

#[test]
fn history_keeps_one_status_for_each_run_of_equal_states() {
    let (mut cluster, framework, link) = Harness::with_running_task(info("a"));
    cluster.update(link, &framework.0, "t1", TaskState::TaskRunning, 2);
    cluster.update(link, &framework.0, "t1", TaskState::TaskFailed, 3);
    let snapshot = cluster.core.snapshot();
    let task = snapshot.tasks[0].unpack().unwrap();
    let states: Vec<_> = task.statuses.iter().map(pb::TaskStatus::state).collect();
    assert_eq!(states, [TaskState::TaskRunning, TaskState::TaskFailed]);
    assert_eq!(task.statuses[0].uuid.as_deref(), Some([2; 16].as_slice()));
    assert_eq!(cluster.core.metrics()["master/tasks_failed"], 1.0);
}

#[test]
fn mesos_c39_a_status_without_uuid_may_be_acknowledged() {
    let (mut cluster, framework, _) = Harness::with_running_task(info("a"));
    let acknowledge = call::Acknowledge {
        agent_id: pb::AgentId { value: "gone".to_owned() },
        task_id: pb::TaskId { value: "t1".to_owned() },
        uuid: vec![7; 16].into(),
    };
    let acknowledge = Call { acknowledge: Some(acknowledge), ..call(&framework.0, call::Type::Acknowledge) };
    cluster.call(&framework.1, acknowledge);
    assert_eq!(cluster.core.metrics()["master/invalid_status_update_acknowledgements"], 1.0);
}

fn kill(cluster: &mut Harness, framework: &(FrameworkId, StreamId), task: &str, agent: Option<&str>) {
    let kill = call::Kill {
        task_id: pb::TaskId { value: task.to_owned() },
        agent_id: agent.map(|agent| pb::AgentId { value: agent.to_owned() }),
        kill_policy: None,
    };
    cluster.call(&framework.1, Call { kill: Some(kill), ..call(&framework.0, call::Type::Kill) });
}

#[test]
fn mesos_c42_a_kill_of_an_unknown_task_is_answered_by_reconciliation() {
    let (mut cluster, framework, link) = Harness::with_running_task(info("a"));
    kill(&mut cluster, &framework, "t1", None);
    assert!(matches!(cluster.take_commands(link).as_slice(), [Body::Kill(_)]));
    kill(&mut cluster, &framework, "t1", Some("elsewhere"));
    assert!(cluster.take_commands(link).is_empty(), "a kill with the wrong agent is ignored");
    kill(&mut cluster, &framework, "nobody", None);
    let statuses = cluster.take_statuses(&framework.1);
    assert_eq!((statuses[0].state(), statuses[0].reason()), (TaskState::TaskUnknown, Reason::Reconciliation));
}

#[test]
fn a_kill_for_an_agent_that_is_away_is_sent_when_it_links_again() {
    let (mut cluster, framework, link) = Harness::with_running_task(info("a"));
    cluster.input(Input::AgentUnlinked { link });
    kill(&mut cluster, &framework, "t1", None);
    let report = cluster.report_with("s1", "cpus:4;mem:1024", &["t1"]);
    let link = cluster.link(report);
    assert!(matches!(cluster.take_commands(link).as_slice(), [Body::Accepted(_), Body::Kill(_)]));
}

#[test]
fn mesos_c43_c44_reconciliation() {
    let (mut cluster, framework, _) = Harness::with_running_task(info("a"));
    cluster.reconcile(&framework, &[]);
    let statuses = cluster.take_statuses(&framework.1);
    assert_eq!(statuses.len(), 1);
    assert_eq!((statuses[0].state(), statuses[0].reason()), (TaskState::TaskRunning, Reason::Reconciliation));
    assert!(statuses[0].uuid.is_none());
    cluster.reconcile(&framework, &[("x", Some("s1")), ("y", Some("s9")), ("z", None)]);
    let states: Vec<_> = cluster.take_statuses(&framework.1).iter().map(pb::TaskStatus::state).collect();
    assert_eq!(states, [TaskState::TaskGone, TaskState::TaskUnknown, TaskState::TaskUnknown]);
}

#[test]
fn mesos_c45_nothing_is_said_of_tasks_on_agents_that_may_come_back() {
    let mut cluster = Harness::new();
    cluster.input(Input::RegistrySnapshot(vec![record("s1", AgentState::Disconnected)]));
    let framework = cluster.subscribe(info("a"));
    cluster.take(&framework.1);
    cluster.reconcile(&framework, &[("t", Some("s1")), ("u", None)]);
    assert!(cluster.take_statuses(&framework.1).is_empty());
    cluster.input(Input::RegistryChanged(Box::new(record("s1", AgentState::Unreachable))));
    cluster.take(&framework.1);
    cluster.reconcile(&framework, &[("t", Some("s1")), ("u", None)]);
    let statuses = cluster.take_statuses(&framework.1);
    assert_eq!(statuses[0].state(), TaskState::TaskUnreachable);
    assert!(statuses[0].unreachable_time.is_some());
    assert_eq!(statuses[1].state(), TaskState::TaskUnknown);
}

#[test]
fn an_update_for_a_framework_that_is_away_is_kept_in_the_books_only() {
    let (mut cluster, framework, link) = Harness::with_running_task(info("a"));
    cluster.input(Input::StreamClosed { stream: framework.1.clone() });
    cluster.update(link, &framework.0, "t1", TaskState::TaskFinished, 2);
    assert!(cluster.take(&framework.1).is_empty());
    assert_eq!(cluster.tasks()["t1"], (TaskState::TaskFinished, TaskPlace::Live));
}

#[test]
fn traces_travel_with_launch_and_update() {
    let mut cluster = Harness::new();
    let link = cluster.agent("s1", "cpus:4;mem:1024");
    let framework = cluster.subscribe(info("a"));
    let offer = cluster.take_offers(&framework.1).remove(0);
    cluster.take_commands(link);
    let operations = vec![launch(vec![task("t1", "s1", "cpus:1")])];
    let accept = call::Accept { offer_ids: vec![offer.id], operations, filters: None };
    let call = Call { accept: Some(accept), ..call(&framework.0, call::Type::Accept) };
    let (stream, call, traceparent) = (framework.1.clone(), Box::new(call), "trace-1".to_owned());
    cluster.input(Input::Call { stream, call, traceparent });
    let commands = cluster.take_commands(link);
    let [Body::Launch(launch)] = commands.as_slice() else { panic!("{commands:?}") };
    assert_eq!(launch.traceparent, "trace-1");

    let status = pb::TaskStatus {
        task_id: launch.tasks[0].task_id.clone(),
        state: TaskState::TaskRunning.into(),
        ..pb::TaskStatus::default()
    };
    let update = meshos_proto::meshos::allocator::v1::StatusUpdate {
        framework_id: Some(framework.0.to_proto()),
        status: Some(status),
        latest_state: TaskState::TaskRunning.into(),
        traceparent: "trace-2".to_owned(),
    };
    cluster.core.handle(Input::StatusUpdate { link, update: Box::new(update) }, cluster.now).unwrap();
    let effects = cluster.core.settle(cluster.now).effects;
    assert!(matches!(&effects[0], Effect::Events { traceparent, .. } if traceparent == "trace-2"));
}

#[test]
fn who_knows_no_partitions_hears_lost_in_place_of_what_an_agent_says() {
    let about = || pb::FrameworkInfo { capabilities: Vec::new(), ..info("a") };
    for said in [TaskState::TaskDropped, TaskState::TaskGone, TaskState::TaskGoneByOperator] {
        let (mut cluster, framework, link) = Harness::with_running_task(about());
        cluster.update(link, &framework.0, "t1", said, 2);
        cluster.reconcile(&framework, &[]);
        let statuses = cluster.take_statuses(&framework.1);
        assert!(statuses.iter().all(|status| status.state() == TaskState::TaskLost), "{statuses:?}");
        assert_eq!(statuses[0].uuid.as_deref(), Some([2; 16].as_slice()), "it is acknowledged as it came");
        cluster.acknowledge(&framework, "s1", "t1", 2);
        assert_eq!(cluster.tasks()["t1"], (said, TaskPlace::Completed));
    }
}
