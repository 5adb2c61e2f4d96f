//! Executors, those of frameworks and those that Mesos makes for commands.

use meshos_proto::{
    json::to_json,
    mesos::v1::{self as pb, executor_info},
};
use meshos_types::{render::resources_object, resources::Resources};
use serde_json::{Map, Value};

use super::{EXECUTOR, executor_name, queued_task, render_task};
use crate::{
    core::{ViewFramework, ViewTask},
    http::running::source,
};

/// An executor of a framework with its tasks.
pub(in crate::http) struct Shown<'a> {
    pub(in crate::http) info: pb::ExecutorInfo,
    container_id: &'a str,
    directory: String,
    tasks: Vec<&'a ViewTask>,
    completed: Vec<&'a pb::Task>,
}

/// Executors of a framework that live or whose tasks it has not heard of all, and those of the past.
pub(in crate::http) fn live_executors(framework: &ViewFramework) -> (Vec<Shown<'_>>, Vec<Shown<'_>>) {
    let mut live: Vec<_> = framework
        .executors
        .iter()
        .map(|executor| {
            let directory = executor.directory.display().to_string();
            shown(framework, &executor.info, (&executor.container_id, directory), true)
        })
        .collect();
    let mut past = Vec::new();
    let mut seen: Vec<_> = framework.executors.iter().map(|executor| &executor.info.executor_id).collect();
    for executor in framework.completed_executors.iter().rev() {
        // Tasks are those of the newest run.
        let newest = !seen.contains(&&executor.info.executor_id);
        seen.push(&executor.info.executor_id);
        let place = (executor.container_id.as_str(), executor.directory.clone());
        let shown = shown(framework, &executor.info, place, newest);
        if shown.tasks.is_empty() { past.push(shown) } else { live.push(shown) }
    }
    past.reverse();
    (live, past)
}

fn shown<'a>(
    framework: &'a ViewFramework,
    info: &pb::ExecutorInfo,
    (container_id, directory): (&'a str, String),
    with_tasks: bool,
) -> Shown<'a> {
    let mine = |task: &pb::Task| with_tasks && task.executor_id.as_ref() == Some(&info.executor_id);
    let completed = framework.completed.iter().map(|completed| &completed.task);
    Shown {
        info: info.clone(),
        container_id,
        directory,
        tasks: framework.tasks.iter().filter(|task| mine(&task.task)).collect(),
        completed: completed.filter(|task| mine(task)).collect(),
    }
}

pub(super) fn render(executor: &Shown<'_>) -> Value {
    let info = &executor.info;
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| drop(object.insert(name.to_owned(), value));
    put("id", info.executor_id.value.clone().into());
    put("name", info.name.clone().unwrap_or_default().into());
    put("source", source(info).into());
    put("container", executor.container_id.into());
    put("directory", executor.directory.clone().into());
    // What cannot be read was refused at the launch.
    put("resources", resources_object(&Resources::from_proto(&info.resources).unwrap_or_default()));
    let role = info.resources.iter().find_map(|resource| resource.allocation_info.as_ref()?.role.clone());
    put("role", role.unwrap_or_else(|| "*".to_owned()).into());
    if let Some(labels) = info.labels.as_ref().filter(|labels| !labels.labels.is_empty()) {
        put("labels", labels.labels.iter().map(to_json).collect());
    }
    if info.r#type() != executor_info::Type::Unknown {
        put("type", info.r#type().as_str_name().into());
    }
    let (queued, told): (Vec<&ViewTask>, Vec<_>) =
        executor.tasks.iter().copied().partition(|task| task.is_queued());
    put("tasks", told.iter().map(|task| render_task(&task.task)).collect());
    put("queued_tasks", queued.into_iter().map(queued_task).collect());
    put("completed_tasks", executor.completed.iter().map(|task| render_task(task)).collect());
    Value::Object(object)
}

/// The executor that Mesos makes for a command.
#[allow(deprecated, reason = "readers of old still look for the source")]
pub(in crate::http) fn command_executor(
    task: &pb::Task,
    command: Option<&pb::CommandInfo>,
) -> pb::ExecutorInfo {
    let allocation = task.resources.iter().find_map(|resource| resource.allocation_info.clone());
    let resource = |(name, value): (&str, f64)| pb::Resource {
        name: name.to_owned(),
        r#type: pb::value::Type::Scalar as i32,
        scalar: Some(pb::value::Scalar { value }),
        allocation_info: allocation.clone(),
        ..pb::Resource::default()
    };
    let id = &task.task_id.value;
    pb::ExecutorInfo {
        executor_id: pb::ExecutorId { value: id.clone() },
        framework_id: Some(task.framework_id.clone()),
        resources: EXECUTOR.into_iter().rev().map(resource).collect(),
        name: Some(executor_name(id, command)),
        source: Some(id.clone()),
        discovery: task.discovery.clone(),
        labels: task.labels.clone(),
        ..pb::ExecutorInfo::default()
    }
}
