//! `GET /roles`: every role that a framework is in or that something is reserved to.

use std::collections::{BTreeMap, BTreeSet};

use meshos_types::Resources;
use serde_json::{Map, Value, json};

use super::render::{resources, roles_of};
use crate::views::Cluster;

#[derive(Default)]
struct Role {
    allocated: Resources,
    offered: Resources,
    reserved: Resources,
    frameworks: BTreeSet<String>,
}

/// Weights and quotas are not kept yet: a weight is 1 and a quota empty.
pub(super) fn roles(cluster: &Cluster) -> Value {
    let mut roles: BTreeMap<String, Role> = BTreeMap::new();
    for (id, framework) in cluster.frameworks.iter().filter(|(_, framework)| !framework.completed) {
        let info = framework.info.clone().unwrap_or_default();
        for name in roles_of(&info) {
            roles.entry(name.to_owned()).or_default().frameworks.insert(id.clone());
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
    json!({"roles": roles.iter().map(|(name, role)| render(name, role)).collect::<Value>()})
}

fn render(name: &str, role: &Role) -> Value {
    let mut all = role.allocated.clone();
    all.add_all(&role.offered);
    let mut consumed = role.allocated.unreserved();
    consumed.add_all(&role.reserved);
    let consumed: Map<_, _> =
        quantities(&consumed).into_iter().filter(|(name, _)| name == "cpus" || name == "mem").collect();
    json!({
        "name": name,
        "weight": 1.0,
        "quota": {"role": name, "guarantee": {}, "limit": {}, "consumed": consumed},
        "resources": quantities(&all),
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
    use crate::mesos::render::shape::{assert_same, golden_cluster};

    #[test]
    fn a_role_is_that_of_a_real_master() {
        let golden: Value =
            serde_json::from_str(include_str!("../../tests/golden/master_roles.json")).unwrap();
        let golden = golden["roles"][0].clone();
        let ours = roles(&golden_cluster())["roles"][0].clone();
        assert_same("role", &ours, &golden);
        for key in ["name", "resources", "allocated", "offered", "reserved", "frameworks"] {
            assert_eq!(ours[key], golden[key], "{key}");
        }
        assert_eq!(ours["quota"]["consumed"], golden["quota"]["consumed"]);
    }
}
