//! Tasks.

use meshos_proto::{
    json::to_json,
    mesos::v1::{ContainerStatus, FrameworkInfo, Task, TaskStatus},
};
use serde_json::{Map, Value, json};

use super::{resources_object, roles_of};

/// In `/state`, `/frameworks` and `/tasks`.
pub(in crate::mesos) fn task(task: &Task, framework: &FrameworkInfo) -> Value {
    let mut object = Map::new();
    let mut put = |key: &str, value: Value| object.insert(key.to_owned(), value);
    put("id", json!(task.task_id.value));
    put("name", json!(task.name));
    put("framework_id", json!(task.framework_id.value));
    put("executor_id", json!(task.executor_id.as_ref().map_or("", |id| &id.value)));
    put("slave_id", json!(task.agent_id.value));
    put("state", json!(task.state().as_str_name()));
    put("resources", resources_object(&task.resources));
    if !task.limits.is_empty() {
        let limits: Map<_, _> =
            task.limits.iter().map(|(name, limit)| (name.clone(), json!(limit.value))).collect();
        put("limits", Value::Object(limits));
    }
    put("role", json!(role(task, framework)));
    put("statuses", task.statuses.iter().map(status).collect());
    if let Some(user) = &task.user {
        put("user", json!(user));
    }
    if let Some(labels) = &task.labels {
        put("labels", labels.labels.iter().map(to_json).collect());
    }
    if let Some(discovery) = &task.discovery {
        put("discovery", to_json(discovery));
    }
    if let Some(container) = &task.container {
        put("container", to_json(container));
    }
    if let Some(check) = &task.health_check {
        put("health_check", to_json(check));
    }
    Value::Object(object)
}

/// The role whose resources it uses.
fn role<'a>(task: &'a Task, framework: &'a FrameworkInfo) -> &'a str {
    let allocation = task.resources.first().and_then(|resource| resource.allocation_info.as_ref());
    let role = allocation.and_then(|allocation| allocation.role.as_deref());
    role.or_else(|| roles_of(framework).first().copied()).unwrap_or("*")
}

/// Without message, reason, source and uuid, which this form never had.
fn status(status: &TaskStatus) -> Value {
    let mut object = Map::new();
    object.insert("state".to_owned(), json!(status.state().as_str_name()));
    object.insert("timestamp".to_owned(), json!(status.timestamp()));
    if let Some(labels) = &status.labels {
        object.insert("labels".to_owned(), labels.labels.iter().map(to_json).collect());
    }
    if let Some(container) = &status.container_status {
        let shown = ContainerStatus { executor_pid: None, ..container.clone() };
        object.insert("container_status".to_owned(), to_json(&shown));
    }
    if let Some(healthy) = status.healthy {
        object.insert("healthy".to_owned(), json!(healthy));
    }
    Value::Object(object)
}
