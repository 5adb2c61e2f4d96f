//! Shared volumes, which several have at a time, and revocable resources, which only some want.

use meshos_proto::{
    meshos::{
        allocator::v1::{Reregister, allocator_message::Body},
        registry::v1::AgentState,
    },
    mesos::v1::{
        self as pb,
        framework_info::{Capability, capability::Type as CapabilityType},
        offer::operation::Type,
        scheduler::event,
    },
};
use meshos_types::{Milli, Resource, Resources, RoleName};

use super::{
    super::{super::*, harness::*},
    applied, in_role, messages, operation,
    operators::operator,
    plain, reserved, total, volume,
};

fn shared() -> Resources {
    let share = |resource: Resource| Resource { shared: true, ..resource };
    volume("disk:100", "eng", "v1").into_iter().map(share).collect()
}

fn knowing(name: &str, capability: CapabilityType) -> pb::FrameworkInfo {
    let mut info = in_role(name, "eng");
    info.capabilities.push(Capability { r#type: Some(capability.into()) });
    info
}

fn agent(cluster: &mut Harness, total: &Resources) -> LinkId {
    cluster.input(Input::RegistryChanged(Box::new(record("s1", AgentState::Connected))));
    let link = cluster.link(Reregister { total: messages(total), ..report("s1", "cpus:4") });
    cluster.take_commands(link);
    link
}

fn with_volume() -> Resources {
    let mut all = plain("cpus:4;mem:1000");
    all.add_all(&shared());
    all
}

fn user(id: &str) -> pb::TaskInfo {
    let mut takes = plain("cpus:1");
    takes.add_all(&shared());
    pb::TaskInfo { resources: messages(&takes), ..task(id, "s1", "cpus:1") }
}

fn read(offer: &pb::Offer) -> Resources {
    Resources::from_proto(&offer.resources).unwrap().unallocated()
}

#[test]
fn a_shared_volume_is_offered_while_it_is_used() {
    let mut cluster = Harness::new();
    agent(&mut cluster, &with_volume());
    let first = cluster.subscribe(knowing("a", CapabilityType::SharedResources));
    let offer = cluster.take_offers(&first.1).remove(0);
    assert_eq!(read(&offer), with_volume());
    // Two tasks of one ACCEPT have it, and a third one of somebody else.
    cluster.accept(&first, &[&offer], vec![launch(vec![user("t1"), user("t2")])]);
    assert!(cluster.take_statuses(&first.1).is_empty());
    let second = cluster.subscribe(knowing("b", CapabilityType::SharedResources));
    let offer = cluster.take_offers(&second.1).remove(0);
    assert!(read(&offer).contains(&shared()), "{}", read(&offer));
    cluster.accept(&second, &[&offer], vec![launch(vec![user("t3")])]);
    assert_eq!(cluster.tasks().len(), 3);
    let agent = &cluster.core.agents[&AgentId::new("s1")];
    assert_eq!(agent.used.disk(), Milli::whole(100), "counted once");
    assert_eq!(agent.free().disk(), Milli::whole(100));
    let plain = cluster.subscribe(in_role("c", "eng"));
    for offer in cluster.take_offers(&plain.1) {
        assert!(!read(&offer).contains(&shared()), "it needs SHARED_RESOURCES");
    }
}

#[test]
fn a_shared_volume_is_destroyed_when_nobody_uses_it_and_offers_of_it_go_back() {
    let mut cluster = Harness::new();
    let link = agent(&mut cluster, &with_volume());
    let first = cluster.subscribe(knowing("a", CapabilityType::SharedResources));
    let offer = cluster.take_offers(&first.1).remove(0);
    cluster.accept(&first, &[&offer], vec![launch(vec![user("t1")]), operation(Type::Destroy, &shared())]);
    assert_eq!(applied(&cluster.take_commands(link)), ["LAUNCH"], "in use");
    let second = cluster.subscribe(knowing("b", CapabilityType::SharedResources));
    assert!(read(&cluster.take_offers(&second.1)[0]).contains(&shared()));
    cluster.update(link, &first.0, "t1", pb::TaskState::TaskFinished, 1);
    cluster.take(&second.1);
    cluster.input(operator(Type::Destroy, &shared()));
    assert!(kinds(&cluster.take(&second.1)).contains(&event::Type::Rescind));
    assert!(total(&cluster).contains(&reserved("disk:100", "eng")), "{}", total(&cluster));
    assert!(matches!(cluster.take_commands(link).last(), Some(Body::ApplyOperation(_))));
}

#[test]
fn sharing_needs_the_capability() {
    for (capability, made) in [(CapabilityType::SharedResources, true), (CapabilityType::GpuResources, false)]
    {
        let mut cluster = Harness::new();
        let mut all = plain("cpus:4;mem:1000");
        all.add_all(&reserved("disk:100", "eng"));
        agent(&mut cluster, &all);
        let framework = cluster.subscribe(knowing("a", capability));
        let offer = cluster.take_offers(&framework.1).remove(0);
        cluster.accept(&framework, &[&offer], vec![operation(Type::Create, &shared())]);
        assert_eq!(total(&cluster).contains(&shared()), made);
    }
}

fn revocable(text: &str) -> Resources {
    plain(text).into_iter().map(|resource| Resource { revocable: true, ..resource }).collect()
}

#[test]
fn revocable_resources_are_for_those_who_want_them() {
    let mut cluster = Harness::new();
    let mut all = plain("cpus:2;mem:1000");
    all.add_all(&revocable("cpus:3"));
    agent(&mut cluster, &all);
    let modest = cluster.subscribe(in_role("a", "eng"));
    let offer = cluster.take_offers(&modest.1).remove(0);
    assert_eq!(read(&offer), plain("cpus:2;mem:1000"));
    cluster.decline(&modest, &offer, Some(3600.0));
    let bold = cluster.subscribe(knowing("b", CapabilityType::RevocableResources));
    let mut offers = cluster.take_offers(&bold.1);
    let offered: Resources = offers.iter().flat_map(|offer| read(offer).into_iter()).collect();
    assert_eq!(offered, all);

    let mixed = pb::TaskInfo { resources: messages(&all), ..task("mixed", "s1", "cpus:1") };
    let good = pb::TaskInfo { resources: messages(&revocable("cpus:1")), ..task("good", "s1", "cpus:1") };
    let reserve: Resources =
        revocable("cpus:1").push_reservation(&meshos_types::Reservation::dynamic(RoleName::new("eng"), None));
    let operations = vec![launch(vec![mixed, good]), operation(Type::Reserve, &reserve)];
    let offers: Vec<_> = offers.iter_mut().map(|offer| &*offer).collect();
    cluster.accept(&bold, &offers, operations);
    let statuses = cluster.take_statuses(&bold.1);
    assert_eq!(statuses.len(), 1);
    assert!(statuses[0].message().contains("both revocable and non-revocable 'cpus'"));
    assert!(cluster.tasks().contains_key("good"));
    assert_eq!(total(&cluster), all, "what is revocable cannot be reserved");
    let metrics = cluster.core.metrics();
    assert_eq!(metrics["master/cpus_revocable_total"], 3.0);
    assert_eq!(metrics["master/cpus_revocable_used"], 1.0);
    assert_eq!((metrics["master/cpus_total"], metrics["master/cpus_used"]), (2.0, 0.0));
}
