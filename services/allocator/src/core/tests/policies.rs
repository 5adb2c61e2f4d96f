//! What the operator's settings keep from frameworks: hosts that are not listed, roles that are not.

use std::collections::BTreeSet;

use meshos_proto::{
    meshos::{allocator::v1::allocator_message::Body, registry::v1::AgentState},
    mesos::v1::{
        self as pb, TaskState,
        domain_info::{
            FaultDomain,
            fault_domain::{RegionInfo, ZoneInfo},
        },
        scheduler::event,
    },
};
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
fn an_agent_whose_fault_domain_does_not_fit_is_not_taken_and_nobody_waits_for_it() {
    let domain = || pb::DomainInfo {
        fault_domain: Some(FaultDomain {
            region: RegionInfo { name: "r".to_owned() },
            zone: ZoneInfo { name: "z".to_owned() },
        }),
    };
    // Whether the leader has a domain, whether it requires one of agents, whether the agent has one; whether it is taken.
    let cases = [
        (false, false, false, true),
        (true, false, false, true),
        (true, true, true, true),
        (true, true, false, false),
        (false, true, false, false),
        (false, false, true, false),
    ];
    for (leader, require_agent_domain, agent, taken) in cases {
        let mut config = CoreConfig { require_agent_domain, ..config() };
        config.master.domain = leader.then(domain);
        let mut cluster = Harness::with(config);
        let framework = cluster.subscribe(info("a"));
        cluster.input(Input::RegistryChanged(Box::new(record("s1", AgentState::Connected))));
        let mut report = report("s1", "cpus:4;mem:1024");
        report.agent.as_mut().unwrap().domain = agent.then(domain);
        let link = cluster.link(report);
        // A refusal would make it begin a new session with the registry, again and again.
        let refused = cluster.take_commands(link).iter().any(|body| matches!(body, Body::Refused(_)));
        assert!(!refused);
        assert_eq!(cluster.closed_links.contains(&link), !taken);
        assert_eq!(cluster.take_offers(&framework.1).is_empty(), !taken);
        // Nobody waits for it: what may run there is away, what nobody knows is unknown.
        cluster.reconcile(&framework, &[("x", Some("s1")), ("y", None)]);
        let states: Vec<_> = cluster.take_statuses(&framework.1).iter().map(pb::TaskStatus::state).collect();
        let of_agent = if taken { TaskState::TaskGone } else { TaskState::TaskUnreachable };
        assert_eq!(states, [of_agent, TaskState::TaskUnknown]);
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
