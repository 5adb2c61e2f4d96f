//! Reservations and volumes.

use meshos_proto::{
    meshos::allocator::v1::{ApplyRequest, OperationUpdate, allocator_message::Body},
    mesos::v1::{
        self as pb, OperationState, TaskState,
        framework_info::{Capability, capability::Type as CapabilityType},
        offer::{
            Operation,
            operation::{self, Type},
        },
        resource::disk_info,
        scheduler::{Call, call, event},
    },
};
use meshos_types::{Disk, Format, Reservation, Resource, Resources, RoleName, parse_resources};

use super::{super::*, harness::*};

pub(crate) fn plain(text: &str) -> Resources {
    parse_resources(text, &RoleName::star()).unwrap().resources
}

pub(crate) fn reserved(text: &str, role: &str) -> Resources {
    plain(text).push_reservation(&Reservation::dynamic(RoleName::new(role), None))
}

pub(crate) fn volume(text: &str, role: &str, id: &str) -> Resources {
    let make = |resource: Resource| {
        let disk = pb::resource::DiskInfo {
            persistence: Some(disk_info::Persistence { id: id.to_owned(), principal: None }),
            volume: Some(pb::Volume { container_path: "data".to_owned(), ..pb::Volume::default() }),
            ..pb::resource::DiskInfo::default()
        };
        Resource { disk: Some(Disk::new(disk)), ..resource }
    };
    reserved(text, role).into_iter().map(make).collect()
}

pub(crate) fn messages(resources: &Resources) -> Vec<pb::Resource> {
    resources.to_proto(Format::PostRefinement)
}

