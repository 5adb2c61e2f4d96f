//! Agents that come, break off, fall silent, return and go.

mod absence;

use meshos_proto::{
    meshos::{
        allocator::v1::{TaskPlace, allocator_message::Body},
        registry::v1::AgentState,
    },
    mesos::v1::{self as pb, TaskState, scheduler::event, task_status::Reason},
};

use super::{super::*, harness::*};

#[test]
fn a_broken_link_rescinds_offers_and_leaves_tasks_alone() {
    let (mut cluster, framework, link) = Harness::with_running_task(info("a"));
    cluster.advance(5_000);
    cluster.take(&framework.1);
    cluster.input(Input::AgentUnlinked { link });
    assert_eq!(kinds(&cluster.take(&framework.1)), [event::Type::Rescind]);
    assert_eq!(cluster.tasks()["t1"], (TaskState::TaskRunning, TaskPlace::Live));
    let report = cluster.report_with("s1", "cpus:4;mem:1024", &["t1"]);
    cluster.link(report);
    let events = cluster.take(&framework.1);
    assert_eq!(kinds(&events), [event::Type::Offers], "nothing is said of the task");
    assert_eq!(cpus(&events[0].offers.as_ref().unwrap().offers[0].resources), 3.0);
}

#[test]
fn mesos_c52_c53_an_unreachable_agent_and_its_return() {
    let (mut cluster, framework, link) = Harness::with_running_task(info("a"));
    let report = cluster.report_with("s1", "cpus:4;mem:1024", &["t1"]);
    cluster.advance(5_000);
    cluster.take(&framework.1);
    cluster.input(Input::RegistryChanged(Box::new(record("s1", AgentState::Unreachable))));
    let events = cluster.take(&framework.1);
    assert_eq!(kinds(&events), [event::Type::Update, event::Type::Rescind, event::Type::Failure]);
    let status = &events[0].update.as_ref().unwrap().status;
    assert_eq!((status.state(), status.reason()), (TaskState::TaskUnreachable, Reason::AgentRemoved));
    assert!(status.unreachable_time.is_some() && status.uuid.is_none());
    assert_eq!(cluster.tasks()["t1"], (TaskState::TaskUnreachable, TaskPlace::Unreachable));
    assert_eq!(cluster.closed_links, [link]);

    let link = cluster.link(report);
    assert!(cluster.take_commands(link).is_empty(), "not admitted yet");
    cluster.input(Input::RegistryChanged(Box::new(record("s1", AgentState::Connected))));
    assert!(matches!(cluster.take_commands(link).as_slice(), [Body::Accepted(_)]));
    let events = cluster.take(&framework.1);
    assert_eq!(kinds(&events), [event::Type::Update, event::Type::Offers]);
    let status = &events[0].update.as_ref().unwrap().status;
    assert_eq!((status.state(), status.reason()), (TaskState::TaskRunning, Reason::AgentReregistered));
    assert_eq!(cluster.tasks()["t1"], (TaskState::TaskRunning, TaskPlace::Live));
}

#[test]
fn a_task_that_was_launched_again_elsewhere_stays_there() {
    let (mut cluster, _, link) = Harness::with_running_task(info("a"));
    let twin = cluster.report_with("s2", "cpus:4;mem:1024", &["t1"]);
    cluster.input(Input::RegistryChanged(Box::new(record("s2", AgentState::Connected))));
    let other = cluster.link(twin);
    let commands = cluster.take_commands(other);
    assert!(commands.iter().any(|body| matches!(body, Body::Kill(_))), "{commands:?}");
    assert!(cluster.take_commands(link).iter().all(|body| !matches!(body, Body::Kill(_))));
    let snapshot = cluster.core.snapshot();
    let agents: Vec<_> = snapshot.tasks.iter().map(|task| task.unpack().unwrap().agent_id.value).collect();
    assert_eq!(agents, ["s1"]);
    assert_eq!(cluster.tasks()["t1"], (TaskState::TaskRunning, TaskPlace::Live));
}

