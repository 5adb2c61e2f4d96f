//! What frameworks wish for: constraints, regions, least resources, and changes of mind.

#![allow(deprecated, reason = "single-role frameworks use the field `role`")]

use meshos_proto::{
    meshos::{
        allocator::v1::{Reregister, explain_request},
        registry::v1::AgentState,
    },
    mesos::v1::{
        self as pb,
        domain_info::{
            FaultDomain,
            fault_domain::{RegionInfo, ZoneInfo},
        },
        framework_info::{Capability, capability::Type as CapabilityType},
        offer_filters::{MinAllocatableResources, ResourceQuantities},
        scheduler::{
            AttributeConstraint, Call, OfferConstraints,
            attribute_constraint::{
                Predicate, Selector,
                predicate::{self, Predicate as Kind},
                selector::{PseudoattributeType, Selector as Of},
            },
            call, event,
            offer_constraints::{RoleConstraints, role_constraints::Group},
        },
        value,
    },
};

use super::{super::*, harness::*};

fn domain(region: &str) -> pb::DomainInfo {
    let fault_domain = FaultDomain {
        region: RegionInfo { name: region.to_owned() },
        zone: ZoneInfo { name: "z".to_owned() },
    };
    pb::DomainInfo { fault_domain: Some(fault_domain) }
}

/// A cluster whose leader has a fault domain in this region.
fn in_region(region: &str) -> Harness {
    let mut config = config();
    config.master.domain = Some(domain(region));
    Harness::with(config)
}

/// An agent with the text attribute `rack`, the number `floor`, and a region.
fn agent(cluster: &mut Harness, name: &str, rack: &str) {
    cluster.input(Input::RegistryChanged(Box::new(record(name, AgentState::Connected))));
    let text = |name: &str, value: &str| pb::Attribute {
        name: name.to_owned(),
        r#type: value::Type::Text.into(),
        text: Some(value::Text { value: value.to_owned() }),
        ..pb::Attribute::default()
    };
    let number = pb::Attribute {
        name: "floor".to_owned(),
        r#type: value::Type::Scalar.into(),
        scalar: Some(value::Scalar { value: 2.0 }),
        ..pb::Attribute::default()
    };
    let base = report(name, "cpus:1;mem:100");
    let info = pb::AgentInfo {
        attributes: vec![text("rack", rack), number],
        domain: Some(domain("r1")),
        ..base.agent.clone().unwrap()
    };
    cluster.link(Reregister { agent: Some(info), ..base });
}

fn constraint(of: Of, kind: Kind) -> AttributeConstraint {
    AttributeConstraint {
        selector: Selector { selector: Some(of) },
        predicate: Predicate { predicate: Some(kind) },
    }
}

fn attribute(name: &str, kind: Kind) -> AttributeConstraint {
    constraint(Of::AttributeName(name.to_owned()), kind)
}

fn matches(regex: &str) -> Kind {
    Kind::TextMatches(predicate::TextMatches { regex: regex.to_owned() })
}

fn equals(value: &str) -> Kind {
    Kind::TextEquals(predicate::TextEquals { value: value.to_owned() })
}

fn wish(groups: Vec<Vec<AttributeConstraint>>) -> OfferConstraints {
    let groups = groups.into_iter().map(|attribute_constraints| Group { attribute_constraints }).collect();
    OfferConstraints { role_constraints: [("*".to_owned(), RoleConstraints { groups })].into() }
}

fn update(
    framework: &(FrameworkId, StreamId),
    info: pb::FrameworkInfo,
    offer_constraints: Option<OfferConstraints>,
) -> Call {
    let framework_info = pb::FrameworkInfo { id: Some(framework.0.to_proto()), ..info };
    let update = call::UpdateFramework { framework_info, suppressed_roles: Vec::new(), offer_constraints };
    Call { update_framework: Some(update), ..call(&framework.0, call::Type::UpdateFramework) }
}

