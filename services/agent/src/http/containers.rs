//! `/containers` and `/monitor/statistics`.

use meshos_proto::{json::to_json, mesos::v1 as pb};
use serde_json::{Map, Value, json};

use super::{
    Api,
    query::Query,
    reply::Reply,
    running::{self, Running},
};
use crate::core::View;

/// One object for each running container; the query may ask for one container, or those of a framework or
/// executor.
pub(super) async fn containers(api: &Api, view: &View, query: &Query) -> Reply {
    let [container, framework, executor] =
        ["container_id", "framework_id", "executor_id"].map(|name| query.get(name));
    if (executor.is_some() && framework.is_none()) || (container.is_some() && framework.is_some()) {
        return Reply::bad_request(
            "Expecting 'container_id', 'framework_id', or 'framework_id' and 'executor_id'.\n",
        );
    }
    let wanted = |running: &Running| {
        let is = |wanted: Option<&str>, value: &str| wanted.is_none_or(|wanted| wanted == value);
        is(container, &running.container.value)
            && is(framework, &running.framework_id)
            && is(executor, &running.executor_id)
    };
    let mut found = running::roots(view);
    found.retain(wanted);
    let statistics = running::statistics(api, &found).await;
    let entries: Value =
        found.iter().zip(&statistics).map(|(running, statistics)| entry(running, statistics)).collect();
    Reply::json(&entries, query)
}

fn entry(running: &Running, statistics: &pb::ResourceStatistics) -> Value {
    let mut entry = Map::new();
    let mut put = |name: &str, value: Value| drop(entry.insert(name.to_owned(), value));
    put("container_id", running.container.value.clone().into());
    describe(running, &mut put);
    put("statistics", sorted(statistics));
    let mut status = Map::new();
    status.insert("container_id".to_owned(), json!({ "value": running.container.value }));
    status.extend(running.pid.map(|pid| ("executor_pid".to_owned(), Value::from(pid))));
    if !running.networks.is_empty() {
        let networks = running.networks.iter().map(to_json).collect();
        status.insert("network_infos".to_owned(), networks);
    }
    put("status", Value::Object(status));
    Value::Object(entry)
}

/// What each running container uses.
pub(super) async fn statistics(api: &Api, view: &View) -> Value {
    let found = running::roots(view);
    let statistics = running::statistics(api, &found).await;
    let entry = |(running, statistics)| {
        let mut entry = Map::new();
        let mut put = |name: &str, value: Value| drop(entry.insert(name.to_owned(), value));
        describe(running, &mut put);
        put("statistics", sorted(statistics));
        Value::Object(entry)
    };
    found.iter().zip(&statistics).map(entry).collect()
}

fn describe(running: &Running, put: &mut impl FnMut(&str, Value)) {
    put("executor_id", running.executor_id.clone().into());
    put("executor_name", running.executor_name.clone().into());
    put("framework_id", running.framework_id.clone().into());
    put("source", running.source.clone().into());
}

/// As `/containers` orders it: by name.
fn sorted(statistics: &pb::ResourceStatistics) -> Value {
    match to_json(statistics) {
        Value::Object(mut object) => {
            object.sort_keys();
            Value::Object(object)
        }
        other => other,
    }
}
