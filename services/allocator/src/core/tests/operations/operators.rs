//! Operations of operators.

use meshos_proto::{
    meshos::allocator::v1::ApplyRequest,
    mesos::v1::{self as pb, offer::operation::Type, scheduler::event},
};
use meshos_types::Resources;

use super::{
    super::{super::*, harness::*},
    applied, messages, operation, reserved, scene, total, volume,
};

pub(super) fn operator(kind: Type, resources: &Resources) -> Input {
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
