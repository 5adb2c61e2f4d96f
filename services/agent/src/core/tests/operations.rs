//! Operations on the agent's resources.

use meshos_proto::{
    meshos::allocator::v1::{AcknowledgeOperation, ApplyOperation},
    mesos::v1::{OperationId, OperationState, Resource, offer::Operation, resource::disk_info},
};
use meshos_types::{Disk, Format, Reservation, Resources, RoleName, parse_resources};

use super::*;

fn resources(text: &str) -> Resources {
    parse_resources(text, &RoleName::star()).unwrap().resources
}

fn reserved(text: &str) -> Resources {
    resources(text).push_reservation(&Reservation::dynamic(RoleName::new("eng/web"), Some("p")))
}

fn volume(size: &str) -> Resources {
    volume_at(size, "v1", "data")
}

fn volume_at(size: &str, id: &str, place: &str) -> Resources {
    let mut volume = reserved(size).into_iter().next().unwrap();
    volume.disk = Some(Disk::new(pb::resource::DiskInfo {
        persistence: Some(disk_info::Persistence { id: id.to_owned(), principal: None }),
        volume: Some(pb::Volume { container_path: place.to_owned(), ..pb::Volume::default() }),
        ..pb::resource::DiskInfo::default()
    }));
    volume.into()
}

fn messages(resources: &Resources) -> Vec<Resource> {
    resources.to_proto(Format::PostRefinement)
}

fn apply(uuid: u8, id: Option<&str>, consumed: &Resources, produced: &Resources) -> Body {
    let operation =
        Operation { id: id.map(|id| OperationId { value: id.to_owned() }), ..Operation::default() };
    Body::ApplyOperation(Box::new(ApplyOperation {
        uuid: vec![uuid; 16].into(),
        framework_id: Some(pb::FrameworkId { value: FRAMEWORK.to_owned() }),
        operation: Some(operation),
        consumed: messages(consumed),
        produced: messages(produced),
    }))
}

fn total(scene: &Scene) -> Resources {
    Resources::from_proto(&scene.core.reregister().total).unwrap()
}

fn states(scene: &Scene) -> Vec<OperationState> {
    scene.operations.iter().map(|update| update.status.as_ref().unwrap().state()).collect()
}

#[test]
fn reservations_and_volumes_survive_the_agent() {
    let mut scene = Scene::new();
    scene.obey(apply(1, None, &resources("disk:100;cpus:1"), &reserved("disk:100;cpus:1")));
    scene.obey(apply(2, None, &reserved("disk:100"), &volume("disk:100")));
    assert_eq!(states(&scene), [OperationState::OperationFinished; 2]);
    let path = PathBuf::from("/work/volumes/roles/eng web/v1");
    assert!(scene.volumes.contains(&path));
    let before = total(&scene);
    assert!(before.contains(&volume("disk:100")) && before.contains(&resources("disk:900;cpus:3")));

    let mut scene = scene.restart(Vec::new());
    assert_eq!(total(&scene), before);
    scene.link();
    scene.obey(apply(3, None, &volume("disk:100"), &reserved("disk:100")));
    assert!(scene.volumes.is_empty(), "a destroyed volume's directory goes");
    assert!(total(&scene.restart(Vec::new())).contains(&reserved("disk:100;cpus:1")));
}

#[test]
fn an_operation_that_comes_twice_is_applied_once() {
    let mut scene = Scene::new();
    let operation = apply(1, None, &resources("cpus:1"), &reserved("cpus:1"));
    scene.obey(operation.clone());
    scene.obey(operation);
    assert!(total(&scene).contains(&reserved("cpus:1")) && !total(&scene).contains(&reserved("cpus:2")));
    assert_eq!(states(&scene), [OperationState::OperationFinished; 2]);
}

#[test]
fn what_the_agent_does_not_have_cannot_be_changed() {
    let mut scene = Scene::new();
    let before = total(&scene);
    scene.obey(apply(1, Some("op"), &resources("cpus:9"), &reserved("cpus:9")));
    assert_eq!(states(&scene), [OperationState::OperationError]);
    assert_eq!(total(&scene), before);
}

#[test]
fn an_operation_with_an_id_is_reported_until_it_is_acknowledged() {
    let mut scene = Scene::new();
    scene.obey(apply(1, Some("op"), &resources("cpus:1"), &reserved("cpus:1")));
    let sent = scene.operations.clone();
    let mut scene = scene.restart(Vec::new());
    let reported = scene.core.reregister().operations;
    assert_eq!(reported, sent);
    assert!(reported[0].status.as_ref().unwrap().uuid.is_some());
    scene.link();
    scene.obey(Body::AcknowledgeOperation(AcknowledgeOperation { uuid: vec![1; 16].into() }));
    assert!(scene.core.reregister().operations.is_empty());
    assert!(scene.restart(Vec::new()).core.reregister().operations.is_empty());
}

#[test]
fn a_task_that_wants_what_was_never_reserved_is_dropped() {
    let mut scene = Scene::new();
    scene.launch_with(
        &[Capability::PartitionAware],
        vec![pb::TaskInfo { resources: messages(&reserved("cpus:1")), ..task("t") }],
    );
    let status = scene.sent.last().unwrap().status.clone().unwrap();
    assert_eq!((status.state(), status.reason()), (TaskState::TaskDropped, Reason::ResourcesUnknown));
    assert!(scene.launched.is_empty());
}

#[test]
fn mesos_c32_a_task_finds_its_volume_in_its_sandbox() {
    let mut scene = Scene::new();
    scene.obey(apply(1, None, &resources("disk:100"), &reserved("disk:100")));
    scene.obey(apply(2, None, &reserved("disk:100"), &volume("disk:100")));
    let wanted = messages(&volume("disk:100"));
    scene.launch_with(&[], vec![pb::TaskInfo { resources: wanted, ..task("t") }]);
    let volumes = &scene.launched[0].volumes;
    assert_eq!(volumes, &[("/work/volumes/roles/eng web/v1".into(), "data".into())]);
}

#[test]
fn volumes_that_lie_one_in_the_other_or_outside_of_the_sandbox_are_refused() {
    let places =
        [("data/inner", "lie one in the other"), ("data", "lie one in the other"), ("../x", "without '..'")];
    for (place, fault) in places.into_iter().chain([("database", "")]) {
        let mut scene = Scene::new();
        let second = volume_at("disk:50", "v2", place);
        scene.obey(apply(1, None, &resources("disk:150"), &reserved("disk:150")));
        scene.obey(apply(2, None, &reserved("disk:100"), &volume("disk:100")));
        scene.obey(apply(3, None, &reserved("disk:50"), &second));
        let wanted = [messages(&second), messages(&volume("disk:100"))].concat();
        scene.launch_with(&[], vec![pb::TaskInfo { resources: wanted, ..task("t") }]);
        assert_eq!(scene.launched.len(), usize::from(fault.is_empty()), "{place}");
        if !fault.is_empty() {
            assert!(scene.last().message().contains(fault), "{place}: {:?}", scene.last());
        }
    }
}
