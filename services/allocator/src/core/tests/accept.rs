//! ACCEPT.

use meshos_proto::{
    meshos::allocator::v1::{TaskPlace, allocator_message::Body},
    mesos::v1::{
        self as pb, TaskState,
        scheduler::{Call, call},
        task_status::Reason,
    },
};

use super::harness::*;
use crate::core::{CoreConfig, FrameworkId, StreamId};

fn verdicts(statuses: &[pb::TaskStatus]) -> Vec<(&str, TaskState, Reason)> {
    statuses.iter().map(|s| (s.task_id.value.as_str(), s.state(), s.reason())).collect()
}

#[test]
fn an_accepted_task_is_launched_and_the_rest_comes_back_later() {
    let mut cluster = Harness::new();
    let link = cluster.agent("s1", "cpus:4;mem:1024");
    let framework = cluster.subscribe(info("a"));
    let offer = cluster.take_offers(&framework.1).remove(0);
    cluster.take_commands(link);
    cluster.accept(&framework, &[&offer], vec![launch(vec![task("t1", "s1", "cpus:1;mem:64")])]);
    let commands = cluster.take_commands(link);
    let [Body::Launch(launched)] = commands.as_slice() else { panic!("{commands:?}") };
    assert_eq!(launched.tasks[0].task_id.value, "t1");
    assert_eq!(launched.tasks[0].resources[0].allocation_info.as_ref().unwrap().role.as_deref(), Some("*"));
    assert_eq!(launched.framework.as_ref().unwrap().id.as_ref().unwrap().value, framework.0.as_str());
    assert_eq!(cluster.tasks()["t1"], (TaskState::TaskStaging, TaskPlace::Live));
    assert!(cluster.take_offers(&framework.1).is_empty());
    cluster.advance(5_000);
    assert_eq!(cpus(&cluster.take_offers(&framework.1)[0].resources), 3.0);
}

#[test]
fn mesos_c27_c30_a_task_that_wants_too_much_fails_alone() {
    let mut cluster = Harness::new();
    cluster.agent("s1", "cpus:2;mem:1024");
    let framework = cluster.subscribe(info("a"));
    let offer = cluster.take_offers(&framework.1).remove(0);
    let tasks = vec![task("big", "s1", "cpus:3"), task("small", "s1", "cpus:1")];
    cluster.accept(&framework, &[&offer], vec![launch(tasks)]);
    let statuses = cluster.take_statuses(&framework.1);
    assert_eq!(verdicts(&statuses), [("big", TaskState::TaskError, Reason::TaskInvalid)]);
    assert_eq!(statuses[0].source(), pb::task_status::Source::Master);
    assert!(statuses[0].uuid.is_none());
    assert_eq!(statuses[0].message(), "Task uses more resources cpus:3 than available cpus:2; mem:1024");
    assert_eq!(cluster.tasks().keys().collect::<Vec<_>>(), ["small"]);
}

#[test]
fn without_root_submissions_no_task_runs_as_root() {
    for (allowed, expected) in
        [(false, vec![("t", TaskState::TaskError, Reason::TaskUnauthorized)]), (true, vec![])]
    {
        let mut cluster = Harness::with(CoreConfig { root_submissions: allowed, ..config() });
        cluster.agent("s1", "cpus:2;mem:1024");
        let framework = cluster.subscribe(info("a"));
        let offer = cluster.take_offers(&framework.1).remove(0);
        let mut as_root = task("t", "s1", "cpus:1");
        as_root.command.as_mut().unwrap().user = Some("root".to_owned());
        cluster.accept(&framework, &[&offer], vec![launch(vec![as_root, task("other", "s1", "cpus:1")])]);
        let statuses = cluster.take_statuses(&framework.1);
        assert_eq!(verdicts(&statuses), expected);
        assert_eq!(cluster.tasks().contains_key("t"), allowed);
        assert!(cluster.tasks().contains_key("other"));
        assert!(statuses.iter().all(|status| status.message().contains("--root_submissions")));
    }
}

