//! Frameworks, with their tasks and offers.

use meshos_proto::{
    json::to_json,
    meshos::allocator::v1::{Framework, TaskPlace},
    mesos::v1::{FrameworkInfo, Offer, Resource, framework_info::capability::Type, value},
};
use meshos_types::{Resources, render};
use serde_json::{Map, Value, json};

use super::{
    executor::executor,
    put_counts, resources, resources_object, roles_of, seconds, task,
    writer::{self, Object},
};
use crate::views::{Cluster, cluster::framework_id};

/// In `/state` and `/frameworks`.
pub(super) fn framework(cluster: &Cluster, framework: &Framework, out: &mut Vec<u8>) {
    let info = framework.info.clone().unwrap_or_default();
    let id = framework_id(framework);
    let mut object = Object::begin(out);
    object.put_all(&head(cluster, framework, &info));
    object.put_all(&details(cluster, framework, &info));
    for (key, place) in [
        ("tasks", TaskPlace::Live),
        ("unreachable_tasks", TaskPlace::Unreachable),
        ("completed_tasks", TaskPlace::Completed),
    ] {
        object.list(key, cluster.tasks_of(id, place), |found, out| writer::put(out, &task(found, &info)));
    }
    object.list("offers", cluster.offers_of(id), |found, out| writer::put(out, &offer(found)));
    object.list("executors", cluster.executors_of(id), |found, out| writer::put(out, &executor(found)));
    if let Some(labels) = &info.labels {
        object.put("labels", &labels.labels.iter().map(to_json).collect::<Value>());
    }
    object.put("offer_constraints", &framework.offer_constraints.as_ref().map_or_else(|| json!({}), to_json));
    object.end();
}

/// What summaries leave out.
fn details(cluster: &Cluster, framework: &Framework, info: &FrameworkInfo) -> Map<String, Value> {
    let mut object = Map::new();
    let mut put = |key: &str, value: Value| object.insert(key.to_owned(), value);
    put("user", json!(info.user));
    put("failover_timeout", json!(info.failover_timeout()));
    put("checkpoint", json!(info.checkpoint()));
    put("registered_time", seconds(framework.registered_at_ms));
    put("unregistered_time", seconds(framework.unregistered_at_ms));
    if let Some(principal) = &info.principal {
        put("principal", json!(principal));
    }
    let mut all = used(cluster, framework);
    all.add_all(&offered(cluster, framework));
    put("resources", render::resources_object(&all));
    if framework.reregistered_at_ms > framework.registered_at_ms {
        put("reregistered_time", seconds(framework.reregistered_at_ms));
    }
    if is_multi_role(info) {
        put("roles", json!(info.roles));
    } else {
        put("role", json!(roles_of(info).first()));
    }
    object
}

/// In `/state-summary`: with counts and the agents it runs on.
pub(super) fn summary(cluster: &Cluster, framework: &Framework) -> Value {
    let info = framework.info.clone().unwrap_or_default();
    let mut object = head(cluster, framework, &info);
    let groups = cluster.counts_of_framework(framework_id(framework)).into_iter();
    put_counts(&mut object, cluster.counts_in_framework(framework_id(framework)).into_iter());
    object.insert(
        "slave_ids".to_owned(),
        groups.flat_map(|groups| groups.keys()).map(|id| id.to_string()).collect(),
    );
    Value::Object(object)
}

fn head(cluster: &Cluster, framework: &Framework, info: &FrameworkInfo) -> Map<String, Value> {
    let mut object = Map::new();
    let mut put = |key: &str, value: Value| object.insert(key.to_owned(), value);
    put("id", json!(framework_id(framework)));
    put("name", json!(info.name));
    put("used_resources", render::resources_object(&used(cluster, framework)));
    put("offered_resources", render::resources_object(&offered(cluster, framework)));
    let known = info.capabilities.iter().filter_map(|capability| Type::try_from(capability.r#type?).ok());
    put("capabilities", known.map(|capability| capability.as_str_name()).collect());
    put("hostname", json!(info.hostname()));
    put("webui_url", json!(info.webui_url()));
    put("active", json!(framework.active));
    put("connected", json!(framework.connected));
    put("recovered", json!(framework.recovered));
    object
}

fn used(cluster: &Cluster, framework: &Framework) -> Resources {
    let live = cluster.tasks_of(framework_id(framework), TaskPlace::Live);
    with_ranges(&framework.used, live.flat_map(|task| &task.resources))
}

fn offered(cluster: &Cluster, framework: &Framework) -> Resources {
    let offers = cluster.offers_of(framework_id(framework));
    with_ranges(&framework.offered, offers.flat_map(|offer| &offer.resources))
}

/// A framework's sums may be of scalars only; then its ports are those of its parts.
fn with_ranges<'a>(sums: &[Resource], parts: impl Iterator<Item = &'a Resource>) -> Resources {
    let whole = |resource: &&Resource| resource.r#type() != value::Type::Scalar;
    let mut all = resources(sums);
    if !sums.iter().any(|resource| whole(&resource)) {
        let parts: Vec<Resource> = parts.filter(whole).cloned().collect();
        all.add_all(&resources(&parts));
    }
    all
}

fn is_multi_role(info: &FrameworkInfo) -> bool {
    info.capabilities.iter().any(|capability| capability.r#type() == Type::MultiRole)
}

fn offer(offer: &Offer) -> Value {
    let mut object = Map::new();
    object.insert("id".to_owned(), json!(offer.id.value));
    object.insert("framework_id".to_owned(), json!(offer.framework_id.value));
    if let Some(allocation) = &offer.allocation_info {
        object.insert("allocation_info".to_owned(), to_json(allocation));
    }
    object.insert("slave_id".to_owned(), json!(offer.agent_id.value));
    object.insert("resources".to_owned(), resources_object(&offer.resources));
    Value::Object(object)
}
