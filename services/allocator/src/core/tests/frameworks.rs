//! Frameworks that come, go, fail over, and outlive a leader.

use meshos_proto::{
    meshos::{
        allocator::v1::{TaskPlace, allocator_message::Body},
        registry::v1::AgentState,
    },
    mesos::v1::{
        self as pb, TaskState,
        scheduler::{Call, call, event},
    },
};

use super::{super::*, harness::*};

fn with_id(info: pb::FrameworkInfo, id: &FrameworkId) -> pb::FrameworkInfo {
    pb::FrameworkInfo { id: Some(id.to_proto()), ..info }
}

fn revive(framework: &FrameworkId) -> Call {
    Call { revive: Some(call::Revive::default()), ..call(framework, call::Type::Revive) }
}

#[test]
fn mesos_c9_c10_c11_calls_name_their_stream_and_framework() {
    let mut cluster = Harness::new();
    let (framework, stream) = cluster.subscribe(info("a"));
    let mut refusal = |stream: &str, framework: &str| {
        let call = revive(&FrameworkId::new(framework));
        cluster.try_call(&stream.to_owned(), call).unwrap_err().to_string()
    };
    assert_eq!(
        refusal("", framework.as_str()),
        "All non-subscribe calls should include the 'Mesos-Stream-Id' header"
    );
    assert_eq!(
        refusal("other", "m-0000"),
        "The stream ID 'other' included in this request didn't match the stream ID currently associated with \
         framework ID m-0000"
    );
    assert_eq!(refusal(&stream, "m-0009"), "Framework cannot be found");
    let missing = cluster.try_call(&stream, Call { framework_id: None, ..revive(&framework) });
    assert_eq!(
        missing.unwrap_err().to_string(),
        "Failed to validate scheduler::Call: Expecting 'framework_id' to be present"
    );
    let empty = cluster.try_call(&stream, call(&framework, call::Type::Kill)).unwrap_err();
    assert_eq!(empty.to_string(), "Failed to validate scheduler::Call: Expecting 'kill' to be present");
    cluster.input(Input::StreamClosed { stream: stream.clone() });
    let away = cluster.try_call(&stream, revive(&framework)).unwrap_err();
    assert_eq!(away, CallError::Forbidden("Framework is not subscribed".to_owned()));
}

#[test]
fn mesos_c75_an_acknowledgement_needs_a_real_uuid() {
    let (mut cluster, framework, _) = Harness::with_running_task(info("a"));
    for uuid in [vec![1; 15], vec![0; 16]] {
        let acknowledge = call::Acknowledge { uuid: uuid.into(), ..Default::default() };
        let call = Call { acknowledge: Some(acknowledge), ..call(&framework.0, call::Type::Acknowledge) };
        let error = cluster.try_call(&framework.1, call).unwrap_err();
        assert_eq!(error.to_string(), "Failed to validate scheduler::Call: Not a valid UUID");
    }
}

#[test]
fn mesos_c57_a_framework_without_failover_timeout_is_removed_when_its_stream_ends() {
    let (mut cluster, framework, link) =
        Harness::with_running_task(pb::FrameworkInfo { failover_timeout: None, ..info("a") });
    cluster.input(Input::StreamClosed { stream: framework.1.clone() });
    assert!(matches!(cluster.take_commands(link).as_slice(), [Body::ShutdownFramework(_)]));
    assert_eq!(cluster.tasks()["t1"], (TaskState::TaskKilled, TaskPlace::Completed));
    assert!(cluster.records.last().unwrap().removed);
    let snapshot = cluster.core.snapshot();
    assert!(snapshot.frameworks[0].completed && snapshot.agents[0].used.is_empty());
}

#[test]
fn mesos_c57_a_framework_may_be_away_for_its_failover_timeout() {
    let (mut cluster, framework, link) = Harness::with_running_task(info("a"));
    cluster.input(Input::StreamClosed { stream: framework.1.clone() });
    assert_eq!(cluster.records.last().unwrap().disconnected_at_ms, cluster.now);
    cluster.advance(59_000);
    let (id, stream) = cluster.subscribe(with_id(info("a"), &framework.0));
    assert_eq!(id, framework.0);
    assert_eq!(cluster.records.last().unwrap().disconnected_at_ms, 0);
    cluster.advance(120_000);
    assert_eq!(cluster.tasks()["t1"].0, TaskState::TaskRunning);
    cluster.input(Input::StreamClosed { stream });
    cluster.advance(60_000);
    assert_eq!(cluster.tasks()["t1"], (TaskState::TaskKilled, TaskPlace::Completed));
    assert!(matches!(cluster.take_commands(link).as_slice(), [Body::ShutdownFramework(_)]));
}

