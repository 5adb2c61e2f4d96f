//! Which volumes the files API shows, and under which names.

use meshos_proto::mesos::v1::volume::{Source, source};

use super::*;

fn volume(persistence: &str, place: &str) -> pb::Resource {
    pb::Resource {
        name: "disk".to_owned(),
        scalar: Some(pb::value::Scalar { value: 10.0 }),
        reservations: vec![pb::resource::ReservationInfo {
            r#type: Some(pb::resource::reservation_info::Type::Static as i32),
            role: Some("eng".to_owned()),
            ..Default::default()
        }],
        disk: Some(Box::new(pb::resource::DiskInfo {
            persistence: Some(pb::resource::disk_info::Persistence {
                id: persistence.to_owned(),
                principal: None,
            }),
            volume: Some(pb::Volume { container_path: place.to_owned(), ..Default::default() }),
            ..Default::default()
        })),
        ..pb::Resource::default()
    }
}

/// Makes the volume part of what the agent has.
fn with_volume(scene: &mut Scene, resource: &pb::Resource) {
    let resources = meshos_types::Resources::from_proto(std::slice::from_ref(resource)).unwrap();
    scene.core.total += &resources;
}

#[test]
fn a_volume_is_shown_in_the_sandbox_of_its_task() {
    let mut scene = Scene::new();
    let data = volume("p-1", "data");
    with_volume(&mut scene, &data);
    scene.run(pb::TaskInfo { resources: vec![data], ..task("t") });
    let [shown] = scene.core.shown().try_into().unwrap();
    assert_eq!(shown.sandbox, scene.launched[0].sandbox);
    assert_eq!(scene.core.shown_of(&scene.launched[0].container_id), Some(shown.clone()));
    let volume = PathBuf::from("/work/volumes/roles/eng/p-1");
    assert_eq!(shown.volumes, [(shown.sandbox.join("data"), volume)]);
}

#[test]
fn volumes_of_a_group_are_shown_below_its_tasks() {
    let mut scene = Scene::new();
    let data = volume("p-1", "data");
    with_volume(&mut scene, &data);
    let parent = source::SandboxPath {
        r#type: Some(source::sandbox_path::Type::Parent as i32),
        path: "common".to_owned(),
    };
    let shared = pb::Volume {
        container_path: "mine".to_owned(),
        mode: pb::volume::Mode::Rw as i32,
        source: Some(Source {
            r#type: Some(source::Type::SandboxPath as i32),
            sandbox_path: Some(parent),
            ..Source::default()
        }),
        ..pb::Volume::default()
    };
    let container = pb::ContainerInfo {
        r#type: pb::container_info::Type::Mesos as i32,
        volumes: vec![shared],
        ..pb::ContainerInfo::default()
    };
    let member = pb::TaskInfo { resources: vec![data], container: Some(container), ..task("a") };
    scene.launch_group(vec![member]);
    let container_id = scene.launched[0].container_id.clone();
    let shown = scene.core.shown_of(&container_id).unwrap();
    let names: BTreeMap<_, _> = shown.volumes.into_iter().collect();
    let (sandbox, volume) = (&shown.sandbox, PathBuf::from("/work/volumes/roles/eng/p-1"));
    assert_eq!(names[&sandbox.join("tasks/a/data")], volume);
    assert_eq!(names[&sandbox.join("containers").join(&container_id).join("data")], volume);
    assert_eq!(names[&sandbox.join("tasks/a/mine")], sandbox.join("common"));
    assert_eq!(names.len(), 3);
}
