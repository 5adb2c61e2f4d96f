//! What the operator's settings keep from frameworks: hosts that are not listed, roles that are not.

use std::collections::BTreeSet;

use meshos_proto::mesos::v1::{self as pb, scheduler::event};
use meshos_types::RoleName;

use super::{super::*, harness::*};

#[test]
fn only_agents_of_listed_hosts_are_offered() {
    let mut cluster = Harness::new();
    let hosts = |names: &[&str]| Some(names.iter().map(ToString::to_string).collect::<BTreeSet<_>>());
    cluster.input(Input::Whitelist(hosts(&["s2"])));
    cluster.agent("s1", "cpus:4;mem:1024");
    cluster.agent("s2", "cpus:4;mem:1024");
    let framework = cluster.subscribe(info("a"));
    let offered = |cluster: &mut Harness| {
        let offers = cluster.take_offers(&framework.1);
        offers.into_iter().map(|offer| offer.agent_id.value).collect::<Vec<_>>()
    };
    assert_eq!(offered(&mut cluster), ["s2"]);
    cluster.input(Input::Whitelist(None));
    assert_eq!(offered(&mut cluster), ["s1"], "the other one's offer stays");
    cluster.input(Input::Whitelist(hosts(&[])));
    cluster.agent("s3", "cpus:4;mem:1024");
    assert!(offered(&mut cluster).is_empty());
    cluster.input(Input::Whitelist(hosts(&["s3"])));
    assert_eq!(offered(&mut cluster), ["s3"]);
}

#[test]
fn agents_without_a_domain_are_refused_where_one_is_required() {
    for (required, offers) in [(false, 1), (true, 0)] {
        let mut cluster = Harness::with(CoreConfig { require_agent_domain: required, ..config() });
        let framework = cluster.subscribe(info("a"));
        cluster.agent("s1", "cpus:4;mem:1024");
        assert_eq!(cluster.take_offers(&framework.1).len(), offers);
    }
}

#[test]
fn roles_that_are_not_listed_are_refused() {
    let roles = BTreeSet::from([RoleName::new("eng")]);
    let mut cluster = Harness::with(CoreConfig { roles, ..config() });
    #[allow(deprecated, reason = "single-role frameworks use the field `role`")]
    let of = |role: &str| pb::FrameworkInfo { role: Some(role.to_owned()), ..info("a") };
    let (_, stream) = cluster.subscribe(of("eng"));
    assert!(!cluster.take(&stream).is_empty());
    let stream = cluster.subscribe_any(of("ops"));
    let events = cluster.take(&stream);
    assert_eq!(kinds(&events), [event::Type::Error]);
    let message = &events[0].error.as_ref().unwrap().message;
    assert_eq!(message, "Roles { ops } are not present in the master's --roles");
}