#[test]
fn a_framework_may_not_say_more_of_itself_than_is_stored() {
    let mut cluster = Harness::new();
    let stream =
        cluster.subscribe_any(pb::FrameworkInfo { principal: Some("p".repeat(1 << 20)), ..info("a") });
    let events = cluster.take(&stream);
    assert_eq!(kinds(&events), [event::Type::Error]);
    assert!(events[0].error.as_ref().unwrap().message.contains("at most 262144 are stored"));
}

#[test]
fn mesos_c52_who_knows_no_partitions_hears_lost() {
    let (mut cluster, framework, _) =
        Harness::with_running_task(pb::FrameworkInfo { capabilities: Vec::new(), ..info("a") });
    cluster.input(Input::RegistryChanged(Box::new(record("s1", AgentState::Unreachable))));
    let statuses = cluster.take_statuses(&framework.1);
    assert_eq!((statuses[0].state(), statuses[0].reason()), (TaskState::TaskLost, Reason::AgentRemoved));
    assert_eq!(cluster.tasks()["t1"].1, TaskPlace::Unreachable);
}

#[test]
fn mesos_c54_a_gone_agent_takes_its_tasks_along_and_may_not_return() {
    let (mut cluster, framework, _) = Harness::with_running_task(info("a"));
    let report = cluster.report_with("s1", "cpus:4;mem:1024", &["t1"]);
    cluster.input(Input::RegistryChanged(Box::new(record("s1", AgentState::Gone))));
    let statuses = cluster.take_statuses(&framework.1);
    let expected = (TaskState::TaskGoneByOperator, Reason::AgentRemovedByOperator);
    assert_eq!((statuses[0].state(), statuses[0].reason()), expected);
    assert_eq!(cluster.tasks()["t1"].1, TaskPlace::Completed);
    let link = cluster.link(report);
    let commands = cluster.take_commands(link);
    let [Body::Refused(refused)] = commands.as_slice() else { panic!("{commands:?}") };
    assert_eq!(refused.reason, "Agent has been marked gone");
    cluster.reconcile(&framework, &[("x", Some("s1"))]);
    assert_eq!(cluster.take_statuses(&framework.1)[0].state(), TaskState::TaskGoneByOperator);
}

