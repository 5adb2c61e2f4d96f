//! The rules of a task group and of its executor (2.9, rules G1 to G4).

use std::collections::BTreeSet;

use meshos_proto::mesos::v1::{
    self as pb, container_info, executor_info::Type, health_check::Type as HealthCheckType,
};
use meshos_types::{Milli, Resources};

use super::{
    container::share_cgroups,
    executor::{Given, executor},
    resources,
    task::{TaskScene, common},
};

/// Smallest resources of an executor that runs task groups.
const MIN_CPUS: Milli = Milli(10);
const MIN_MEM: Milli = Milli::whole(32);

/// A group that may be launched.
#[derive(Clone, Debug)]
pub(crate) struct CheckedGroup {
    pub(crate) executor: Given,
    /// Of each task, in order, allocated to nobody.
    pub(crate) resources: Vec<Resources>,
}

/// Checks a group; the first fault is the fault of all its tasks.
pub(crate) fn group(
    scene: &TaskScene<'_>,
    tasks: &[pb::TaskInfo],
    info: &pb::ExecutorInfo,
) -> Result<CheckedGroup, String> {
    let mut ids = BTreeSet::new();
    let mut resources = Vec::with_capacity(tasks.len());
    for task in tasks {
        let id = &task.task_id.value;
        let checked = member(scene, task).map_err(|fault| format!("Task '{id}' is invalid: {fault}"))?;
        if !ids.insert(id) {
            return Err(format!("Task '{id}' is invalid: Task has duplicate ID: {id}"));
        }
        resources.push(checked);
    }
    let given = executor(scene, info.clone())?;
    of_group(&given, info, tasks)?;
    same_cgroups(scene, tasks, &info.executor_id.value)?;
    let all = || resources.iter().chain(&given.takes);
    resources::go_together("Task group and its executor", &all().collect::<Vec<_>>())?;
    if !resources::fit(scene.offered, all()) {
        let mut total = Resources::new();
        all().for_each(|resources| total.add_all(resources));
        return Err(format!(
            "Total resources {total} required by task group and its executor are more than available {}",
            scene.offered
        ));
    }
    Ok(CheckedGroup { executor: given, resources })
}

fn member(scene: &TaskScene<'_>, task: &pb::TaskInfo) -> Result<Resources, String> {
    let resources = common(scene, task)?;
    if let Some(container) = &task.container {
        if container.r#type() == container_info::Type::Docker {
            return Err("Docker ContainerInfo is not supported on the task".to_owned());
        }
        let check = task.health_check.as_ref().map(pb::HealthCheck::r#type);
        let remote = matches!(check, Some(HealthCheckType::Http | HealthCheckType::Tcp));
        if remote && !container.network_infos.is_empty() {
            let text =
                "HTTP and TCP health checks are not supported for a task with 'network_infos' of its own";
            return Err(text.to_owned());
        }
    }
    if !task.limits.is_empty() && share_cgroups(task.container.as_ref()) != Some(false) {
        let text =
            "Resource limits may only be set for tasks within a task group when 'share_cgroups' is false";
        return Err(text.to_owned());
    }
    Ok(resources)
}

fn of_group(given: &Given, asked: &pb::ExecutorInfo, tasks: &[pb::TaskInfo]) -> Result<(), String> {
    let (info, id) = (&given.info, &given.info.executor_id.value);
    if info.r#type.is_none() {
        return Err("'ExecutorInfo.type' must be set".to_owned());
    }
    if info.r#type() == Type::Unknown {
        return Err("Unknown executor type".to_owned());
    }
    if info.container.as_ref().is_some_and(|c| c.r#type() == container_info::Type::Docker) {
        return Err("Docker ContainerInfo is not supported on the executor".to_owned());
    }
    let other = |task: &&pb::TaskInfo| task.executor.as_ref().is_some_and(|executor| executor != asked);
    if let Some(task) = tasks.iter().find(other) {
        let task = &task.task_id.value;
        return Err(format!("The `ExecutorInfo` of task '{task}' is different from executor '{id}'"));
    }
    let Some(resources) = &given.takes else { return Ok(()) };
    let (cpus, mem) = (resources.cpus(), resources.mem());
    if cpus < MIN_CPUS {
        return Err(format!(
            "Executor '{id}' uses less CPUs ({cpus}) than the minimum required ({MIN_CPUS})"
        ));
    }
    if mem < MIN_MEM {
        return Err(format!(
            "Executor '{id}' uses less memory ({mem}MB) than the minimum required ({MIN_MEM}MB)"
        ));
    }
    if resources.disk().is_zero() {
        return Err(format!("Executor '{id}' uses no disk"));
    }
    Ok(())
}

/// All tasks under an executor share its cgroups, or none does.
fn same_cgroups(scene: &TaskScene<'_>, tasks: &[pb::TaskInfo], executor: &str) -> Result<(), String> {
    let shares = |container: Option<&pb::ContainerInfo>| share_cgroups(container).unwrap_or(true);
    let live = &scene.framework.ledger.live;
    let of_agent = scene.agent.tasks.iter().filter(|(framework, _)| framework == scene.id);
    let there = of_agent
        .filter_map(|(_, task)| live.get(task))
        .filter(|entry| entry.holds && entry.task.executor() == Some(executor));
    let there = there.map(|entry| shares(entry.task.container().as_ref()));
    let mut all = tasks.iter().map(|task| shares(task.container.as_ref())).chain(there);
    let first = all.next();
    if all.any(|other| Some(other) != first) {
        return Err(format!("All tasks under executor '{executor}' must have the same 'share_cgroups'"));
    }
    Ok(())
}
