//! RECONCILE_OPERATIONS.

use meshos_proto::{
    meshos::registry::v1::AgentState,
    mesos::v1::{
        self as pb, OperationState,
        offer::operation::Type,
        scheduler::{Call, call},
    },
};

use super::{
    super::{super::*, harness::*},
    feedback::answer,
    operation, reserved, scene, with_id,
};

/// The states that a framework is told of these operations, each with the agent that it names.
fn asked(
    cluster: &mut Harness,
    framework: &(FrameworkId, StreamId),
    operations: &[(&str, Option<&str>)],
) -> Vec<OperationState> {
    let operation = |(id, agent): &(&str, Option<&str>)| call::reconcile_operations::Operation {
        operation_id: pb::OperationId { value: (*id).to_owned() },
        agent_id: agent.map(|agent| pb::AgentId { value: agent.to_owned() }),
        resource_provider_id: None,
    };
    let reconcile = call::ReconcileOperations { operations: operations.iter().map(operation).collect() };
    cluster.take(&framework.1);
    let call =
        Call { reconcile_operations: Some(reconcile), ..call(&framework.0, call::Type::ReconcileOperations) };
    cluster.call(&framework.1, call);
    let told = cluster.take(&framework.1).into_iter().filter_map(|event| event.update_operation_status);
    told.map(|update| {
        assert_eq!(update.status.uuid, None, "an answer is not acknowledged");
        assert!(update.status.message().starts_with("Reconciliation: "), "{}", update.status.message());
        update.status.state()
    })
    .collect()
}

#[test]
fn what_is_known_of_operations_is_told() {
    let (mut cluster, framework, link, offer) = scene("cpus:4;mem:1000");
    let reserve = operation(Type::Reserve, &reserved("cpus:1", "eng"));
    cluster.accept(&framework, &[&offer], vec![with_id(reserve.clone()), reserve]);
    assert_eq!(asked(&mut cluster, &framework, &[]), [OperationState::OperationPending], "those with an id");
    answer(&mut cluster, link, OperationState::OperationFinished);
    assert_eq!(asked(&mut cluster, &framework, &[]), [OperationState::OperationFinished]);
    let named = [("op", None), ("other", Some("s1")), ("other", Some("s9")), ("other", None)];
    let unknown = OperationState::OperationUnknown;
    assert_eq!(
        asked(&mut cluster, &framework, &named),
        [OperationState::OperationFinished, unknown, unknown, unknown]
    );
}

#[test]
fn an_operation_on_an_agent_that_is_out_of_contact_is_unreachable() {
    let (mut cluster, framework, _, offer) = scene("cpus:4;mem:1000");
    let reserve = with_id(operation(Type::Reserve, &reserved("cpus:1", "eng")));
    cluster.accept(&framework, &[&offer], vec![reserve]);
    cluster.take(&framework.1);
    cluster.input(Input::RegistryChanged(Box::new(record("s1", AgentState::Unreachable))));
    let events = cluster.take(&framework.1);
    let told: Vec<_> = events.iter().filter_map(|event| event.update_operation_status.as_ref()).collect();
    assert_eq!(told[0].status.state(), OperationState::OperationUnreachable);
    let unreachable = OperationState::OperationUnreachable;
    let named = [("op", Some("s1")), ("other", Some("s1"))];
    assert_eq!(asked(&mut cluster, &framework, &named), [unreachable, unreachable]);
    assert_eq!(cluster.core.metrics()["master/operations/reserve/unreachable"], 1.0);

    cluster.input(Input::RegistryChanged(Box::new(record("s1", AgentState::Gone))));
    let gone = OperationState::OperationGoneByOperator;
    assert_eq!(asked(&mut cluster, &framework, &named), [gone, gone]);
    assert!(cluster.core.operations.is_empty());
}

#[test]
fn an_operation_on_an_agent_that_may_come_back_is_recovering() {
    let mut cluster = Harness::new();
    cluster.input(Input::RegistrySnapshot(vec![record("s1", AgentState::Connected)]));
    let framework = cluster.subscribe(info("a"));
    let named = [("op", Some("s1"))];
    assert_eq!(asked(&mut cluster, &framework, &named), [OperationState::OperationRecovering]);
    cluster.link(report("s1", "cpus:1"));
    assert_eq!(asked(&mut cluster, &framework, &named), [OperationState::OperationUnknown]);
}
