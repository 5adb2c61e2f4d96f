//! Weights, quotas, and what they do to offers.

use meshos_proto::{
    meshos::{
        allocator::v1::{UpdateQuotaRequest, explain_request::Subject},
        registry::v1 as registry,
    },
    mesos::v1::{
        self as pb,
        framework_info::{Capability, capability::Type as CapabilityType},
        quota::QuotaConfig,
        scheduler::event,
        value::Scalar,
    },
};

use super::{super::*, harness::*};

/// A framework in these roles.
fn in_roles(name: &str, roles: &[&str]) -> pb::FrameworkInfo {
    let mut info = info(name);
    info.roles = roles.iter().map(|role| (*role).to_owned()).collect();
    info.capabilities.push(Capability { r#type: Some(CapabilityType::MultiRole.into()) });
    info
}

pub(crate) fn quota(role: &str, guarantees: &[(&str, f64)], limits: &[(&str, f64)]) -> QuotaConfig {
    let scalars = |values: &[(&str, f64)]| {
        values.iter().map(|(name, value)| ((*name).to_owned(), Scalar { value: *value })).collect()
    };
    QuotaConfig { role: role.to_owned(), guarantees: scalars(guarantees), limits: scalars(limits) }
}

fn set(cluster: &mut Harness, configs: Vec<QuotaConfig>) -> Result<(), CallError> {
    let update = UpdateQuotaRequest { configs, force: false, remove: Vec::new() };
    cluster.try_input(Input::UpdateQuota(Box::new(update)))
}

fn weight(role: &str, weight: f64) -> pb::WeightInfo {
    pb::WeightInfo { weight, role: Some(role.to_owned()) }
}

fn offered_cpus(cluster: &mut Harness, framework: &(FrameworkId, StreamId)) -> f64 {
    cluster.take_offers(&framework.1).iter().map(|offer| cpus(&offer.resources)).sum()
}

#[test]
fn mesos_c23_hungry_roles_share_by_their_weights() {
    let mut cluster = Harness::new();
    cluster.input(Input::UpdateWeights(vec![weight("a", 2.0)]));
    let a = cluster.subscribe(in_roles("a", &["a"]));
    let b = cluster.subscribe(in_roles("b", &["b"]));
    for agent in 0..30 {
        cluster.agent(&format!("s{agent}"), "cpus:1;mem:100");
    }
    let (a, b) = (cluster.take_offers(&a.1).len(), cluster.take_offers(&b.1).len());
    assert_eq!((a, b), (20, 10));
}

#[test]
fn new_weights_of_active_roles_take_all_offers_back_and_are_remembered() {
    let mut cluster = Harness::new();
    cluster.agent("s1", "cpus:1;mem:100");
    let a = cluster.subscribe(in_roles("a", &["a"]));
    cluster.take(&a.1);
    cluster.input(Input::UpdateWeights(vec![weight("idle", 3.0)]));
    assert!(cluster.take(&a.1).is_empty(), "nobody is in that role");
    cluster.input(Input::UpdateWeights(vec![weight("a", 2.0)]));
    assert_eq!(kinds(&cluster.take(&a.1)), [event::Type::Rescind, event::Type::Offers]);
    assert_eq!(cluster.roles.last().unwrap().weight, Some(2.0));
    let refused = cluster.try_input(Input::UpdateWeights(vec![weight("b", 1.0), weight("a", 0.0)]));
    let text = "Failed to validate update weights request JSON: Invalid weight '0': Weights must be positive";
    assert_eq!(refused, Err(CallError::Invalid(text.to_owned())));
    assert_eq!(cluster.core.snapshot().roles.len(), 2, "none of a refused list is in force");

    let mut next = Harness::new();
    next.input(Input::RoleRecords(cluster.roles.clone()));
    assert_eq!(next.core.snapshot().roles, cluster.core.snapshot().roles);
}

#[test]
fn mesos_c24_a_role_at_its_limit_is_offered_no_more() {
    let mut cluster = Harness::new();
    set(&mut cluster, vec![quota("a", &[], &[("cpus", 2.0)])]).unwrap();
    cluster.agent("s1", "cpus:3;mem:100;ports:[31000-31001]");
    let a = cluster.subscribe(in_roles("a", &["a"]));
    let offer = cluster.take_offers(&a.1).remove(0);
    assert_eq!(cpus(&offer.resources), 2.0);
    cluster.agent("s2", "cpus:3;mem:100");
    let more = cluster.take_offers(&a.1);
    assert!(more.iter().all(|offer| cpus(&offer.resources) == 0.0 && offer.agent_id.value == "s2"));
    cluster.accept(&a, &[&offer], vec![launch(vec![task("t", "s1", "cpus:1;mem:100")])]);
    let offers = cluster.take_offers(&a.1);
    assert_eq!(offers.iter().map(|offer| cpus(&offer.resources)).sum::<f64>(), 1.0);
    assert_eq!(offers[0].agent_id.value, "s2", "the rest of s1 is declined for a while");
}

#[test]
fn the_limit_of_a_role_binds_the_roles_below_it() {
    let mut cluster = Harness::new();
    set(&mut cluster, vec![quota("a", &[], &[("cpus", 2.0)])]).unwrap();
    let web = cluster.subscribe(in_roles("web", &["a/web"]));
    let db = cluster.subscribe(in_roles("db", &["a/db"]));
    for agent in 0..4 {
        cluster.agent(&format!("s{agent}"), "cpus:1");
    }
    let offers = offered_cpus(&mut cluster, &web) + offered_cpus(&mut cluster, &db);
    assert_eq!(offers, 2.0);
}

#[test]
fn what_a_limit_held_back_is_offered_when_there_is_room() {
    let mut cluster = Harness::new();
    set(&mut cluster, vec![quota("a", &[], &[("cpus", 1.0)])]).unwrap();
    let a = cluster.subscribe(in_roles("a", &["a"]));
    let first = cluster.agent("s1", "cpus:1");
    cluster.agent("s2", "cpus:1");
    let offer = cluster.take_offers(&a.1).remove(0);
    assert_eq!(offer.agent_id.value, "s1");
    cluster.input(Input::AgentUnlinked { link: first });
    assert_eq!(cluster.take_offers(&a.1)[0].agent_id.value, "s2", "the room of the lost offer");
    set(&mut cluster, vec![quota("a", &[], &[("cpus", 5.0)])]).unwrap();
    cluster.agent("s3", "cpus:1");
    assert_eq!(offered_cpus(&mut cluster, &a), 1.0);
}

#[test]
fn what_a_lower_guarantee_no_longer_needs_is_offered() {
    let mut cluster = Harness::new();
    cluster.agent("s1", "cpus:4;mem:100");
    set(&mut cluster, vec![quota("idle", &[("cpus", 2.0)], &[])]).unwrap();
    let hungry = cluster.subscribe(in_roles("b", &["b"]));
    assert_eq!(offered_cpus(&mut cluster, &hungry), 2.0);
    set(&mut cluster, vec![quota("idle", &[("cpus", 1.0)], &[])]).unwrap();
    assert_eq!(offered_cpus(&mut cluster, &hungry), 1.0);
    set(&mut cluster, vec![quota("idle", &[("cpus", 3.0)], &[])]).unwrap();
    set(&mut cluster, vec![quota("idle", &[], &[])]).unwrap();
    assert!(offered_cpus(&mut cluster, &hungry) >= 1.0);
}

#[test]
fn a_closed_role_counts_what_it_is_passed_over_for_and_is_served_when_it_opens() {
    let mut cluster = Harness::new();
    set(&mut cluster, vec![quota("a", &[], &[("cpus", 1.0), ("mem", 100.0)])]).unwrap();
    let a = cluster.subscribe(in_roles("a", &["a"]));
    for agent in 0..5 {
        cluster.agent(&format!("s{agent}"), "cpus:1;mem:100");
    }
    assert_eq!(offered_cpus(&mut cluster, &a), 1.0);
    let subject = Subject::FrameworkId(a.0.to_string());
    let refusals = cluster.core.explain(&subject).unwrap().remove(0).refusals;
    assert_eq!(refusals.get("quota_limit"), Some(&4), "{refusals:?}");
    set(&mut cluster, vec![quota("a", &[], &[("cpus", 3.0), ("mem", 300.0)])]).unwrap();
    assert_eq!(offered_cpus(&mut cluster, &a), 2.0);
}

#[test]
fn mesos_c25_what_a_guarantee_needs_is_kept_free() {
    let mut cluster = Harness::new();
    for agent in 0..4 {
        cluster.agent(&format!("s{agent}"), "cpus:1;mem:100");
    }
    set(&mut cluster, vec![quota("idle", &[("cpus", 3.0)], &[])]).unwrap();
    let hungry = cluster.subscribe(in_roles("b", &["b"]));
    assert_eq!(offered_cpus(&mut cluster, &hungry), 1.0);
    let subject = Subject::FrameworkId(hungry.0.to_string());
    let refusals = cluster.core.explain(&subject).unwrap().remove(0).refusals;
    assert!(refusals.contains_key("quota_headroom"), "{refusals:?}");
    let idle = cluster.subscribe(in_roles("a", &["idle"]));
    assert_eq!(offered_cpus(&mut cluster, &idle), 3.0);
}

#[test]
fn a_new_guarantee_takes_offers_back_from_others() {
    let mut cluster = Harness::new();
    let hungry = cluster.subscribe(in_roles("b", &["b"]));
    let entitled = cluster.subscribe(in_roles("a", &["a"]));
    cluster.input(Input::StreamClosed { stream: entitled.1.clone() });
    for agent in 0..4 {
        cluster.agent(&format!("s{agent}"), "cpus:1");
    }
    assert_eq!(offered_cpus(&mut cluster, &hungry), 4.0);
    set(&mut cluster, vec![quota("a", &[("cpus", 2.0)], &[])]).unwrap();
    assert_eq!(kinds(&cluster.take(&hungry.1)), [event::Type::Rescind; 2]);
    let info = pb::FrameworkInfo { id: Some(entitled.0.to_proto()), ..in_roles("a", &["a"]) };
    let entitled = cluster.subscribe(info);
    assert_eq!(offered_cpus(&mut cluster, &entitled), 2.0);
    // What the entitled role leaves is kept for it while its guarantee is not met.
    cluster.input(Input::StreamClosed { stream: entitled.1 });
    assert!(cluster.take(&hungry.1).is_empty());
    let remove = UpdateQuotaRequest { remove: vec!["a".to_owned()], ..UpdateQuotaRequest::default() };
    cluster.input(Input::UpdateQuota(Box::new(remove)));
    assert_eq!(offered_cpus(&mut cluster, &hungry), 2.0);
}

#[test]
fn mesos_c26_quotas_are_checked_all_together() {
    let mut cluster = Harness::new();
    cluster.agent("s1", "cpus:4;mem:1000");
    let a = cluster.subscribe(in_roles("a", &["a"]));
    cluster.take(&a.1);
    for (config, begin) in [
        (quota("a/b", &[], &[]), "Invalid QuotaConfig: Updating quota on nested role 'a/b'"),
        (quota("-", &[], &[]), "Invalid QuotaConfig: Invalid 'QuotaConfig.role'"),
        (quota("b", &[("cpus", 2.0)], &[("cpus", 1.0)]), "Invalid QuotaConfig: 'QuotaConfig.guarantees'"),
        (quota("b", &[("cpus", 1e13)], &[]), "Invalid QuotaConfig: Invalid guarantee configuration"),
        (quota("b", &[], &[("mem", -1.0)]), "Invalid QuotaConfig: Invalid limit configuration"),
        (quota("b", &[("cpus", 5.0)], &[]), "Invalid QuotaConfig: total quota guarantees"),
        (quota("a", &[], &[("cpus", 1.0)]), "Invalid QuotaConfig: Role 'a' is already consuming"),
    ] {
        let fine = quota("fine", &[], &[("cpus", 1.0)]);
        let error = set(&mut cluster, vec![fine, config]).unwrap_err();
        assert!(error.to_string().starts_with(begin), "{error}");
        assert!(cluster.core.snapshot().roles.is_empty() && cluster.roles.is_empty());
    }
    let configs = vec![quota("b", &[("cpus", 5.0)], &[]), quota("a", &[], &[("cpus", 1.0)])];
    let update = UpdateQuotaRequest { configs, force: true, remove: Vec::new() };
    cluster.input(Input::UpdateQuota(Box::new(update)));
    assert_eq!(cluster.roles.len(), 2);
    assert_eq!(kinds(&cluster.take(&a.1))[0], event::Type::Rescind, "the offer is above the new limit");
}

#[test]
fn an_empty_quota_is_remembered_until_it_is_removed() {
    let mut cluster = Harness::new();
    set(&mut cluster, vec![quota("*", &[], &[])]).unwrap();
    assert_eq!(cluster.core.snapshot().roles[0].quota, Some(quota("*", &[], &[])));
    let remove = UpdateQuotaRequest { remove: vec!["*".to_owned()], ..UpdateQuotaRequest::default() };
    cluster.input(Input::UpdateQuota(Box::new(remove.clone())));
    assert!(cluster.core.snapshot().roles.is_empty());
    assert!(cluster.try_input(Input::UpdateQuota(Box::new(remove))).is_err());
}

#[test]
fn with_quotas_a_new_leader_waits_for_most_agents() {
    use meshos_proto::meshos::registry::v1::AgentState;
    let mut cluster = Harness::new();
    for agent in 0..5 {
        let known = record(&format!("s{agent}"), AgentState::Connected);
        cluster.input(Input::RegistryChanged(Box::new(known)));
    }
    let config = quota("a", &[], &[("cpus", 100.0)]);
    let role = registry::Role { format: 1, name: "a".to_owned(), weight: None, quota: Some(config) };
    cluster.input(Input::RoleRecords(vec![role]));
    let a = cluster.subscribe(in_roles("a", &["a"]));
    cluster.take(&a.1);
    for agent in 0..3 {
        cluster.link(report(&format!("s{agent}"), "cpus:1"));
    }
    assert!(cluster.take(&a.1).is_empty());
    cluster.link(report("s3", "cpus:1"));
    assert_eq!(offered_cpus(&mut cluster, &a), 4.0);
}

#[test]
fn reasons_for_no_offer_are_counted() {
    let mut cluster = Harness::new();
    cluster.agent("s1", "cpus:4;mem:1000;gpus:1");
    cluster.agent("s2", "cpus:0.001;mem:1");
    cluster.agent("s3", "cpus:4;mem:1000");
    let a = cluster.subscribe(in_roles("a", &["a"]));
    let offer = cluster.take_offers(&a.1).remove(0);
    cluster.decline(&a, &offer, Some(60.0));
    let explained = cluster.core.explain(&Subject::Role("a".to_owned())).unwrap().remove(0);
    assert_eq!((explained.offered, explained.suppressed), (1, false));
    let refusals: Vec<_> = explained.refusals.iter().map(|(name, count)| (name.as_str(), *count)).collect();
    assert_eq!(refusals, [("capability", 1), ("filter", 1)]);
    assert!(cluster.core.explain(&Subject::Role("nobody".to_owned())).is_none());
    assert!(cluster.core.explain(&Subject::FrameworkId("nobody".to_owned())).is_none());
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 12, ..Default::default() })]

    /// On many small agents every role of a level comes within one agent of the part that its weight gives it, and
    /// so do the children of a role within what that role got.
    #[test]
    fn shares_converge_to_the_weights(
        weights in proptest::collection::vec(1..5_u32, 2..4),
        below in proptest::collection::vec(1..4_u32, 2..4),
        seed in 0..100_u32,
    ) {
        let mut cluster = Harness::new();
        let mut infos = Vec::new();
        for (index, of) in weights.iter().enumerate() {
            infos.push((format!("r{index}"), *of));
        }
        for (index, of) in below.iter().enumerate() {
            infos.push((format!("r0/c{index}"), *of));
        }
        let set = infos.iter().map(|(role, of)| weight(role, f64::from(*of))).collect();
        cluster.input(Input::UpdateWeights(set));
        // The first role has children only.
        let frameworks: Vec<_> =
            infos[1..].iter().map(|(role, _)| (role.clone(), cluster.subscribe(in_roles(role, &[role])))).collect();
        let agents = 120;
        for agent in 0..agents {
            cluster.agent(&format!("s{seed}-{agent}"), "cpus:1;mem:100");
        }
        let got: BTreeMap<String, usize> = frameworks
            .into_iter()
            .map(|(role, framework)| (role, cluster.take_offers(&framework.1).len()))
            .collect();
        let near = |got: usize, whole: usize, of: u32, all: &[u32]| {
            let part = whole as f64 * f64::from(of) / f64::from(all.iter().sum::<u32>());
            (got as f64 - part).abs() <= 1.0
        };
        let children: usize = (0..below.len()).map(|index| got[&format!("r0/c{index}")]).sum();
        proptest::prop_assert!(near(children, agents, weights[0], &weights), "{got:?}");
        for (index, of) in weights.iter().enumerate().skip(1) {
            proptest::prop_assert!(near(got[&format!("r{index}")], agents, *of, &weights), "{got:?}");
        }
        for (index, of) in below.iter().enumerate() {
            proptest::prop_assert!(near(got[&format!("r0/c{index}")], children, *of, &below), "{got:?}");
        }
    }
}