/// The agents that a framework with these constraints is offered.
fn offered(groups: Vec<Vec<AttributeConstraint>>) -> Vec<String> {
    let mut cluster = in_region("r1");
    let framework = cluster.subscribe(info("a"));
    cluster.call(&framework.1, update(&framework, info("a"), Some(wish(groups))));
    for (name, rack) in [("s1", "r-1"), ("s2", "r-22"), ("s3", "x")] {
        agent(&mut cluster, name, rack);
    }
    let offers = cluster.take_offers(&framework.1);
    offers.into_iter().map(|offer| offer.agent_id.value).collect()
}

#[test]
fn constraints_choose_agents_by_attribute() {
    let not_equals = Kind::TextNotEquals(predicate::TextNotEquals { value: "x".to_owned() });
    let not_matches = Kind::TextNotMatches(predicate::TextNotMatches { regex: "r-.*".to_owned() });
    let exists = || Kind::Exists(predicate::Exists {});
    let absent = || Kind::NotExists(predicate::NotExists {});
    let name = |kind: PseudoattributeType| Of::PseudoattributeType(kind.into());
    for (constraint, expected) in [
        (attribute("rack", equals("r-1")), vec!["s1"]),
        (attribute("rack", not_equals), vec!["s1", "s2"]),
        (attribute("rack", matches("r-[0-9]")), vec!["s1"]),
        (attribute("rack", matches("r-[0-9]+|x")), vec!["s1", "s2", "s3"]),
        (attribute("rack", not_matches), vec!["s3"]),
        (attribute("rack", exists()), vec!["s1", "s2", "s3"]),
        (attribute("rack", absent()), vec![]),
        (attribute("other", absent()), vec!["s1", "s2", "s3"]),
        (attribute("other", equals("")), vec![]),
        (attribute("floor", equals("9")), vec!["s1", "s2", "s3"]),
        (constraint(name(PseudoattributeType::Hostname), equals("s2")), vec!["s2"]),
        (constraint(name(PseudoattributeType::Region), equals("r1")), vec!["s1", "s2", "s3"]),
        (constraint(name(PseudoattributeType::Zone), equals("r1")), vec![]),
    ] {
        assert_eq!(offered(vec![vec![constraint.clone()]]), expected, "{constraint:?}");
    }
    let both = vec![attribute("rack", matches("r.*")), attribute("rack", matches(".*2"))];
    assert_eq!(offered(vec![both, vec![attribute("rack", equals("x"))]]), ["s2", "s3"]);
}

#[test]
fn agents_that_constraints_keep_away_are_counted() {
    let mut cluster = in_region("r1");
    let framework = cluster.subscribe(info("a"));
    let x = wish(vec![vec![attribute("rack", equals("x"))]]);
    cluster.call(&framework.1, update(&framework, info("a"), Some(x)));
    agent(&mut cluster, "s1", "x");
    agent(&mut cluster, "s2", "y");
    assert_eq!(cluster.take_offers(&framework.1).len(), 1);
    assert_eq!(cluster.refusals(&framework.0), [("constraint".to_owned(), 1)]);
    cluster.call(&framework.1, call(&framework.0, call::Type::Suppress));
    let subject = explain_request::Subject::FrameworkId(framework.0.to_string());
    assert!(cluster.core.explain(&subject).unwrap()[0].suppressed);
}

#[test]
fn bad_constraints_are_refused() {
    let mut cluster = in_region("r1");
    let framework = cluster.subscribe(info("a"));
    let mut elsewhere = wish(vec![vec![attribute("rack", equals("x"))]]);
    let groups = elsewhere.role_constraints.remove("*").unwrap();
    elsewhere.role_constraints.insert("eng".to_owned(), groups);
    for constraints in [
        wish(vec![]),
        wish(vec![vec![]]),
        wish(vec![vec![attribute("rack", matches("a)(b"))]]),
        wish(vec![vec![attribute("rack", matches("(a{1000}){1000}"))]]),
        elsewhere,
    ] {
        let refused =
            cluster.try_call(&framework.1, update(&framework, info("a"), Some(constraints.clone())));
        let text = refused.unwrap_err().to_string();
        assert!(text.starts_with("'UpdateFramework' call is not valid: Offer constraints"), "{text}");
        let subscribe = call::Subscribe {
            framework_info: info("b"),
            offer_constraints: Some(constraints),
            ..call::Subscribe::default()
        };
        let call = Call {
            r#type: Some(call::Type::Subscribe.into()),
            subscribe: Some(subscribe),
            ..Call::default()
        };
        cluster.input(Input::Subscribe { stream: "b".to_owned(), call: Box::new(call) });
        assert_eq!(kinds(&cluster.take(&"b".to_owned())), [event::Type::Error]);
    }
}