#[test]
fn mesos_c28_stale_offers_drop_the_tasks_and_return_the_others_unfiltered() {
    let mut cluster = Harness::new();
    cluster.agent("s1", "cpus:2;mem:1024");
    let framework = cluster.subscribe(info("a"));
    let offer = cluster.take_offers(&framework.1).remove(0);
    let stale = pb::Offer { id: pb::OfferId { value: "m-O99".to_owned() }, ..offer.clone() };
    cluster.accept(&framework, &[&offer, &stale], vec![launch(vec![task("t", "s1", "cpus:1")])]);
    let events = cluster.take(&framework.1);
    let status = &events[0].update.as_ref().unwrap().status;
    assert_eq!((status.state(), status.reason()), (TaskState::TaskDropped, Reason::InvalidOffers));
    assert_eq!(status.message(), "Task launched with invalid offers: Offer m-O99 is no longer valid");
    assert_eq!(events[1].offers.as_ref().unwrap().offers.len(), 1, "returned without a filter");
    assert!(cluster.tasks().is_empty());
}

#[test]
fn a_framework_that_knows_no_partitions_hears_lost_instead_of_dropped() {
    let mut cluster = Harness::new();
    cluster.agent("s1", "cpus:2;mem:1024");
    let framework = cluster.subscribe(pb::FrameworkInfo { capabilities: Vec::new(), ..info("a") });
    cluster.take(&framework.1);
    cluster.accept(&framework, &[], vec![launch(vec![task("t", "s1", "cpus:1")])]);
    let statuses = cluster.take_statuses(&framework.1);
    assert_eq!(verdicts(&statuses), [("t", TaskState::TaskLost, Reason::InvalidOffers)]);
}

#[test]
fn another_frameworks_offer_stays_with_its_owner() {
    let mut cluster = Harness::new();
    cluster.agent("s1", "cpus:2;mem:1024");
    let owner = cluster.subscribe(info("a"));
    let thief = cluster.subscribe(info("b"));
    let offer = cluster.take_offers(&owner.1).remove(0);
    cluster.take(&thief.1);
    cluster.accept(&thief, &[&offer], vec![launch(vec![task("t", "s1", "cpus:1")])]);
    assert_eq!(verdicts(&cluster.take_statuses(&thief.1))[0].2, Reason::InvalidOffers);
    cluster.accept(&owner, &[&offer], vec![launch(vec![task("t", "s1", "cpus:1")])]);
    assert_eq!(cluster.tasks().len(), 1);
}

#[test]
fn mesos_c29_a_live_task_id_is_refused_and_the_first_task_untouched() {
    let (mut cluster, framework, _) = Harness::with_running_task(info("a"));
    cluster.advance(5_000);
    let offer = cluster.take_offers(&framework.1).remove(0);
    cluster.accept(&framework, &[&offer], vec![launch(vec![task("t1", "s1", "cpus:1")])]);
    let statuses = cluster.take_statuses(&framework.1);
    assert_eq!(verdicts(&statuses), [("t1", TaskState::TaskError, Reason::TaskInvalid)]);
    assert_eq!(statuses[0].message(), "Task has duplicate ID: t1");
    assert_eq!(cluster.tasks()["t1"], (TaskState::TaskRunning, TaskPlace::Live));
}

#[test]
fn mesos_c33_c34_an_operation_that_fails_is_dropped_and_later_ones_run() {
    let mut cluster = Harness::new();
    cluster.agent("s1", "cpus:2;mem:1024");
    let framework = cluster.subscribe(info("a"));
    let offer = cluster.take_offers(&framework.1).remove(0);
    let reserve = |id: Option<&str>| pb::offer::Operation {
        r#type: Some(pb::offer::operation::Type::Reserve.into()),
        id: id.map(|id| pb::OperationId { value: id.to_owned() }),
        ..Default::default()
    };
    let operations = vec![reserve(None), reserve(Some("op")), launch(vec![task("t", "s1", "cpus:1")])];
    cluster.accept(&framework, &[&offer], operations);
    let events = cluster.take(&framework.1);
    let operations: Vec<_> =
        events.iter().filter_map(|event| event.update_operation_status.as_ref()).collect();
    assert_eq!(operations.len(), 1);
    assert_eq!(operations[0].status.state(), pb::OperationState::OperationError);
    assert!(operations[0].status.uuid.is_none());
    assert_eq!(cluster.tasks().len(), 1);
}

