//! Offers, filters, order.

#![allow(deprecated, reason = "single-role frameworks use the field `role`")]

use meshos_proto::mesos::v1::{
    self as pb,
    framework_info::capability::Type as Capability,
    scheduler::{Call, call, event},
};

use super::harness::*;

fn roles_call(framework: &meshos_types::FrameworkId, kind: call::Type) -> Call {
    Call {
        revive: Some(call::Revive { roles: Vec::new() }),
        suppress: Some(call::Suppress { roles: Vec::new() }),
        ..call(framework, kind)
    }
}

#[test]
fn mesos_c1_c2_c15_a_subscriber_gets_subscribed_heartbeat_and_the_whole_agent() {
    let mut cluster = Harness::new();
    cluster.agent("s1", "cpus:4;mem:1024;ports:[31000-32000]");
    let (framework, stream) = cluster.subscribe(info("a"));
    assert_eq!(framework.as_str(), "m-0000");
    let events = cluster.take(&stream);
    assert_eq!(kinds(&events), [event::Type::Subscribed, event::Type::Heartbeat, event::Type::Offers]);
    let subscribed = events[0].subscribed.as_ref().unwrap();
    assert_eq!(subscribed.heartbeat_interval_seconds, Some(15.0));
    let offer = &events[2].offers.as_ref().unwrap().offers[0];
    assert_eq!((offer.id.value.as_str(), offer.agent_id.value.as_str()), ("m-O0", "s1"));
    assert!(cpus(&offer.resources) == 4.0 && offer.resources.len() == 3);
    assert_eq!(offer.url.as_ref().unwrap().address.port, 5051);
    cluster.advance(45_000);
    assert_eq!(kinds(&cluster.take(&stream)), [event::Type::Heartbeat; 3]);
}