pub(crate) fn operation(kind: Type, resources: &Resources) -> Operation {
    let resources = messages(resources);
    let mut operation = Operation { r#type: Some(kind.into()), ..Operation::default() };
    match kind {
        Type::Reserve => operation.reserve = Some(operation::Reserve { resources, source: Vec::new() }),
        Type::Unreserve => operation.unreserve = Some(operation::Unreserve { resources }),
        Type::Create => operation.create = Some(operation::Create { volumes: resources }),
        Type::Destroy => operation.destroy = Some(operation::Destroy { volumes: resources }),
        _ => panic!("{kind:?}"),
    }
    operation
}

fn with_id(operation: Operation) -> Operation {
    Operation { id: Some(pb::OperationId { value: "op".to_owned() }), ..operation }
}

/// A framework in this role, which knows the newer format of reservations.
#[allow(deprecated, reason = "single-role frameworks use the field `role`")]
fn in_role(name: &str, role: &str) -> pb::FrameworkInfo {
    pb::FrameworkInfo { role: Some(role.to_owned()), ..info(name) }
}

fn capable(agent: &str, total: &str) -> meshos_proto::meshos::allocator::v1::Reregister {
    use pb::agent_info::{Capability, capability::Type};
    let capabilities = vec![Capability { r#type: Some(Type::AgentOperationFeedback.into()) }];
    meshos_proto::meshos::allocator::v1::Reregister { capabilities, ..report(agent, total) }
}

/// One agent with this total that tells of operations, and a framework in the role `eng`.
fn scene(total: &str) -> (Harness, (FrameworkId, StreamId), LinkId, pb::Offer) {
    use meshos_proto::meshos::registry::v1::AgentState;
    let mut cluster = Harness::new();
    cluster.input(Input::RegistryChanged(Box::new(record("s1", AgentState::Connected))));
    let link = cluster.link(capable("s1", total));
    let framework = cluster.subscribe(in_role("a", "eng"));
    let offer = cluster.take_offers(&framework.1).remove(0);
    cluster.take_commands(link);
    (cluster, framework, link, offer)
}

fn total(cluster: &Harness) -> Resources {
    cluster.core.agents[&AgentId::new("s1")].total.clone()
}

fn applied(commands: &[Body]) -> Vec<&str> {
    let name = |command: &Body| match command {
        Body::ApplyOperation(apply) => apply.operation.as_ref().unwrap().r#type().as_str_name(),
        Body::Launch(_) => "LAUNCH",
        other => panic!("{other:?}"),
    };
    commands.iter().map(name).collect()
}

#[test]
fn mesos_c32_reserve_create_and_launch_in_one_accept() {
    let (mut cluster, framework, link, offer) = scene("cpus:4;mem:1000;disk:500");
    let used = {
        let mut used = volume("disk:100", "eng", "v1");
        used.add_all(&reserved("cpus:1", "eng"));
        used
    };
    let task = pb::TaskInfo { resources: messages(&used), ..task("t", "s1", "cpus:1") };
    let operations = vec![
        operation(Type::Reserve, &reserved("cpus:2;disk:200", "eng")),
        operation(Type::Create, &volume("disk:100", "eng", "v1")),
        launch(vec![task]),
        operation(Type::Unreserve, &reserved("disk:100", "eng")),
    ];
    cluster.accept(&framework, &[&offer], operations);
    assert_eq!(cluster.tasks()["t"].0, TaskState::TaskStaging);
    let commands = cluster.take_commands(link);
    assert_eq!(applied(&commands), ["RESERVE", "CREATE", "UNRESERVE", "LAUNCH"]);
    let mut expected = plain("cpus:2;mem:1000;disk:400");
    expected.add_all(&reserved("cpus:2", "eng"));
    expected.add_all(&volume("disk:100", "eng", "v1"));
    assert_eq!(total(&cluster), expected);
    // What was made is not hidden by the filter on the rest.
    let offered = Resources::from_proto(&cluster.take_offers(&framework.1)[0].resources).unwrap();
    assert!(offered.contains(&reserved("cpus:1", "eng")), "{offered}");
}

#[test]
fn mesos_c33_a_failing_operation_is_dropped_and_the_next_ones_run() {
    let (mut cluster, framework, link, offer) = scene("cpus:4;mem:1000");
    let operations = vec![
        operation(Type::Reserve, &reserved("cpus:9", "eng")),
        operation(Type::Reserve, &reserved("cpus:1", "other")),
        launch(vec![task("t", "s1", "cpus:1")]),
    ];
    cluster.accept(&framework, &[&offer], operations);
    assert_eq!(applied(&cluster.take_commands(link)), ["LAUNCH"]);
    let events = cluster.take(&framework.1);
    assert!(events.iter().all(|event| event.update_operation_status.is_none()));
    assert!(cluster.tasks().contains_key("t"));
}

#[test]
fn mesos_c34_a_failing_operation_with_an_id_is_reported_without_uuid() {
    let (mut cluster, framework, _, offer) = scene("cpus:4;mem:1000");
    let reserve = with_id(operation(Type::Reserve, &reserved("cpus:9", "eng")));
    cluster.accept(&framework, &[&offer], vec![reserve]);
    let status = cluster.take(&framework.1)[0].update_operation_status.clone().unwrap().status;
    assert_eq!(status.state(), OperationState::OperationError);
    assert!(status.uuid.is_none() && status.operation_id.unwrap().value == "op");
}

/// The agent's answer to the operation that it was told last.
fn answer(cluster: &mut Harness, link: LinkId, state: OperationState) -> OperationUpdate {
    let commands = cluster.take_commands(link);
    let Some(Body::ApplyOperation(apply)) = commands.into_iter().next() else { panic!("no operation") };
    let operation_id = apply.operation.unwrap().id;
    let status = pb::OperationStatus {
        uuid: Some(pb::Uuid { value: vec![7; 16].into() }),
        state: state.into(),
        operation_id,
        ..pb::OperationStatus::default()
    };
    let update = OperationUpdate { framework_id: apply.framework_id, uuid: apply.uuid, status: Some(status) };
    cluster.input(Input::OperationUpdate { link, update: Box::new(update.clone()) });
    update
}

#[test]
fn what_became_of_an_operation_is_told_until_it_is_acknowledged() {
    let (mut cluster, framework, link, offer) = scene("cpus:4;mem:1000");
    let reserve = with_id(operation(Type::Reserve, &reserved("cpus:1", "eng")));
    cluster.accept(&framework, &[&offer], vec![reserve]);
    answer(&mut cluster, link, OperationState::OperationFinished);
    let told = |events: Vec<scheduler::Event>| -> Vec<OperationState> {
        let statuses = events.into_iter().filter_map(|event| event.update_operation_status);
        statuses.map(|update| update.status.state()).collect()
    };
    assert_eq!(told(cluster.take(&framework.1)), [OperationState::OperationFinished]);
    cluster.advance(10_000);
    assert_eq!(told(cluster.take(&framework.1)), [OperationState::OperationFinished]);
    cluster.advance(19_999);
    assert!(told(cluster.take(&framework.1)).is_empty());
    let acknowledge = call::AcknowledgeOperationStatus {
        agent_id: Some(pb::AgentId { value: "s1".to_owned() }),
        uuid: vec![7; 16].into(),
        operation_id: pb::OperationId { value: "op".to_owned() },
        ..call::AcknowledgeOperationStatus::default()
    };
    cluster.call(
        &framework.1,
        Call {
            acknowledge_operation_status: Some(acknowledge),
            ..call(&framework.0, call::Type::AcknowledgeOperationStatus)
        },
    );
    let commands = cluster.take_commands(link);
    assert!(matches!(commands.as_slice(), [Body::AcknowledgeOperation(_)]), "{commands:?}");
    cluster.advance(600_000);
    assert!(told(cluster.take(&framework.1)).is_empty());
    assert!(cluster.core.operations.is_empty());
}

#[test]
fn an_operation_that_never_reached_the_agent_is_dropped() {
    let (mut cluster, framework, link, offer) = scene("cpus:4;mem:1000");
    let reserve = with_id(operation(Type::Reserve, &reserved("cpus:1", "eng")));
    cluster.accept(&framework, &[&offer], vec![reserve]);
    cluster.take(&framework.1);
    cluster.input(Input::AgentUnlinked { link });
    cluster.link(capable("s1", "cpus:4;mem:1000"));
    let events = cluster.take(&framework.1);
    let status = events.iter().find_map(|event| event.update_operation_status.clone()).unwrap().status;
    assert_eq!(status.state(), OperationState::OperationDropped);
    assert_eq!(total(&cluster), plain("cpus:4;mem:1000"), "the agent knows best");
    assert!(cluster.core.operations.is_empty());
}

#[test]
fn an_agent_that_could_not_carry_out_an_operation_reports_anew() {
    let (mut cluster, framework, link, offer) = scene("cpus:4;mem:1000");
    cluster.accept(&framework, &[&offer], vec![operation(Type::Reserve, &reserved("cpus:1", "eng"))]);
    answer(&mut cluster, link, OperationState::OperationError);
    assert_eq!(cluster.closed_links, [link]);
    assert_eq!(cluster.core.outstanding_offers(), 0);
}

#[test]
fn a_report_carries_reservations_and_operations_to_a_new_leader() {
    let (mut cluster, framework, link, offer) = scene("cpus:4;mem:1000");
    let reserve = with_id(operation(Type::Reserve, &reserved("cpus:1", "eng")));
    cluster.accept(&framework, &[&offer], vec![reserve]);
    let update = answer(&mut cluster, link, OperationState::OperationFinished);

    let (mut next, again, ..) = scene("cpus:1");
    assert_eq!(again.0, framework.0);
    let report = meshos_proto::meshos::allocator::v1::Reregister {
        total: messages(&total(&cluster)),
        operations: vec![update],
        ..capable("s1", "cpus:4;mem:1000")
    };
    next.take(&again.1);
    next.link(report);
    assert_eq!(total(&next), total(&cluster));
    let events = next.take(&again.1);
    assert!(events.iter().any(|event| event.update_operation_status.is_some()));
}

#[test]
fn volumes_obey_their_rules() {
    let (mut cluster, framework, link, offer) = scene("cpus:4;mem:1000;disk:500;disk(eng):100");
    let mut read_only = messages(&volume("disk:10", "eng", "ro"));
    let mount = read_only[0].disk.as_mut().unwrap().volume.as_mut().unwrap();
    mount.mode = pb::volume::Mode::Ro.into();
    let read_only = Resources::from_proto(&read_only).unwrap();
    let refused = vec![
        operation(Type::Create, &reserved("disk:10", "eng")),
        operation(Type::Create, &volume("disk:10", "eng", "../up")),
        operation(Type::Create, &read_only),
        operation(Type::Destroy, &volume("disk:10", "eng", "unknown")),
        operation(Type::Unreserve, &volume("disk:100", "eng", "v1")),
        operation(Type::Unreserve, &plain("disk:1")),
    ];
    let mut operations = vec![
        operation(Type::Reserve, &reserved("disk:200", "eng")),
        operation(Type::Create, &volume("disk:100", "eng", "v1")),
    ];
    operations.extend(refused);
    operations.push(operation(Type::Create, &volume("disk:50", "eng", "v1")));
    cluster.accept(&framework, &[&offer], operations);
    assert_eq!(applied(&cluster.take_commands(link)), ["RESERVE", "CREATE"]);
}

#[test]
fn a_volume_grows_and_shrinks() {
    let (mut cluster, framework, link, offer) = scene("cpus:4;mem:1000;disk:500");
    let operations = vec![
        operation(Type::Reserve, &reserved("disk:200", "eng")),
        operation(Type::Create, &volume("disk:100", "eng", "v1")),
    ];
    cluster.accept(&framework, &[&offer], operations);
    let offer = cluster.take_offers(&framework.1).remove(0);
    let one = |resources: &Resources| messages(resources).remove(0);
    let grow = Operation {
        r#type: Some(Type::GrowVolume.into()),
        grow_volume: Some(operation::GrowVolume {
            volume: one(&volume("disk:100", "eng", "v1")),
            addition: one(&reserved("disk:60", "eng")),
        }),
        ..Operation::default()
    };
    let destroy = operation(Type::Destroy, &volume("disk:160", "eng", "v1"));
    cluster.accept(&framework, &[&offer], vec![grow, destroy]);
    assert!(total(&cluster).contains(&volume("disk:160", "eng", "v1")), "not usable in the same ACCEPT");
    let offer = cluster.take_offers(&framework.1).remove(0);
    let shrink = Operation {
        r#type: Some(Type::ShrinkVolume.into()),
        shrink_volume: Some(operation::ShrinkVolume {
            volume: one(&volume("disk:160", "eng", "v1")),
            subtract: pb::value::Scalar { value: 110.0 },
        }),
        ..Operation::default()
    };
    cluster.accept(&framework, &[&offer], vec![shrink]);
    let mut expected = volume("disk:50", "eng", "v1");
    expected.add_all(&reserved("disk:150", "eng"));
    assert!(total(&cluster).contains(&expected), "{}", total(&cluster));
    assert_eq!(applied(&cluster.take_commands(link)), ["RESERVE", "CREATE", "GROW_VOLUME", "SHRINK_VOLUME"]);
}

#[test]
fn a_reservation_is_signed_with_the_frameworks_principal() {
    let mut cluster = Harness::new();
    let link = cluster.agent("s1", "cpus:4;mem:1000");
    let framework =
        cluster.subscribe(pb::FrameworkInfo { principal: Some("me".to_owned()), ..in_role("a", "eng") });
    let offer = cluster.take_offers(&framework.1).remove(0);
    cluster.take_commands(link);
    let signed = plain("cpus:1").push_reservation(&Reservation::dynamic(RoleName::new("eng"), Some("me")));
    let operations =
        vec![operation(Type::Reserve, &reserved("cpus:1", "eng")), operation(Type::Reserve, &signed)];
    cluster.accept(&framework, &[&offer], operations);
    assert_eq!(applied(&cluster.take_commands(link)), ["RESERVE"]);
    assert!(total(&cluster).contains(&signed));
}

#[test]
fn mesos_c63_older_frameworks_get_the_older_format_and_no_refined_reservations() {
    let mut cluster = Harness::new();
    let mut all = plain("cpus:1;mem:100");
    all.add_all(&reserved("cpus:2", "eng"));
    all.add_all(
        &reserved("cpus:3", "eng").push_reservation(&Reservation::dynamic(RoleName::new("eng/web"), None)),
    );
    use meshos_proto::meshos::{allocator::v1::Reregister, registry::v1::AgentState};
    cluster.input(Input::RegistryChanged(Box::new(record("s1", AgentState::Connected))));
    cluster.link(Reregister { total: messages(&all), ..report("s1", "cpus:6;mem:100") });
    let mut older = in_role("a", "eng/web");
    older.capabilities.retain(|c| c.r#type != Some(CapabilityType::ReservationRefinement.into()));
    let older = cluster.subscribe(older);
    let offer = cluster.take_offers(&older.1).remove(0);
    assert_eq!(cpus(&offer.resources), 3.0);
    #[allow(deprecated, reason = "the older format is what is tested")]
    let eng = offer.resources.iter().find(|resource| resource.role.as_deref() == Some("eng")).unwrap();
    assert!(eng.reservation.is_some() && offer.resources.iter().all(|r| r.reservations.is_empty()));
    cluster.decline(&older, &offer, Some(60.0));
    let newer = cluster.subscribe(in_role("b", "eng/web"));
    assert_eq!(cpus(&cluster.take_offers(&newer.1)[0].resources), 6.0);
}

fn operator(kind: Type, resources: &Resources) -> Input {
    let agent_id = Some(pb::AgentId { value: "s1".to_owned() });
    let operation = Some(operation(kind, resources));
    Input::Apply(Box::new(ApplyRequest { agent_id, operation, source: Vec::new() }))
}

#[test]
fn mesos_c65_an_operator_reserves_what_is_offered_but_not_what_is_used() {
    let (mut cluster, framework, link, offer) = scene("cpus:4;mem:1000");
    cluster.input(operator(Type::Reserve, &reserved("cpus:3", "ops")));
    let events = cluster.take(&framework.1);
    assert_eq!(kinds(&events), [event::Type::Rescind, event::Type::Offers]);
    let offers = &events[1].offers.as_ref().unwrap().offers;
    assert_eq!(cpus(&offers[0].resources), 1.0);
    assert_eq!(applied(&cluster.take_commands(link)), ["RESERVE"]);
    cluster.accept(&framework, &[&offers[0]], vec![launch(vec![task("t", "s1", "cpus:1")])]);
    let conflict = cluster.try_input(operator(Type::Reserve, &reserved("cpus:1", "ops")));
    assert!(matches!(conflict, Err(CallError::Conflict(_))), "{conflict:?}");
    let unknown =
        ApplyRequest { agent_id: Some(pb::AgentId { value: "s9".to_owned() }), ..Default::default() };
    let text = "No agent found with specified ID".to_owned();
    assert_eq!(cluster.try_input(Input::Apply(Box::new(unknown))), Err(CallError::Invalid(text)));
    let _ = offer;
}

#[test]
fn mesos_c66_c67_volumes_are_not_unreserved_and_not_destroyed_while_in_use() {
    let (mut cluster, framework, _, offer) = scene("cpus:4;mem:1000;disk:100");
    let held = volume("disk:100", "eng", "v1");
    let task = pb::TaskInfo {
        resources: messages(&held).into_iter().chain(resources("cpus:1")).collect(),
        ..task("t", "s1", "cpus:1")
    };
    let operations = vec![
        operation(Type::Reserve, &reserved("disk:100", "eng")),
        operation(Type::Create, &held),
        launch(vec![task]),
    ];
    cluster.accept(&framework, &[&offer], operations);
    for kind in [Type::Unreserve, Type::Destroy] {
        let refused = cluster.try_input(operator(kind, &held));
        assert!(matches!(refused, Err(CallError::Invalid(_))), "{refused:?}");
    }
    assert!(total(&cluster).contains(&held));
}

#[test]
fn an_operator_changes_one_reservation_into_another() {
    let (mut cluster, ..) = scene("cpus:4;mem:1000");
    cluster.input(operator(Type::Reserve, &reserved("cpus:2", "a")));
    let again = |source: &Resources, to: &Resources| {
        Input::Apply(Box::new(ApplyRequest {
            agent_id: Some(pb::AgentId { value: "s1".to_owned() }),
            operation: Some(operation(Type::Reserve, to)),
            source: messages(source),
        }))
    };
    assert!(cluster.try_input(again(&reserved("cpus:2", "a"), &reserved("cpus:1", "b"))).is_err());
    cluster.input(again(&reserved("cpus:2", "a"), &reserved("cpus:2", "b")));
    assert!(total(&cluster).contains(&reserved("cpus:2", "b")));
}

#[test]
fn reservations_count_as_consumption_of_quota() {
    use super::roles::quota;
    let (mut cluster, framework, _, offer) = scene("cpus:4;mem:1000");
    cluster.accept(&framework, &[&offer], vec![operation(Type::Reserve, &reserved("cpus:2", "eng"))]);
    cluster.take(&framework.1);
    let update = meshos_proto::meshos::allocator::v1::UpdateQuotaRequest {
        configs: vec![quota("eng", &[], &[("cpus", 3.0)])],
        force: true,
        ..Default::default()
    };
    cluster.input(Input::UpdateQuota(Box::new(update)));
    cluster.advance(10_000);
    let id = AgentId::new("s1");
    let offered = cluster.core.agents[&id].offered.clone();
    assert_eq!(offered.reserved().cpus(), meshos_types::Milli::whole(2));
    assert!(offered.unreserved().cpus() <= meshos_types::Milli::whole(1), "{offered}");
    let _ = Capability::default();
}
