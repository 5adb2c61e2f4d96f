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
    let wanted = |running: &&Running| {
        let is = |wanted: Option<&str>, value: &str| wanted.is_none_or(|wanted| wanted == value);
        is(container, &running.container.value)
            && is(framework, &running.framework_id)
            && is(executor, &running.executor_id)
    };
    let mut entries = Vec::new();
    for running in running::roots(view).iter().filter(wanted) {
        let mut entry = Map::new();
        let mut put = |name: &str, value: Value| drop(entry.insert(name.to_owned(), value));
        put("container_id", running.container.value.clone().into());
        describe(running, &mut put);
        put("statistics", statistics_of(api, running).await);
        let mut status = Map::new();
        status.insert("container_id".to_owned(), json!({ "value": running.container.value }));
        status.extend(running.pid.map(|pid| ("executor_pid".to_owned(), Value::from(pid))));
        if !running.networks.is_empty() {
            let networks = running.networks.iter().map(to_json).collect();
            status.insert("network_infos".to_owned(), networks);
        }
        put("status", Value::Object(status));
        entries.push(Value::Object(entry));
    }
    Reply::json(&Value::from(entries), query)
}

/// What each running container uses.
pub(super) async fn statistics(api: &Api, view: &View) -> Value {
    let mut entries = Vec::new();
    for running in running::roots(view) {
        let mut entry = Map::new();
        let mut put = |name: &str, value: Value| drop(entry.insert(name.to_owned(), value));
        describe(&running, &mut put);
        put("statistics", statistics_of(api, &running).await);
        entries.push(Value::Object(entry));
    }
    Value::from(entries)
}

fn describe(running: &Running, put: &mut impl FnMut(&str, Value)) {
    put("executor_id", running.executor_id.clone().into());
    put("executor_name", running.executor_name.clone().into());
    put("framework_id", running.framework_id.clone().into());
    put("source", running.source.clone().into());
}

/// As `/containers` orders it: by name.
async fn statistics_of(api: &Api, running: &Running) -> Value {
    let statistics: pb::ResourceStatistics = running::statistics(api, running).await;
    match to_json(&statistics) {
        Value::Object(mut object) => {
            object.sort_keys();
            Value::Object(object)
        }
        other => other,
    }
}
