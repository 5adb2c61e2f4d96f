//! `/state`: everything about this agent, in the order of Mesos's fields.

use meshos_proto::{json::to_json, mesos::v1 as pb};
use meshos_types::{
    Attributes, Format,
    render::{attributes_object, reserved_resources_object, resources_object},
    resources::Resources,
};
use serde_json::{Map, Value, json};

mod executors;

use super::{Api, version};
use crate::core::{View, ViewFramework, ViewTask};
pub(super) use executors::{command_executor, live_executors};

/// What Mesos adds for the executor that it makes for a command.
const EXECUTOR: [(&str, f64); 2] = [("mem", 32.0), ("cpus", 0.1)];

pub(super) fn state(api: &Api, view: &View) -> Value {
    let total = &view.total;
    let used: Vec<_> =
        view.frameworks.iter().flat_map(|framework| &framework.tasks).filter(|task| is_live(task)).collect();
    let mut used = sum(used.iter().map(|task| &task.task));
    for executor in view.frameworks.iter().flat_map(|framework| &framework.executors) {
        used.extend(Resources::from_proto(&executor.info.resources).unwrap_or_default());
    }
    let capabilities = api.identity.capabilities.iter().map(|capability| capability.r#type().as_str_name());
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| drop(object.insert(name.to_owned(), value));
    if let Value::Object(fields) = version() {
        for name in ["version", "build_date", "build_time", "build_user"] {
            put(name, fields.get(name).cloned().unwrap_or_default());
        }
    }
    put("start_time", api.started.into());
    put("id", view.agent_id.clone().unwrap_or_default().into());
    put("pid", format!("slave(1)@{}", api.identity.endpoint).into());
    put("hostname", api.hostname.clone().into());
    put("capabilities", capabilities.collect());
    if let Some(domain) = &view.info.domain {
        put("domain", to_json(domain));
    }
    put("resources", resources_object(total));
    put("reserved_resources", reserved_resources_object(total));
    put("unreserved_resources", resources_object(&unreserved(total)));
    put("reserved_resources_full", reserved_full(total));
    put("unreserved_resources_full", full(&unreserved(total)));
    put("reserved_resources_allocated", reserved_resources_object(&used));
    put("unreserved_resources_allocated", resources_object(&unreserved(&used)));
    put("resource_providers", json!([]));
    put("attributes", attributes_object(&Attributes::from_proto(&view.info.attributes).unwrap_or_default()));
    if let Some(host) = api.master().filter(|_| view.linked) {
        put("master_hostname", host.into());
    }
    api.logs.iter().for_each(|(name, file)| put(name, file.clone().into()));
    put("flags", api.flags.clone());
    // An engine that does not answer: of the agent's own, and there only while it is so.
    let troubles = api.containerizer.troubles();
    if !troubles.is_empty() {
        put("containerizer_troubles", troubles.into());
    }
    let (live, past): (Vec<_>, Vec<_>) = view.frameworks.iter().partition(|framework| framework.is_live());
    put("frameworks", live.into_iter().map(framework).collect());
    put("completed_frameworks", past.into_iter().map(framework).collect());
    Value::Object(object)
}

fn is_live(task: &ViewTask) -> bool {
    task.phase != crate::core::Phase::Ended
}

fn sum<'a>(tasks: impl Iterator<Item = &'a pb::Task>) -> Resources {
    let mut sum = Resources::new();
    for task in tasks {
        // What cannot be read was refused at the launch.
        sum.extend(Resources::from_proto(&task.resources).unwrap_or_default());
    }
    sum
}

fn unreserved(resources: &Resources) -> Resources {
    resources.filter(|resource| resource.reservations.is_empty())
}

fn full(resources: &Resources) -> Value {
    resources.to_proto(Format::Endpoint).iter().map(to_json).collect()
}

fn reserved_full(resources: &Resources) -> Value {
    resources.reservations().iter().map(|(role, reserved)| (role.to_string(), full(reserved))).collect()
}

