//! Persistent volumes.

use meshos_proto::mesos::v1::{
    self as pb,
    offer::{
        Operation,
        operation::{GrowVolume, ShrinkVolume, Type},
    },
};
use meshos_types::Resources;

use super::{applied, messages, operation, plain, reserved, scene, total, volume};

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
        grow_volume: Some(GrowVolume {
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
        shrink_volume: Some(ShrinkVolume {
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