#[test]
fn an_update_changes_roles_and_takes_offers_of_left_roles_back() {
    let mut cluster = in_region("r1");
    cluster.agent("s1", "cpus:2;mem:100");
    let framework = cluster.subscribe(info("a"));
    cluster.take(&framework.1);
    let renamed = pb::FrameworkInfo { role: Some("eng".to_owned()), ..info("renamed") };
    cluster.call(&framework.1, update(&framework, renamed, None));
    let events = cluster.take(&framework.1);
    assert_eq!(kinds(&events), [event::Type::Rescind, event::Type::Offers]);
    let shown = cluster.core.snapshot().frameworks.remove(0).info.unwrap();
    assert_eq!((shown.name.as_str(), shown.role.as_deref()), ("renamed", Some("eng")));
    assert_eq!(cluster.records.last().unwrap().info.as_ref().unwrap().name, "renamed");
    for (change, begin) in [
        (pb::FrameworkInfo { user: "other".to_owned(), ..info("a") }, "FrameworkInfo update is not valid: "),
        (pb::FrameworkInfo { checkpoint: Some(true), ..info("a") }, "FrameworkInfo update is not valid: "),
        (
            pb::FrameworkInfo { principal: Some("other".to_owned()), ..info("a") },
            "FrameworkInfo update is not valid: Changing framework's principal",
        ),
        (
            pb::FrameworkInfo { role: Some("/".to_owned()), ..info("a") },
            "Supplied FrameworkInfo is not valid: ",
        ),
    ] {
        let refused = cluster.try_call(&framework.1, update(&framework, change, None)).unwrap_err();
        assert!(refused.to_string().starts_with(begin), "{refused}");
    }
    assert_eq!(cluster.core.snapshot().frameworks[0].info.as_ref().unwrap().name, "renamed");
}

#[test]
fn an_agent_in_another_region_is_for_those_who_know_of_regions() {
    let mut cluster = in_region("r2");
    agent(&mut cluster, "s1", "x");
    let plain = cluster.subscribe(info("a"));
    assert!(cluster.take_offers(&plain.1).is_empty());
    assert_eq!(cluster.refusals(&plain.0), [("region".to_owned(), 1)]);
    let mut aware = info("b");
    aware.capabilities.push(Capability { r#type: Some(CapabilityType::RegionAware.into()) });
    let aware = cluster.subscribe(aware);
    assert_eq!(cluster.take_offers(&aware.1).len(), 1);
}

#[test]
fn a_framework_may_set_its_own_least() {
    let least = |quantities: &[(&str, f64)]| {
        let scalars =
            quantities.iter().map(|(name, value)| ((*name).to_owned(), value::Scalar { value: *value }));
        let quantities = vec![ResourceQuantities { quantities: scalars.collect() }];
        let min_allocatable_resources = Some(MinAllocatableResources { quantities });
        let filters = pb::OfferFilters { min_allocatable_resources };
        pb::FrameworkInfo { offer_filters: [("*".to_owned(), filters)].into(), ..info("a") }
    };
    let mut cluster = Harness::new();
    cluster.agent("s1", "cpus:2;mem:100");
    let greedy = cluster.subscribe(least(&[("cpus", 4.0)]));
    assert!(cluster.take_offers(&greedy.1).is_empty());
    assert_eq!(cluster.refusals(&greedy.0), [("too_small".to_owned(), 1)]);
    let modest = cluster.subscribe(least(&[("cpus", 2.0), ("mem", 50.0)]));
    assert_eq!(cluster.take_offers(&modest.1).len(), 1);
}