fn framework(framework: &ViewFramework) -> Value {
    let info = &framework.info;
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| drop(object.insert(name.to_owned(), value));
    put("id", info.id.as_ref().map(|id| id.value.clone()).unwrap_or_default().into());
    put("name", info.name.clone().into());
    put("user", info.user.clone().into());
    put("failover_timeout", info.failover_timeout.unwrap_or_default().into());
    put("checkpoint", info.checkpoint.unwrap_or_default().into());
    put("hostname", info.hostname.clone().unwrap_or_default().into());
    if let Some(principal) = &info.principal {
        put("principal", principal.clone().into());
    }
    put("roles", roles(info));
    let (live, past) = live_executors(framework);
    let own = framework.tasks.iter().filter(|task| task.task.executor_id.is_none());
    put("executors", own.map(live_executor).chain(live.iter().map(executors::render)).collect());
    let own = framework.completed.iter().filter(|completed| completed.task.executor_id.is_none());
    let own =
        own.map(|completed| executor(&completed.task, (&completed.container_id, &completed.directory), None));
    put("completed_executors", own.chain(past.iter().map(executors::render)).collect());
    Value::Object(object)
}

fn roles(info: &pb::FrameworkInfo) -> Value {
    #[allow(deprecated, reason = "frameworks of one role still name it so")]
    if info.roles.is_empty() { json!([info.role()]) } else { info.roles.clone().into() }
}

fn live_executor(view: &ViewTask) -> Value {
    let directory = view.directory.display().to_string();
    executor(&view.task, (&view.container_id, &directory), Some(view))
}

/// The executor that a command task has in Mesos, with its one task.
fn executor(task: &pb::Task, (container_id, directory): (&str, &str), live: Option<&ViewTask>) -> Value {
    let id = &task.task_id.value;
    let resources = executor_resources(live.map(|live| &live.task));
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| drop(object.insert(name.to_owned(), value));
    put("id", id.clone().into());
    put("name", executor_name(id, live.and_then(|live| live.command.as_ref())).into());
    put("source", id.clone().into());
    put("container", container_id.into());
    put("directory", directory.into());
    put("resources", resources);
    put("role", role(task).into());
    if let Some(labels) = labels(task) {
        put("labels", labels);
    }
    let (mut tasks, mut queued, mut completed) = (json!([]), json!([]), json!([]));
    match live {
        Some(view) if view.is_queued() => queued = json!([queued_task(view)]),
        Some(_) => tasks = json!([render_task(task)]),
        None => completed = json!([render_task(task)]),
    }
    put("tasks", tasks);
    put("queued_tasks", queued);
    put("completed_tasks", completed);
    Value::Object(object)
}

/// A task that nobody runs yet: as it was ordered.
fn queued_task(view: &ViewTask) -> Value {
    let task = &view.task;
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| drop(object.insert(name.to_owned(), value));
    put("id", task.task_id.value.clone().into());
    put("name", task.name.clone().into());
    put("slave_id", task.agent_id.value.clone().into());
    put("resources", resources_object(&sum(std::iter::once(task))));
    put("role", role(task).into());
    if let Some(command) = &view.command {
        // Its environment may hold secrets.
        put("command", to_json(&pb::CommandInfo { environment: None, ..command.clone() }));
    }
    if let Some(id) = &task.executor_id {
        put("executor_id", id.value.clone().into());
    }
    if let Some(discovery) = &task.discovery {
        put("discovery", to_json(discovery));
    }
    Value::Object(object)
}

/// As Mesos names it; the command is cut after 15 characters.
pub(super) fn executor_name(task_id: &str, command: Option<&pb::CommandInfo>) -> String {
    let Some(command) = command else { return format!("Command Executor (Task: {task_id})") };
    let text = if command.shell.unwrap_or(true) {
        let text = command.value();
        let cut: String = text.chars().take(12).collect();
        if text.chars().count() > 15 { format!("sh -c '{cut}...'") } else { format!("sh -c '{text}'") }
    } else {
        let arguments = command.arguments.join(", ");
        format!("[{}, {arguments}]", command.value())
    };
    format!("Command Executor (Task: {task_id}) (Command: {text})")
}

fn executor_resources(task: Option<&pb::Task>) -> Value {
    let mut object = resources_object(&task.map(|task| sum(std::iter::once(task))).unwrap_or_default());
    for (name, extra) in EXECUTOR {
        let amount = object[name].as_f64().unwrap_or_default() + extra;
        object[name] = ((amount * 1000.0).round() / 1000.0).into();
    }
    object
}

