//! `GET /roles` and `GET_ROLES`: every role that a framework is in, that something is reserved or allocated to or
//! that an operator has set something for, and the roles above these.

use std::collections::{BTreeMap, BTreeSet};

use meshos_proto::mesos::v1::{self as pb, quota::QuotaConfig, value};
use meshos_types::{Resources, RoleName};
use serde_json::{Map, Value, json};

use super::{
    render::{resources, roles_of},
    settings,
};
use crate::views::Cluster;

#[derive(Default)]
struct Role {
    allocated: Resources,
    offered: Resources,
    reserved: Resources,
    frameworks: BTreeSet<String>,
    weight: f64,
    quota: QuotaConfig,
    /// What counts against its quota, its subroles' part included.
    consumed: Resources,
}

/// `GET /roles`
pub(super) fn roles(cluster: &Cluster) -> Value {
    json!({"roles": collect(cluster).iter().map(|(name, role)| render(name, role)).collect::<Value>()})
}

/// The same as messages.
pub(super) fn messages(cluster: &Cluster) -> Vec<pb::Role> {
    let message = |(name, role): (String, Role)| pb::Role {
        resources: together(&role)
            .scalars()
            .iter()
            .map(|(name, amount)| settings::scalar(name, value::Scalar { value: amount.to_f64() }))
            .collect(),
        name,
        weight: role.weight,
        frameworks: role.frameworks.into_iter().map(|value| pb::FrameworkId { value }).collect(),
    };
    collect(cluster).into_iter().map(message).collect()
}

fn collect(cluster: &Cluster) -> BTreeMap<String, Role> {
    let mut roles: BTreeMap<String, Role> = BTreeMap::new();
    for (id, framework) in cluster.frameworks.iter().filter(|(_, framework)| !framework.completed) {
        let info = framework.info.clone().unwrap_or_default();
        for name in roles_of(&info) {
            roles.entry(name.to_owned()).or_default().frameworks.insert(id.to_string());
        }
    }
    for agent in cluster.agents.values() {
        for (name, part) in resources(&agent.used).allocations() {
            roles.entry(name.to_string()).or_default().allocated.add_all(&part);
        }
        for (name, part) in resources(&agent.offered).allocations() {
            roles.entry(name.to_string()).or_default().offered.add_all(&part);
        }
        for (name, part) in resources(&agent.total).reservations() {
            roles.entry(name.to_string()).or_default().reserved.add_all(&part);
        }
    }
    for name in cluster.roles.keys() {
        roles.entry(name.clone()).or_default();
    }
    complete(cluster, &mut roles);
    roles
}

/// Adds the roles above, what is consumed below each, and what operators have set.
fn complete(cluster: &Cluster, roles: &mut BTreeMap<String, Role>) {
    let names: Vec<String> = roles.keys().cloned().collect();
    for name in names {
        let Some(role) = roles.get(&name) else { continue };
        let mut own = role.allocated.unreserved().non_revocable();
        own.add_all(&role.reserved);
        let above: Vec<String> = RoleName::parse(&name)
            .iter()
            .flat_map(|role| role.ancestors().map(str::to_owned).collect::<Vec<_>>())
            .collect();
        for name in above.into_iter().chain([name]) {
            roles.entry(name).or_default().consumed.add_all(&own);
        }
    }
    for (name, role) in roles {
        role.weight = settings::weight(cluster, name);
        role.quota = settings::quota_of(cluster, name).cloned().unwrap_or_default();
    }
}

fn together(role: &Role) -> Resources {
    let mut all = role.allocated.clone();
    all.add_all(&role.offered);
    all
}

fn render(name: &str, role: &Role) -> Value {
    let amounts = |amounts: &settings::Amounts| -> Map<String, Value> {
        amounts.iter().map(|(name, amount)| (name.clone(), json!(amount.value))).collect()
    };
    let (guarantee, limit) = (amounts(&role.quota.guarantees), amounts(&role.quota.limits));
    let mut consumed = quantities(&role.consumed);
    consumed.shift_remove("ports");
    json!({
        "name": name,
        "weight": role.weight,
        "quota": {"role": name, "guarantee": guarantee, "limit": limit, "consumed": consumed},
        "resources": quantities(&together(role)),
        "allocated": quantities(&role.allocated),
        "offered": quantities(&role.offered),
        "reserved": quantities(&role.reserved),
        "frameworks": role.frameworks,
    })
}

/// Amounts by name; of ports their number.
fn quantities(resources: &Resources) -> Map<String, Value> {
    let scalars = resources.scalars();
    let mut amounts: BTreeMap<String, f64> =
        scalars.iter().map(|(name, amount)| (name.to_string(), amount.to_f64())).collect();
    let ports = resources.ports().count();
    if ports > 0 {
        amounts.insert("ports".to_owned(), ports as f64);
    }
    amounts
        .into_iter()
        .filter(|(_, amount)| *amount > 0.0)
        .map(|(name, amount)| (name, json!(amount)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesos::render::shape::golden_cluster;
    use meshos_proto::meshos::allocator::v1::RoleSettings;

    #[test]
    fn roles_are_those_of_a_real_master() {
        let golden: Value =
            serde_json::from_str(include_str!("../../tests/golden/master_roles.json")).unwrap();
        assert_eq!(roles(&golden_cluster()), golden);
    }

    #[test]
    fn a_role_is_shown_with_those_above_it() {
        let mut cluster = golden_cluster();
        let settings = RoleSettings { role: "a/b/c".to_owned(), weight: Some(3.0), quota: None };
        cluster.roles.insert(settings.role.clone(), settings);
        let shown = roles(&cluster);
        let list = shown["roles"].as_array().unwrap().iter();
        let names: Vec<_> =
            list.map(|role| (role["name"].as_str().unwrap(), role["weight"].as_f64())).collect();
        let wanted = [("a", 1.0), ("a/b", 1.0), ("a/b/c", 3.0), ("eng", 2.0), ("ops", 1.0)];
        assert_eq!(names, wanted.map(|(name, weight)| (name, Some(weight))));
    }
}
