//! Agents, which these endpoints call slaves.

use std::collections::BTreeMap;

use meshos_proto::{
    json::to_json,
    meshos::allocator::v1::Agent,
    mesos::v1::{Resource, agent_info::capability::Type},
};
use meshos_types::{Format, Resources, render};
use serde_json::{Map, Value, json};

use super::{Allocated, attributes_object, put_counts, resources, resources_object, seconds};
use crate::views::{
    Cluster,
    cluster::{agent_id, is_away},
};

/// Whether the agent counts as part of the cluster.
pub(super) fn is_registered(agent: &Agent) -> bool {
    !agent.recovered && !is_away(agent)
}

/// In `/state`.
pub(super) fn agent(agent: &Agent) -> Map<String, Value> {
    let mut object = identity(agent);
    let mut put = |key: &str, value: Value| object.insert(key.to_owned(), value);
    let total = resources(&agent.total);
    put("pid", json!(pid(agent)));
    put("registered_time", seconds(agent.registered_at_ms));
    if agent.reregistered_at_ms > 0 {
        put("reregistered_time", seconds(agent.reregistered_at_ms));
    }
    put("resources", render::resources_object(&total));
    put("used_resources", resources_object(&agent.used));
    put("offered_resources", resources_object(&agent.offered));
    put("reserved_resources", render::reserved_resources_object(&total));
    put("unreserved_resources", render::resources_object(&total.unreserved()));
    put("active", json!(agent.active));
    put("deactivated", json!(false));
    put("version", json!(agent.version));
    let known = agent.capabilities.iter().filter_map(|capability| Type::try_from(capability.r#type?).ok());
    put("capabilities", known.map(|capability| capability.as_str_name()).collect());
    object
}

/// In `/state-summary`: with counts and the frameworks on it.
pub(super) fn summary(cluster: &Cluster, agent: &Agent) -> Value {
    let mut object = self::agent(agent);
    let groups = cluster.counts_of_agent(agent_id(agent)).into_iter().flat_map(|groups| groups.iter());
    let here = |id: &str| cluster.frameworks.get(id).is_some_and(|framework| !framework.completed);
    let groups: BTreeMap<_, _> = groups.filter(|(id, _)| here(id)).collect();
    put_counts(&mut object, groups.values().copied());
    object.insert("framework_ids".to_owned(), groups.keys().map(|id| id.to_string()).collect());
    Value::Object(object)
}

/// In `/slaves`: with whole resources.
pub(super) fn full(agent: &Agent, allocated: &Allocated<'_>) -> Value {
    let mut object = self::agent(agent);
    let total = resources(&agent.total);
    let reserved: Map<_, _> =
        total.reservations().iter().map(|(role, part)| (role.to_string(), whole(part))).collect();
    object.insert("reserved_resources_full".to_owned(), Value::Object(reserved));
    object.insert("unreserved_resources_full".to_owned(), whole(&total.unreserved()));
    object.insert("used_resources_full".to_owned(), whole(&allocated.used(agent)));
    object.insert("offered_resources_full".to_owned(), whole(&allocated.offered(agent)));
    Value::Object(object)
}

/// An agent that a new leader has not heard of yet.
pub(super) fn recovered(agent: &Agent) -> Value {
    Value::Object(identity(agent))
}

fn identity(agent: &Agent) -> Map<String, Value> {
    let info = agent.info.clone().unwrap_or_default();
    let mut object = Map::new();
    object.insert("id".to_owned(), json!(agent_id(agent)));
    object.insert("hostname".to_owned(), json!(info.hostname));
    object.insert("port".to_owned(), json!(info.port()));
    object.insert("attributes".to_owned(), attributes_object(&info.attributes));
    if let Some(domain) = &info.domain {
        object.insert("domain".to_owned(), to_json(domain));
    }
    object
}

/// `slave(1)@host:port`
pub(in crate::mesos) fn pid(agent: &Agent) -> String {
    format!("slave(1)@{}", agent.endpoint)
}

fn whole(resources: &Resources) -> Value {
    resources.to_proto(Format::Endpoint).iter().map(|resource: &Resource| to_json(resource)).collect()
}
