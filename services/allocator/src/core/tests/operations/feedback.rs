//! What frameworks are told of their operations, and what readers of Watch see of them.

use meshos_proto::{
    meshos::allocator::v1::{OperationUpdate, allocator_message::Body, change},
    mesos::v1::{
        self as pb, OperationState,
        offer::operation::Type,
        scheduler::{self, Call, call},
    },
};

use super::{
    super::{super::*, harness::*},
    applied, capable, messages, operation, plain, reserved, scene, total, with_id,
};

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
pub(super) fn answer(cluster: &mut Harness, link: LinkId, state: OperationState) -> OperationUpdate {
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

/// The states of operations as a reader hears of them; none for one that is removed.
fn seen(cluster: &mut Harness) -> Vec<Option<OperationState>> {
    let changes = std::mem::take(&mut cluster.changes).into_iter();
    changes
        .filter_map(|change| match change.body? {
            change::Body::Operation(shown) => Some(Some(shown.operation?.latest_status.state())),
            change::Body::OperationRemoved(_) => Some(None),
            _ => None,
        })
        .collect()
}

#[test]
fn readers_see_operations_until_they_are_over() {
    let (pending, finished) = (OperationState::OperationPending, OperationState::OperationFinished);
    for (asked, expected) in
        [(false, vec![Some(pending), Some(finished), None]), (true, vec![Some(pending), Some(finished)])]
    {
        let (mut cluster, framework, link, offer) = scene("cpus:4;mem:1000");
        let reserve = operation(Type::Reserve, &reserved("cpus:1", "eng"));
        let reserve = if asked { with_id(reserve) } else { reserve };
        cluster.accept(&framework, &[&offer], vec![reserve.clone()]);
        let shown = cluster.core.snapshot().operations.remove(0).operation.unwrap();
        assert_eq!(shown.framework_id.unwrap().value, framework.0.as_str());
        assert_eq!(shown.agent_id.unwrap().value, "s1");
        assert_eq!(shown.info, reserve);
        answer(&mut cluster, link, finished);
        assert_eq!(seen(&mut cluster), expected);
        assert_eq!(cluster.core.snapshot().operations.len(), usize::from(asked));
        let metrics = cluster.core.metrics();
        assert_eq!(metrics["master/operations/reserve/finished"], 1.0);
        assert_eq!(metrics["master/operations/finished"], 1.0);
        assert_eq!(metrics["master/operations/pending"], 0.0);
    }
}

#[test]
fn an_id_stands_for_one_operation_until_it_is_acknowledged() {
    let (mut cluster, framework, _, offer) = scene("cpus:4;mem:1000");
    let reserve = || with_id(operation(Type::Reserve, &reserved("cpus:1", "eng")));
    cluster.accept(&framework, &[&offer], vec![reserve(), reserve()]);
    let events = cluster.take(&framework.1);
    let status = events[0].update_operation_status.clone().unwrap().status;
    assert_eq!(status.state(), OperationState::OperationError);
    assert!(status.message().contains("has not ended"), "{}", status.message());
    assert_eq!(cluster.core.operations.len(), 1);
}

#[test]
fn disks_of_resource_providers_are_refused_with_mesos_words() {
    use pb::{
        offer::{Operation, operation::CreateDisk, operation::DestroyDisk},
        resource::{DiskInfo, disk_info::Source, disk_info::source},
    };
    let disk = |kind: source::Type, provider: Option<&str>, profile: Option<&str>| pb::Resource {
        provider_id: provider.map(|id| pb::ResourceProviderId { value: id.to_owned() }),
        disk: Some(Box::new(DiskInfo {
            source: Some(Source {
                r#type: kind.into(),
                profile: profile.map(str::to_owned),
                id: Some("d".to_owned()),
                ..Source::default()
            }),
            ..DiskInfo::default()
        })),
        ..messages(&plain("disk:10")).remove(0)
    };
    let create = |source: pb::Resource, target: source::Type| Operation {
        r#type: Some(Type::CreateDisk.into()),
        create_disk: Some(CreateDisk { source, target_type: target.into(), target_profile: None }),
        ..Operation::default()
    };
    let destroy = |source: pb::Resource| Operation {
        r#type: Some(Type::DestroyDisk.into()),
        destroy_disk: Some(DestroyDisk { source }),
        ..Operation::default()
    };
    use source::Type::{Block, Mount, Path, Raw};
    for (asked, text) in [
        (create(disk(Raw, None, None), Mount), "'source' is not managed by a resource provider"),
        (create(disk(Mount, Some("p"), None), Mount), "'source' is not a RAW disk resource"),
        (create(disk(Raw, Some("p"), Some("x")), Path), "'target_type' is neither MOUNT or BLOCK"),
        (
            create(disk(Raw, Some("p"), None), Block),
            "'target_profile' must be set when 'source' does not have a profile",
        ),
        (create(disk(Raw, Some("p"), Some("x")), Block), "the agent has no resource provider 'p'"),
        (destroy(disk(Mount, None, None)), "'source' is not managed by a resource provider"),
        (destroy(disk(Path, Some("p"), None)), "'source' is neither a MOUNT, BLOCK or RAW disk resource"),
        (destroy(disk(Raw, Some("p"), None)), "the agent has no resource provider 'p'"),
    ] {
        let (mut cluster, framework, link, offer) = scene("cpus:4;mem:1000;disk:100");
        let operations = vec![with_id(asked.clone()), launch(vec![task("t", "s1", "cpus:1")])];
        cluster.accept(&framework, &[&offer], operations);
        let events = cluster.take(&framework.1);
        let status = events[0].update_operation_status.clone().unwrap().status;
        assert_eq!(status.state(), OperationState::OperationError);
        let kind = asked.r#type().as_str_name();
        assert_eq!(status.message(), format!("Invalid {kind} operation: {text}"));
        assert_eq!(applied(&cluster.take_commands(link)), ["LAUNCH"]);
    }
}
