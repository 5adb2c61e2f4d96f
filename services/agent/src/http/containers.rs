//! `/containers` and `/monitor/statistics`.

use serde_json::{Map, Value, json};

use super::{Api, query::Query, reply::Reply, state::executor_name};
use crate::{
    containerizer::Usage,
    core::{View, ViewTask, scalar},
};

const BYTES_PER_MB: f64 = 1024.0 * 1024.0;

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
    let wanted = |task: &ViewTask| {
        let is = |wanted: Option<&str>, value: &str| wanted.is_none_or(|wanted| wanted == value);
        is(container, &task.container_id)
            && is(framework, &task.task.framework_id.value)
            && is(executor, &task.task.task_id.value)
    };
    let mut entries = Vec::new();
    for task in running(view).filter(|task| wanted(task)) {
        let mut entry = Map::new();
        let mut put = |name: &str, value: Value| drop(entry.insert(name.to_owned(), value));
        put("container_id", task.container_id.clone().into());
        describe(task, &mut put);
        put("statistics", statistics_of(api, task).await);
        let status = json!({ "container_id": { "value": task.container_id }, "executor_pid": task.pid });
        put("status", status);
        entries.push(Value::Object(entry));
    }
    Reply::json(&Value::from(entries), query)
}

/// What each running container uses.
pub(super) async fn statistics(api: &Api, view: &View) -> Value {
    let mut entries = Vec::new();
    for task in running(view) {
        let mut entry = Map::new();
        let mut put = |name: &str, value: Value| drop(entry.insert(name.to_owned(), value));
        describe(task, &mut put);
        put("statistics", statistics_of(api, task).await);
        entries.push(Value::Object(entry));
    }
    Value::from(entries)
}

fn running(view: &View) -> impl Iterator<Item = &ViewTask> {
    let tasks = view.frameworks.iter().flat_map(|framework| &framework.tasks);
    tasks.filter(|task| task.phase == crate::core::Phase::Running)
}

fn describe(task: &ViewTask, put: &mut impl FnMut(&str, Value)) {
    let id = &task.task.task_id.value;
    put("executor_id", id.clone().into());
    put("executor_name", executor_name(id, task.command.as_ref()).into());
    put("framework_id", task.task.framework_id.value.clone().into());
    put("source", id.clone().into());
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast clamps; resources are not negative"
)]
async fn statistics_of(api: &Api, task: &ViewTask) -> Value {
    let usage = match task.pid {
        Some(pid) => api.containerizer.usage(&task.container_id, pid).await,
        None => None,
    };
    let Usage { user_seconds, system_seconds, memory, processes } = usage.unwrap_or_default();
    let soft = (scalar(&task.task.resources, "mem") * BYTES_PER_MB) as u64;
    let limit = task.task.limits.get("mem").map_or(soft, |limit| (limit.value * BYTES_PER_MB) as u64);
    json!({
        "cpus_soft_limit": scalar(&task.task.resources, "cpus"),
        "cpus_system_time_secs": system_seconds,
        "cpus_user_time_secs": user_seconds,
        "mem_limit_bytes": limit,
        "mem_rss_bytes": memory,
        "mem_soft_limit_bytes": soft,
        "processes": processes,
        "timestamp": api.now(),
    })
}
