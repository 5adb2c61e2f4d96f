//! The rules of a task in LAUNCH, in the order in which Mesos checks them (2.9).

use meshos_proto::mesos::v1::{self as pb, agent_info::capability::Type as AgentCapability};
use meshos_types::{FrameworkId, Milli, Resources, RoleName, TaskId};

use super::{
    check::{check, health_check},
    container::{container, environment, share_cgroups},
    executor::{self, Given},
    resources,
};
use crate::core::{agent::Agent, executors::Executors, framework::Framework};

/// Where a task is to be launched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TaskScene<'a> {
    pub(crate) id: &'a FrameworkId,
    pub(crate) framework: &'a Framework,
    pub(crate) agent: &'a Agent,
    pub(crate) executors: &'a Executors,
    pub(crate) role: &'a RoleName,
    /// What is left of the offers.
    pub(crate) offered: &'a Resources,
}

/// A task that may be launched.
#[derive(Clone, Debug)]
pub(crate) struct Checked {
    /// Its own, allocated to nobody.
    pub(crate) resources: Resources,
    pub(crate) executor: Option<Given>,
}

/// Checks a task.
pub(crate) fn task(scene: &TaskScene<'_>, task: &pb::TaskInfo) -> Result<Checked, String> {
    let resources = common(scene, task)?;
    if task.command.is_some() == task.executor.is_some() {
        let text = "Task should have at least one (but not both) of CommandInfo or ExecutorInfo present";
        return Err(text.to_owned());
    }
    if share_cgroups(task.container.as_ref()) == Some(false) {
        return Err("'linux_info.share_cgroups' must not be false for a task outside of a group".to_owned());
    }
    let executor = task.executor.as_ref().map(|info| executor::of_task(scene, info)).transpose()?;
    let taken = executor.as_ref().and_then(|given| given.takes.as_ref());
    if let Some(taken) = taken {
        resources::go_together("Task and its executor", &[&resources, taken])?;
    }
    if !resources::fit(scene.offered, std::iter::once(&resources).chain(taken)) {
        let mut total = resources;
        taken.into_iter().for_each(|taken| total.add_all(taken));
        return Err(format!("Task uses more resources {total} than available {}", scene.offered));
    }
    Ok(Checked { resources, executor })
}

/// The rules that hold in a group as well. Returns the task's resources.
pub(super) fn common(scene: &TaskScene<'_>, task: &pb::TaskInfo) -> Result<Resources, String> {
    identity(scene, task)?;
    not_negative("Task's 'kill_policy.grace_period'", grace(task.kill_policy.as_ref()))?;
    not_negative("Task's 'max_completion_time'", task.max_completion_time.as_ref().map(|t| t.nanoseconds))?;
    if let Some(wanted) = &task.check {
        check(wanted).map_err(|error| format!("Task uses invalid check: {error}"))?;
    }
    if let Some(wanted) = &task.health_check {
        health_check(wanted).map_err(|error| format!("Task uses invalid health check: {error}"))?;
    }
    let resources = resources::read("Task", scene.role, &task.resources)?;
    if resources.is_empty() {
        return Err("Task uses no resources".to_owned());
    }
    if let Some(command) = &task.command {
        environment(command)?;
    }
    if let Some(wanted) = &task.container {
        container(wanted)?;
    }
    limits(scene, task, &resources)?;
    Ok(resources)
}

/// Who may run tasks as root: without `root_submissions` nobody, whatever the framework's own user is.
pub(crate) fn submitter(task: &pb::TaskInfo, root_submissions: bool) -> Result<(), String> {
    if root_submissions {
        return Ok(());
    }
    let executor = task.executor.as_ref().and_then(|executor| executor.command.as_ref());
    let is_root = |command: &pb::CommandInfo| command.user.as_deref() == Some("root");
    if task.command.iter().chain(executor).any(is_root) {
        let id = &task.task_id.value;
        return Err(format!(
            "Task {id} is not allowed to run as user 'root' without --root_submissions set; name another 'command.user'"
        ));
    }
    Ok(())
}

fn identity(scene: &TaskScene<'_>, task: &pb::TaskInfo) -> Result<(), String> {
    let id = TaskId::parse(&task.task_id.value).map_err(|error| error.to_string())?;
    if scene.framework.ledger.live.contains_key(&id) {
        return Err(format!("Task has duplicate ID: {id}"));
    }
    if scene.framework.ledger.unreachable.contains(&id) {
        return Err(format!("Task reuses the ID of an unreachable task: {id}"));
    }
    let expected = scene.agent.id.as_str();
    if task.agent_id.value != expected {
        return Err(format!(
            "Task uses invalid agent {} while agent {expected} is expected",
            task.agent_id.value
        ));
    }
    Ok(())
}

fn grace(policy: Option<&pb::KillPolicy>) -> Option<i64> {
    Some(policy?.grace_period.as_ref()?.nanoseconds)
}

pub(super) fn not_negative(what: &str, nanoseconds: Option<i64>) -> Result<(), String> {
    match nanoseconds {
        Some(value) if value < 0 => Err(format!("{what} must be non-negative")),
        _ => Ok(()),
    }
}

fn limits(scene: &TaskScene<'_>, task: &pb::TaskInfo, resources: &Resources) -> Result<(), String> {
    if task.limits.is_empty() {
        return Ok(());
    }
    if !scene.agent.has_capability(AgentCapability::TaskResourceLimits) {
        return Err(format!("Agent {} does not support task resource limits", scene.agent.id));
    }
    for (name, limit) in &task.limits {
        if name != "cpus" && name != "mem" {
            return Err(format!("Setting a limit of '{name}' is not supported; only 'cpus' and 'mem' are"));
        }
        let request = resources.scalar(name);
        if request == Milli::ZERO {
            return Err(format!("When a limit of '{name}' is specified, a request must also be specified"));
        }
        let reached = limit.value == f64::INFINITY || limit.value >= request.to_f64();
        if !reached {
            return Err(format!(
                "The '{name}' limit {} must not be below the request {request}",
                limit.value
            ));
        }
    }
    Ok(())
}