#[test]
fn mesos_c58_a_second_subscribe_takes_over() {
    let (mut cluster, framework, _) = Harness::with_running_task(info("a"));
    cluster.advance(5_000);
    let old_offer = cluster.take_offers(&framework.1).remove(0);
    let (id, stream) = cluster.subscribe(with_id(info("a"), &framework.0));
    assert_eq!(id, framework.0);
    let events = cluster.take(&framework.1);
    assert_eq!(events.last().unwrap().error.as_ref().unwrap().message, "Framework failed over");
    assert!(!kinds(&events).contains(&event::Type::Rescind));
    assert_eq!(cluster.closed, std::slice::from_ref(&framework.1));
    assert!(cluster.try_call(&framework.1, revive(&id)).is_err());
    let offers = cluster.take_offers(&stream);
    assert!(offers.len() == 1 && offers[0].id != old_offer.id);
    cluster.input(Input::StreamClosed { stream: framework.1.clone() });
    assert!(cluster.core.snapshot().frameworks[0].connected, "the end of the old stream means nothing");
}

#[test]
fn mesos_c59_c61_teardown() {
    let (mut cluster, framework, link) = Harness::with_running_task(info("a"));
    let report = cluster.report_with("s1", "cpus:4;mem:1024", &["t1"]);
    let unknown = cluster.try_input(Input::Teardown { framework: FrameworkId::new("x") }).unwrap_err();
    assert_eq!(unknown.to_string(), "No framework found with specified ID");
    cluster.input(Input::Teardown { framework: framework.0.clone() });
    assert_eq!(cluster.closed, std::slice::from_ref(&framework.1));
    assert!(matches!(cluster.take_commands(link).as_slice(), [Body::ShutdownFramework(_)]));
    let stream = cluster.subscribe_any(with_id(info("a"), &framework.0));
    assert_eq!(cluster.take(&stream)[0].error.as_ref().unwrap().message, "Framework has been removed");
    // An agent that was away brings the tasks back: they are not taken up.
    let link = cluster.link(report);
    assert!(matches!(
        cluster.take_commands(link).as_slice(),
        [Body::Accepted(_), Body::ShutdownFramework(_)]
    ));
    assert_eq!(cluster.tasks()["t1"].1, TaskPlace::Completed);
}

#[test]
fn mesos_c60_a_new_leader_learns_tasks_from_agents_and_frameworks_keep_their_ids() {
    let (cluster, framework, _) = Harness::with_running_task(info("a"));
    let (records, report) = (cluster.records.clone(), cluster.report_with("s1", "cpus:4;mem:1024", &["t1"]));
    let mut leader = Harness::new();
    leader.input(Input::FrameworkRecords(records));
    leader.input(Input::RegistrySnapshot(vec![record("s1", AgentState::Connected)]));
    assert!(leader.core.snapshot().frameworks[0].recovered && leader.core.snapshot().agents[0].recovered);
    let again = leader.subscribe(with_id(info("a"), &framework.0));
    assert_eq!(again.0, framework.0);
    leader.link(report);
    assert_eq!(leader.tasks()["t1"], (TaskState::TaskRunning, TaskPlace::Live));
    assert_eq!(cpus(&leader.take_offers(&again.1)[0].resources), 3.0);
}

#[test]
fn the_failover_timeout_goes_on_under_the_next_leader() {
    let (mut cluster, framework, _) = Harness::with_running_task(info("a"));
    cluster.input(Input::StreamClosed { stream: framework.1 });
    let record = cluster.records.pop().unwrap();
    let mut leader = Harness::new();
    leader.now = START + 30_000;
    leader.input(Input::FrameworkRecords(vec![record]));
    leader.advance(29_000);
    assert!(leader.records.is_empty());
    leader.advance(1_000);
    assert!(leader.records[0].removed);
}

#[test]
fn a_framework_that_was_connected_has_time_to_notice_the_new_leader() {
    let (cluster, _, _) =
        Harness::with_running_task(pb::FrameworkInfo { failover_timeout: None, ..info("a") });
    let mut leader = Harness::new();
    leader.input(Input::FrameworkRecords(cluster.records.clone()));
    leader.advance(599_000);
    assert!(leader.records.is_empty());
    leader.advance(1_000);
    assert!(leader.records[0].removed);
}