fn role(task: &pb::Task) -> String {
    let role = task.resources.iter().find_map(|resource| resource.allocation_info.as_ref()?.role.clone());
    role.unwrap_or_else(|| "*".to_owned())
}

fn labels(task: &pb::Task) -> Option<Value> {
    let labels = task.labels.as_ref().filter(|labels| !labels.labels.is_empty())?;
    Some(labels.labels.iter().map(to_json).collect())
}

fn render_task(task: &pb::Task) -> Value {
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| drop(object.insert(name.to_owned(), value));
    put("id", task.task_id.value.clone().into());
    put("name", task.name.clone().into());
    put("framework_id", task.framework_id.value.clone().into());
    put("executor_id", task.executor_id.as_ref().map(|id| id.value.clone()).unwrap_or_default().into());
    put("slave_id", task.agent_id.value.clone().into());
    put("state", task.state().as_str_name().into());
    put("resources", resources_object(&sum(std::iter::once(task))));
    put("role", role(task).into());
    put("statuses", task.statuses.iter().map(status).collect());
    if let Some(labels) = labels(task) {
        put("labels", labels);
    }
    if let Some(discovery) = &task.discovery {
        put("discovery", to_json(discovery));
    }
    if let Some(user) = &task.user {
        put("user", user.clone().into());
    }
    Value::Object(object)
}

fn status(status: &pb::TaskStatus) -> Value {
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| drop(object.insert(name.to_owned(), value));
    put("state", status.state().as_str_name().into());
    put("timestamp", status.timestamp.unwrap_or_default().into());
    if let Some(container) = &status.container_status {
        // The golden answers leave the process id out here.
        let container = pb::ContainerStatus { executor_pid: None, ..container.clone() };
        put("container_status", container_status(&container));
    }
    if let Some(healthy) = status.healthy {
        put("healthy", healthy.into());
    }
    Value::Object(object)
}

fn container_status(container: &pb::ContainerStatus) -> Value {
    let mut object = Map::new();
    if let Some(id) = &container.container_id {
        object.insert("container_id".to_owned(), to_json(id));
    }
    object.insert("network_infos".to_owned(), container.network_infos.iter().map(to_json).collect());
    Value::Object(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(value: &Value) -> Vec<&str> {
        value.as_object().unwrap().keys().map(String::as_str).collect()
    }

    /// The keys of a real Mesos's answers, in their order.
    #[test]
    fn executors_and_tasks_have_the_fields_of_mesos() {
        let status = pb::TaskStatus {
            timestamp: Some(1.5),
            container_status: Some(pb::ContainerStatus {
                container_id: Some(pb::ContainerId { value: "c".to_owned(), parent: None }),
                executor_pid: Some(7),
                ..pb::ContainerStatus::default()
            }),
            ..pb::TaskStatus::default()
        };
        let task = pb::Task {
            name: "run-1".to_owned(),
            task_id: pb::TaskId { value: "run-1".to_owned() },
            statuses: vec![status],
            ..pb::Task::default()
        };
        let executor = executor(&task, ("c", "/d"), None);
        let want = [
            "id",
            "name",
            "source",
            "container",
            "directory",
            "resources",
            "role",
            "tasks",
            "queued_tasks",
            "completed_tasks",
        ];
        assert_eq!(keys(&executor), want);
        let task = &executor["completed_tasks"][0];
        let want = [
            "id",
            "name",
            "framework_id",
            "executor_id",
            "slave_id",
            "state",
            "resources",
            "role",
            "statuses",
        ];
        assert_eq!(keys(task), want);
        assert_eq!(keys(&task["statuses"][0]), ["state", "timestamp", "container_status"]);
        assert_eq!(executor["resources"], json!({"disk": 0.0, "mem": 32.0, "gpus": 0.0, "cpus": 0.1}));
    }

    #[test]
    fn executors_are_named_as_in_mesos() {
        let shell =
            |text: &str| pb::CommandInfo { value: Some(text.to_owned()), ..pb::CommandInfo::default() };
        let name = |text: &str| executor_name("run-1", Some(&shell(text)));
        assert_eq!(name("sleep 600"), "Command Executor (Task: run-1) (Command: sh -c 'sleep 600')");
        assert_eq!(
            name("echo hello; sleep 600"),
            "Command Executor (Task: run-1) (Command: sh -c 'echo hello; ...')"
        );
    }
}
