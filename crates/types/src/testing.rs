//! Arbitrary resources for the tests of this crate. Few names and small values, so that identities often meet.

use meshos_proto::mesos::v1::resource::{
    DiskInfo,
    disk_info::{Persistence, Source, source},
};
use proptest::{collection::vec, option, prelude::*};

use crate::{
    disk::Disk,
    ids::ResourceProviderId,
    ranges::{Range, Ranges},
    reservation::{Label, Reservation},
    resource::{Resource, ResourceValue},
    role::RoleName,
    scalar::Milli,
};

fn value() -> impl Strategy<Value = (&'static str, ResourceValue)> {
    let range = (0u64..12, 0u64..4).prop_map(|(begin, length)| Range { begin, end: begin + length });
    let scalar =
        |name: &'static str| (0i64..4).prop_map(move |n| (name, ResourceValue::Scalar(Milli(n * 500))));
    prop_oneof![
        scalar("cpus"),
        scalar("disk"),
        vec(range, 0..4)
            .prop_map(|ranges| ("ports", ResourceValue::Ranges(ranges.into_iter().collect::<Ranges>()))),
        vec("[a-c]", 0..3).prop_map(|items| ("zones", ResourceValue::Set(items.into_iter().collect()))),
    ]
}

fn stack() -> impl Strategy<Value = Vec<Reservation>> {
    let eng = || RoleName::new("eng");
    let mut labelled = Reservation::dynamic(eng(), Some("ops"));
    labelled.labels = Some(vec![Label { key: "k".into(), value: None }]);
    let refined = Reservation::dynamic(RoleName::new("eng/web"), None);
    prop_oneof![
        3 => Just(Vec::new()),
        1 => Just(vec![Reservation::fixed(eng())]),
        1 => Just(vec![Reservation::dynamic(eng(), None)]),
        1 => Just(vec![labelled.clone()]),
        1 => Just(vec![labelled, refined.clone()]),
        1 => Just(vec![Reservation::fixed(eng()), refined]),
    ]
}

fn disk() -> impl Strategy<Value = DiskInfo> {
    let source = |kind: source::Type| Source { r#type: kind.into(), ..Default::default() };
    let volume = Persistence { id: "v1".into(), principal: None };
    prop_oneof![
        Just(DiskInfo { source: Some(source(source::Type::Path)), ..Default::default() }),
        Just(DiskInfo { source: Some(source(source::Type::Mount)), ..Default::default() }),
        Just(DiskInfo { persistence: Some(volume), ..Default::default() }),
    ]
}

/// A resource that obeys the rules of the wire.
pub(crate) fn resource() -> impl Strategy<Value = Resource> {
    let flags = (any::<bool>(), any::<bool>(), option::weighted(0.2, Just("p")), option::of(Just("eng")));
    (value(), stack(), option::of(disk()), flags).prop_map(|((name, value), stack, disk, flags)| {
        let (revocable, shared, provider, allocation) = flags;
        let disk = disk.filter(|_| name == "disk").map(Disk::new);
        Resource {
            name: name.into(),
            allocation: allocation.map(RoleName::new),
            revocable: revocable && !stack.iter().any(Reservation::is_dynamic),
            shared: shared && disk.as_ref().is_some_and(|disk| disk.persistence_id().is_some()),
            provider: provider.map(ResourceProviderId::new),
            reservations: stack,
            disk,
            value,
        }
    })
}

/// A few resources.
pub(crate) fn several() -> impl Strategy<Value = Vec<Resource>> {
    vec(resource(), 0..12)
}