#[test]
fn a_removed_framework_stays_removed_under_the_next_leader() {
    let (mut cluster, framework, _) = Harness::with_running_task(info("a"));
    let report = cluster.report_with("s1", "cpus:4;mem:1024", &["t1"]);
    cluster.input(Input::Teardown { framework: framework.0.clone() });
    let mut leader = Harness::new();
    leader.input(Input::FrameworkRecords(vec![cluster.records.pop().unwrap()]));
    leader.input(Input::RegistrySnapshot(vec![record("s1", AgentState::Connected)]));
    let link = leader.link(report);
    assert!(matches!(leader.take_commands(link).as_slice(), [Body::Accepted(_), Body::ShutdownFramework(_)]));
    assert!(leader.tasks().is_empty());
    let stream = leader.subscribe_any(with_id(info("a"), &framework.0));
    assert_eq!(leader.take(&stream)[0].error.as_ref().unwrap().message, "Framework has been removed");
}

#[test]
fn the_user_stays_and_the_principal_may_not_change() {
    let mut cluster = Harness::new();
    let (id, _) = cluster.subscribe(info("a"));
    cluster.subscribe(with_id(pb::FrameworkInfo { user: "other".to_owned(), ..info("b") }, &id));
    let known = cluster.core.snapshot().frameworks[0].info.clone().unwrap();
    assert_eq!((known.user.as_str(), known.name.as_str()), ("nobody", "b"));
    let changed = pb::FrameworkInfo { principal: Some("p".to_owned()), ..info("a") };
    let stream = cluster.subscribe_any(with_id(changed, &id));
    let message = &cluster.take(&stream)[0].error.as_ref().unwrap().message.clone();
    assert_eq!(message, "Changing framework's principal is not allowed.");
    assert!(cluster.core.snapshot().frameworks[0].connected);
}

#[test]
fn an_agent_may_link_before_its_framework_subscribes() {
    let (cluster, framework, _) = Harness::with_running_task(info("a"));
    let (records, report) = (cluster.records.clone(), cluster.report_with("s1", "cpus:4;mem:1024", &["t1"]));
    // Known from the registry, or from the agent alone.
    for records in [records, Vec::new()] {
        let mut leader = Harness::new();
        leader.input(Input::FrameworkRecords(records));
        leader.input(Input::RegistrySnapshot(vec![record("s1", AgentState::Connected)]));
        leader.link(report.clone());
        let shown = leader.core.snapshot().frameworks.remove(0);
        assert!(shown.recovered && !shown.connected && !shown.active);
        assert_eq!(leader.tasks()["t1"], (TaskState::TaskRunning, TaskPlace::Live));
        let again = leader.subscribe(with_id(info("a"), &framework.0));
        let events = leader.take(&again.1);
        assert_eq!(kinds(&events), [event::Type::Subscribed, event::Type::Heartbeat, event::Type::Offers]);
        assert_eq!(cpus(&events[2].offers.as_ref().unwrap().offers[0].resources), 3.0);
    }
}

#[test]
fn readers_see_what_a_framework_asked_for() {
    use pb::scheduler::{OfferConstraints, offer_constraints::RoleConstraints};
    let mut cluster = Harness::new();
    let (id, stream) = cluster.subscribe(info("a"));
    let shown = |cluster: &Harness| cluster.core.snapshot().frameworks.remove(0);
    assert_eq!((shown(&cluster).offer_constraints, shown(&cluster).suppressed_roles), (None, Vec::new()));
    let exists = pb::scheduler::AttributeConstraint {
        selector: pb::scheduler::attribute_constraint::Selector {
            selector: Some(pb::scheduler::attribute_constraint::selector::Selector::AttributeName(
                "x".to_owned(),
            )),
        },
        predicate: pb::scheduler::attribute_constraint::Predicate {
            predicate: Some(pb::scheduler::attribute_constraint::predicate::Predicate::Exists(
                pb::scheduler::attribute_constraint::predicate::Exists {},
            )),
        },
    };
    let group =
        pb::scheduler::offer_constraints::role_constraints::Group { attribute_constraints: vec![exists] };
    let constraints = OfferConstraints {
        role_constraints: [("*".to_owned(), RoleConstraints { groups: vec![group] })].into(),
    };
    let update = call::UpdateFramework {
        framework_info: with_id(info("a"), &id),
        suppressed_roles: vec!["*".to_owned()],
        offer_constraints: Some(constraints.clone()),
    };
    cluster.call(&stream, Call { update_framework: Some(update), ..call(&id, call::Type::UpdateFramework) });
    assert_eq!(shown(&cluster).offer_constraints, Some(constraints));
    assert_eq!(shown(&cluster).suppressed_roles, ["*"]);
    cluster.call(&stream, revive(&id));
    assert!(shown(&cluster).suppressed_roles.is_empty());
}
