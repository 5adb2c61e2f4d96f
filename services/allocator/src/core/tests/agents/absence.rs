//! Agents that are away: what a new leader says of them, and what is lost with them.

use meshos_proto::{
    meshos::{allocator::v1::TaskPlace, registry::v1::AgentState},
    mesos::v1::{self as pb, TaskState, task_status::Reason},
};

use super::super::{super::*, harness::*};

/// A new leader that knows agent and framework from the registry and from before; nobody has linked.
fn new_leader(old: &Harness, framework: &FrameworkId) -> (Harness, (FrameworkId, StreamId)) {
    let mut cluster = Harness::new();
    cluster.input(Input::FrameworkRecords(old.records.clone()));
    cluster.input(Input::RegistrySnapshot(vec![record("s1", AgentState::Connected)]));
    let known = pb::FrameworkInfo { id: Some(framework.to_proto()), ..info("a") };
    let framework = cluster.subscribe(known);
    cluster.take(&framework.1);
    (cluster, framework)
}

#[test]
fn what_was_asked_while_an_agent_was_awaited_is_answered_when_it_links() {
    let (old, framework, _) = Harness::with_running_task(info("a"));
    let report = old.report_with("s1", "cpus:4;mem:1024", &["t1"]);
    let (mut cluster, framework) = new_leader(&old, &framework.0);
    cluster.reconcile(&framework, &[("t2", Some("s1"))]);
    cluster.reconcile(&framework, &[]);
    assert!(cluster.take(&framework.1).is_empty(), "nobody can know yet");
    cluster.link(report.clone());
    let statuses = cluster.take_statuses(&framework.1);
    let told: Vec<_> = statuses.iter().map(|s| (s.task_id.value.as_str(), s.state(), s.reason())).collect();
    let reason = Reason::Reconciliation;
    assert_eq!(told, [("t1", TaskState::TaskRunning, reason), ("t2", TaskState::TaskGone, reason)]);
    cluster.link(report);
    assert!(cluster.take_statuses(&framework.1).is_empty(), "answered once");
}

#[test]
fn what_was_asked_of_an_agent_that_does_not_come_is_answered_as_well() {
    let (old, framework, _) = Harness::with_running_task(info("a"));
    let (mut cluster, framework) = new_leader(&old, &framework.0);
    cluster.reconcile(&framework, &[("t1", Some("s1"))]);
    cluster.input(Input::RegistryChanged(Box::new(record("s1", AgentState::Unreachable))));
    let statuses = cluster.take_statuses(&framework.1);
    assert_eq!(statuses.iter().map(|s| s.state()).collect::<Vec<_>>(), [TaskState::TaskUnreachable]);
}

#[test]
fn a_new_stream_asks_anew() {
    let (old, framework, _) = Harness::with_running_task(info("a"));
    let report = old.report_with("s1", "cpus:4;mem:1024", &["t1"]);
    let (mut cluster, framework) = new_leader(&old, &framework.0);
    cluster.reconcile(&framework, &[]);
    let known = pb::FrameworkInfo { id: Some(framework.0.to_proto()), ..info("a") };
    let framework = cluster.subscribe(known);
    cluster.take(&framework.1);
    cluster.link(report);
    assert!(cluster.take_statuses(&framework.1).is_empty());
}

/// What the framework hears when its agent's process ends.
fn told_of_a_disconnection(checkpoint: bool) -> (Harness, Vec<pb::TaskStatus>) {
    let about = pb::FrameworkInfo { checkpoint: Some(checkpoint), ..info("a") };
    let (mut cluster, framework, link) = Harness::with_running_task(about);
    cluster.input(Input::AgentUnlinked { link });
    assert!(cluster.take_statuses(&framework.1).is_empty(), "a link may break without that");
    cluster.input(Input::RegistryChanged(Box::new(record("s1", AgentState::Disconnected))));
    let statuses = cluster.take_statuses(&framework.1);
    (cluster, statuses)
}

#[test]
fn mesos_c51_tasks_that_nobody_saves_are_lost_with_the_connection() {
    let (cluster, statuses) = told_of_a_disconnection(false);
    let told: Vec<_> = statuses.iter().map(|s| (s.state(), s.reason(), s.message())).collect();
    assert_eq!(told, [(TaskState::TaskLost, Reason::AgentDisconnected, "Agent s1 disconnected")]);
    assert_eq!(cluster.tasks()["t1"], (TaskState::TaskLost, TaskPlace::Completed));
    assert!(cluster.core.snapshot().agents[0].used.is_empty());

    let (cluster, statuses) = told_of_a_disconnection(true);
    assert!(statuses.is_empty());
    assert_eq!(cluster.tasks()["t1"], (TaskState::TaskRunning, TaskPlace::Live));
}

#[test]
fn a_new_leader_loses_nothing_before_it_has_heard_of_it() {
    let (old, framework, _) = Harness::with_running_task(info("a"));
    let report = old.report_with("s1", "cpus:4;mem:1024", &["t1"]);
    let (mut cluster, framework) = new_leader(&old, &framework.0);
    cluster.input(Input::RegistryChanged(Box::new(record("s1", AgentState::Disconnected))));
    cluster.link(report);
    assert!(cluster.take_statuses(&framework.1).is_empty());
    assert_eq!(cluster.tasks()["t1"], (TaskState::TaskRunning, TaskPlace::Live));
}

#[test]
fn mesos_c45_what_was_asked_is_answered_when_the_agent_times_out() {
    let (old, framework, _) = Harness::with_running_task(info("a"));
    for (state, answer) in [
        (AgentState::Unreachable, TaskState::TaskUnreachable),
        (AgentState::Gone, TaskState::TaskGoneByOperator),
        (AgentState::Removed, TaskState::TaskUnknown),
    ] {
        let (mut cluster, framework) = new_leader(&old, &framework.0);
        cluster.reconcile(&framework, &[("t1", Some("s1"))]);
        cluster.advance(60_000);
        assert!(cluster.take_statuses(&framework.1).is_empty(), "it may come back");
        cluster.input(Input::RegistryChanged(Box::new(record("s1", state))));
        let statuses = cluster.take_statuses(&framework.1);
        let told: Vec<_> = statuses.iter().map(|s| (s.state(), s.reason())).collect();
        assert_eq!(told, [(answer, Reason::Reconciliation)]);
        assert_eq!(statuses[0].unreachable_time.is_some(), state == AgentState::Unreachable);
    }
}
