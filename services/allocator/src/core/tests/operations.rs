//! Reservations and volumes.

mod feedback;
mod operators;
mod reconcile;
mod sharing;
mod volumes;

use meshos_proto::{
    meshos::allocator::v1::allocator_message::Body,
    mesos::v1::{
        self as pb, TaskState,
        framework_info::{Capability, capability::Type as CapabilityType},
        offer::{
            Operation,
            operation::{self, Type},
        },
        resource::disk_info,
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

pub(super) fn with_id(operation: Operation) -> Operation {
    Operation { id: Some(pb::OperationId { value: "op".to_owned() }), ..operation }
}

/// A framework in this role, which knows the newer format of reservations.
#[allow(deprecated, reason = "single-role frameworks use the field `role`")]
pub(super) fn in_role(name: &str, role: &str) -> pb::FrameworkInfo {
    pb::FrameworkInfo { role: Some(role.to_owned()), ..info(name) }
}

pub(super) fn capable(agent: &str, total: &str) -> meshos_proto::meshos::allocator::v1::Reregister {
    use pb::agent_info::{Capability, capability::Type};
    let capabilities = vec![Capability { r#type: Some(Type::AgentOperationFeedback.into()) }];
    meshos_proto::meshos::allocator::v1::Reregister { capabilities, ..report(agent, total) }
}

/// One agent with this total that tells of operations, and a framework in the role `eng`.
pub(super) fn scene(total: &str) -> (Harness, (FrameworkId, StreamId), LinkId, pb::Offer) {
    use meshos_proto::meshos::registry::v1::AgentState;
    let mut cluster = Harness::new();
    cluster.input(Input::RegistryChanged(Box::new(record("s1", AgentState::Connected))));
    let link = cluster.link(capable("s1", total));
    let framework = cluster.subscribe(in_role("a", "eng"));
    let offer = cluster.take_offers(&framework.1).remove(0);
    cluster.take_commands(link);
    (cluster, framework, link, offer)
}

pub(super) fn total(cluster: &Harness) -> Resources {
    cluster.core.agents[&AgentId::new("s1")].total.clone()
}

pub(super) fn applied(commands: &[Body]) -> Vec<&str> {
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