#[test]
fn mesos_c64_only_multi_role_frameworks_see_allocation_info() {
    let mut cluster = Harness::new();
    cluster.agent("s1", "cpus:4;mem:1024");
    let (_, stream) = cluster.subscribe(info("a"));
    let offer = cluster.take_offers(&stream).remove(0);
    assert!(offer.allocation_info.is_none() && offer.resources[0].allocation_info.is_none());

    let mut cluster = Harness::new();
    cluster.agent("s1", "cpus:4;mem:1024");
    let mut multi = info("b");
    multi.roles = vec!["eng".to_owned()];
    multi.capabilities.push(pb::framework_info::Capability { r#type: Some(Capability::MultiRole.into()) });
    let (_, stream) = cluster.subscribe(multi);
    let offer = cluster.take_offers(&stream).remove(0);
    assert_eq!(offer.allocation_info.unwrap().role.as_deref(), Some("eng"));
    assert_eq!(offer.resources[0].allocation_info.as_ref().unwrap().role.as_deref(), Some("eng"));
}

#[test]
fn mesos_c64_roles_without_multi_role_are_refused_by_an_error_event() {
    let mut cluster = Harness::new();
    let stream = cluster.subscribe_any(pb::FrameworkInfo { roles: vec!["eng".to_owned()], ..info("a") });
    let events = cluster.take(&stream);
    let message = &events[0].error.as_ref().unwrap().message;
    assert_eq!(message, "'FrameworkInfo.roles' must not be set when the framework is not MULTI_ROLE capable");
    assert_eq!(cluster.closed, [stream]);
    assert!(cluster.core.snapshot().frameworks.is_empty());
}

#[test]
fn mesos_c16_a_declined_offer_stays_away_for_five_seconds() {
    let mut cluster = Harness::new();
    cluster.agent("s1", "cpus:4;mem:1024");
    let framework = cluster.subscribe(info("a"));
    let offer = cluster.take_offers(&framework.1).remove(0);
    cluster.decline(&framework, &offer, None);
    cluster.advance(4_999);
    assert!(cluster.take_offers(&framework.1).is_empty());
    cluster.advance(1);
    assert_eq!(cluster.take_offers(&framework.1).len(), 1);
}

#[test]
fn mesos_c17_without_a_filter_it_is_back_after_the_allocation_interval() {
    let mut cluster = Harness::new();
    cluster.agent("s1", "cpus:4;mem:1024");
    let framework = cluster.subscribe(info("a"));
    let offer = cluster.take_offers(&framework.1).remove(0);
    cluster.decline(&framework, &offer, Some(0.0));
    assert!(cluster.take_offers(&framework.1).is_empty());
    cluster.advance(1_000);
    assert_eq!(cluster.take_offers(&framework.1).len(), 1);
}

#[test]
fn what_one_declines_another_gets_at_once() {
    let mut cluster = Harness::new();
    cluster.agent("s1", "cpus:4;mem:1024");
    let first = cluster.subscribe(info("a"));
    let second = cluster.subscribe(info("b"));
    let offer = cluster.take_offers(&first.1).remove(0);
    assert!(cluster.take_offers(&second.1).is_empty());
    cluster.decline(&first, &offer, Some(60.0));
    assert_eq!(cluster.take_offers(&second.1).len(), 1);
}

#[test]
fn mesos_c19_c20_revive_and_suppress() {
    let mut cluster = Harness::new();
    cluster.agent("s1", "cpus:4;mem:1024");
    let framework = cluster.subscribe(info("a"));
    let offer = cluster.take_offers(&framework.1).remove(0);
    cluster.decline(&framework, &offer, Some(3600.0));
    cluster.call(&framework.1, roles_call(&framework.0, call::Type::Revive));
    let offer = cluster.take_offers(&framework.1).remove(0);
    cluster.call(&framework.1, roles_call(&framework.0, call::Type::Suppress));
    cluster.agent("s2", "cpus:4;mem:1024");
    assert!(cluster.take_offers(&framework.1).is_empty());
    cluster.accept(&framework, &[&offer], vec![launch(vec![task("t", "s1", "cpus:1")])]);
    assert_eq!(cluster.tasks().len(), 1, "an offer made before SUPPRESS can be accepted");
    cluster.call(&framework.1, roles_call(&framework.0, call::Type::Revive));
    assert_eq!(cluster.take_offers(&framework.1).len(), 2);
    assert_eq!(cluster.core.timers.next(), Some(START + 15_000), "no filter's timer is left behind");
}

#[test]
fn mesos_c22_the_next_agent_goes_to_who_has_less() {
    let mut cluster = Harness::new();
    let first = cluster.subscribe(info("a"));
    let second = cluster.subscribe(info("b"));
    cluster.agent("s1", "cpus:4;mem:1024");
    assert_eq!(cluster.take_offers(&first.1).len(), 1);
    cluster.agent("s2", "cpus:4;mem:1024");
    assert_eq!(cluster.take_offers(&second.1).len(), 1);
    assert!(cluster.take_offers(&first.1).is_empty());
}

#[test]
fn mesos_c62_a_gpu_agent_is_hidden_from_who_knows_no_gpus() {
    let mut cluster = Harness::new();
    cluster.agent("s1", "cpus:4;mem:1024;gpus:1");
    let plain = cluster.subscribe(info("a"));
    assert!(cluster.take_offers(&plain.1).is_empty());
    let mut gpus = info("b");
    gpus.capabilities.push(pb::framework_info::Capability { r#type: Some(Capability::GpuResources.into()) });
    let gpus = cluster.subscribe(gpus);
    assert_eq!(cluster.take_offers(&gpus.1).len(), 1);
}

#[test]
fn reserved_resources_go_to_their_role_and_the_roles_below() {
    let mut cluster = Harness::new();
    cluster.agent("s1", "cpus:4;mem:1024;cpus(eng):2");
    let star = cluster.subscribe(info("a"));
    assert_eq!(cpus(&cluster.take_offers(&star.1)[0].resources), 4.0);
    let below = cluster.subscribe(pb::FrameworkInfo { role: Some("eng/web".to_owned()), ..info("b") });
    assert_eq!(cpus(&cluster.take_offers(&below.1)[0].resources), 2.0);
}

#[test]
fn an_offer_that_is_not_answered_in_time_is_rescinded_and_made_again() {
    let mut cluster = Harness::with(super::super::CoreConfig { offer_timeout_ms: Some(2_000), ..config() });
    cluster.agent("s1", "cpus:4;mem:1024");
    let (_, stream) = cluster.subscribe(info("a"));
    cluster.take(&stream);
    cluster.advance(2_000);
    assert_eq!(kinds(&cluster.take(&stream)), [event::Type::Rescind, event::Type::Offers]);
}