#[test]
fn tasks_that_break_a_rule_are_refused_with_its_text() {
    type Spoil = fn(&mut pb::TaskInfo);
    let cases: [(Spoil, &str); 9] = [
        (
            |t| {
                let linux_info = Some(pb::LinuxInfo { share_cgroups: Some(false), ..Default::default() });
                let r#type = pb::container_info::Type::Mesos.into();
                t.container = Some(pb::ContainerInfo { r#type, linux_info, ..Default::default() });
            },
            "'linux_info.share_cgroups' must not be false",
        ),
        (|t| t.task_id.value = "a/b".to_owned(), "contains the invalid character '/'"),
        (|t| t.agent_id.value = "s9".to_owned(), "Task uses invalid agent s9 while agent s1 is expected"),
        (
            |t| {
                t.kill_policy =
                    Some(pb::KillPolicy { grace_period: Some(pb::DurationInfo { nanoseconds: -1 }) })
            },
            "'kill_policy.grace_period' must be non-negative",
        ),
        (|t| t.resources.clear(), "Task uses no resources"),
        (|t| t.command = None, "at least one (but not both) of CommandInfo or ExecutorInfo"),
        (|t| t.executor = Some(pb::ExecutorInfo::default()), "at least one (but not both)"),
        (|t| t.health_check = Some(pb::HealthCheck::default()), "Task uses invalid health check"),
        (
            |t| {
                t.limits.insert("cpus".to_owned(), pb::value::Scalar { value: 2.0 });
            },
            "task resource limits",
        ),
    ];
    for (spoil, text) in cases {
        let mut cluster = Harness::new();
        cluster.agent("s1", "cpus:2;mem:1024");
        let framework = cluster.subscribe(info("a"));
        let offer = cluster.take_offers(&framework.1).remove(0);
        let mut bad = task("t", "s1", "cpus:1");
        spoil(&mut bad);
        cluster.accept(&framework, &[&offer], vec![launch(vec![bad])]);
        let statuses = cluster.take_statuses(&framework.1);
        assert_eq!(statuses[0].state(), TaskState::TaskError);
        assert!(statuses[0].message().contains(text), "{} does not contain {text}", statuses[0].message());
        assert!(cluster.tasks().is_empty());
    }
}

/// An ACCEPT of one offer that refuses nothing of the rest.
fn accept_all(
    cluster: &mut Harness,
    (framework, stream): &(FrameworkId, StreamId),
    offer: &pb::Offer,
    tasks: Vec<pb::TaskInfo>,
) {
    let filters = Some(pb::Filters { refuse_seconds: Some(0.0) });
    let accept = call::Accept { offer_ids: vec![offer.id.clone()], operations: vec![launch(tasks)], filters };
    cluster.call(stream, Call { accept: Some(accept), ..call(framework, call::Type::Accept) });
}

#[test]
fn mesos_c17_who_launches_and_refuses_nothing_is_offered_the_rest_at_once() {
    let mut cluster = Harness::new();
    cluster.agent("s1", "cpus:4;mem:1024");
    let framework = cluster.subscribe(info("a"));
    for (number, left) in [(1, 3.0), (2, 2.0), (3, 1.0)] {
        let offer = cluster.take_offers(&framework.1).remove(0);
        accept_all(&mut cluster, &framework, &offer, vec![task(&format!("t{number}"), "s1", "cpus:1")]);
        let rest = cluster.take(&framework.1);
        assert_eq!(cpus(&rest[0].offers.as_ref().unwrap().offers[0].resources), left);
        cluster.events.insert(framework.1.clone(), rest);
    }
    // Who launches nothing would be offered the same without end: it waits for the next interval.
    let offer = cluster.take_offers(&framework.1).remove(0);
    accept_all(&mut cluster, &framework, &offer, vec![task("large", "s1", "cpus:9")]);
    assert!(cluster.take_offers(&framework.1).is_empty());
    cluster.advance(1_000);
    assert_eq!(cluster.take_offers(&framework.1).len(), 1);
}