#[test]
fn a_removed_agent_loses_its_tasks() {
    let (mut cluster, framework, _) = Harness::with_running_task(info("a"));
    cluster.input(Input::RegistrySnapshot(Vec::new()));
    let events = cluster.take(&framework.1);
    let status = &events[0].update.as_ref().unwrap().status;
    assert_eq!((status.state(), status.reason()), (TaskState::TaskLost, Reason::AgentRemoved));
    assert_eq!(events.last().unwrap().r#type(), event::Type::Failure);
    assert!(cluster.core.snapshot().agents.is_empty());
}

#[test]
fn a_link_of_an_unknown_agent_waits_and_is_refused_in_the_end() {
    let mut cluster = Harness::new();
    let link = cluster.link(report("s1", "cpus:4;mem:1024"));
    cluster.advance(4_999);
    assert!(cluster.take_commands(link).is_empty());
    cluster.advance(1);
    assert!(matches!(cluster.take_commands(link).as_slice(), [Body::Refused(_)]));
    assert_eq!(cluster.closed_links, [link]);
}

#[test]
fn a_second_link_replaces_the_first() {
    let (mut cluster, framework, first) = Harness::with_running_task(info("a"));
    let report = cluster.report_with("s1", "cpus:4;mem:1024", &["t1"]);
    let second = cluster.link(report);
    assert_eq!(cluster.closed_links, [first]);
    cluster.input(Input::AgentUnlinked { link: first });
    assert!(cluster.core.snapshot().agents[0].connected, "the end of the old link means nothing");
    cluster.update(second, &framework.0, "t1", TaskState::TaskFinished, 2);
    assert_eq!(cluster.tasks()["t1"].0, TaskState::TaskFinished);
}

#[test]
fn a_launch_that_never_arrived_is_dropped_when_the_agent_links_again() {
    let mut cluster = Harness::new();
    let link = cluster.agent("s1", "cpus:4;mem:1024");
    let framework = cluster.subscribe(info("a"));
    let offer = cluster.take_offers(&framework.1).remove(0);
    cluster.accept(&framework, &[&offer], vec![launch(vec![task("t1", "s1", "cpus:1")])]);
    cluster.input(Input::AgentUnlinked { link });
    cluster.take(&framework.1);
    cluster.link(report("s1", "cpus:4;mem:1024"));
    let statuses = cluster.take_statuses(&framework.1);
    assert_eq!((statuses[0].state(), statuses[0].reason()), (TaskState::TaskDropped, Reason::Reconciliation));
    assert_eq!(cluster.tasks()["t1"], (TaskState::TaskDropped, TaskPlace::Completed));
}

#[test]
fn a_kill_stands_until_the_task_has_ended_over_any_number_of_links() {
    let (mut cluster, framework, first) = Harness::with_running_task(info("a"));
    let report = cluster.report_with("s1", "cpus:4;mem:1024", &["t1"]);
    cluster.kill(&framework, "t1");
    assert!(matches!(cluster.take_commands(first).as_slice(), [Body::Kill(_)]));
    // It never arrived.
    cluster.input(Input::AgentUnlinked { link: first });
    let second = cluster.link(report.clone());
    assert!(matches!(cluster.take_commands(second).as_slice(), [Body::Accepted(_), Body::Kill(_)]));
    cluster.update(second, &framework.0, "t1", TaskState::TaskKilled, 2);
    cluster.acknowledge(&framework, "s1", "t1", 2);
    cluster.input(Input::AgentUnlinked { link: second });
    let third = cluster.link(cluster.report_with("s1", "cpus:4;mem:1024", &[]));
    assert!(!cluster.take_commands(third).iter().any(|command| matches!(command, Body::Kill(_))));
}

#[test]
fn a_task_that_was_declared_over_and_turns_up_again_is_told_of() {
    let (mut cluster, framework, link) = Harness::with_running_task(info("a"));
    let full = cluster.report_with("s1", "cpus:4;mem:1024", &["t1"]);
    cluster.input(Input::AgentUnlinked { link });
    cluster.link(cluster.report_with("s1", "cpus:4;mem:1024", &[]));
    assert_eq!(cluster.take_statuses(&framework.1)[0].state(), TaskState::TaskGone);
    cluster.link(full);
    let statuses = cluster.take_statuses(&framework.1);
    let told: Vec<_> = statuses.iter().map(|s| (s.state(), s.reason())).collect();
    assert_eq!(told, [(TaskState::TaskRunning, Reason::AgentReregistered)]);
}

#[test]
fn offers_tell_of_maintenance() {
    let mut cluster = Harness::new();
    cluster.agent("s1", "cpus:4;mem:1024");
    let framework = cluster.subscribe(info("a"));
    assert_eq!(cluster.take_offers(&framework.1)[0].unavailability, None);
    let start = pb::TimeInfo { nanoseconds: 7 };
    let planned = Some(pb::Unavailability { start, duration: None });
    let mut known = record("s1", AgentState::Connected);
    known.unavailability = planned;
    cluster.input(Input::RegistryChanged(Box::new(known.clone())));
    let events = cluster.take(&framework.1);
    assert_eq!(kinds(&events), [event::Type::Rescind, event::Type::Offers]);
    assert_eq!(events[1].offers.as_ref().unwrap().offers[0].unavailability, planned);
    cluster.input(Input::RegistryChanged(Box::new(known)));
    assert!(cluster.take(&framework.1).is_empty(), "nothing has changed");
}
