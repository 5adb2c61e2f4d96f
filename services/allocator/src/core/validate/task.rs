//! The rules of a task in LAUNCH, in the order in which Mesos checks them (2.9).

use std::collections::BTreeMap;

use meshos_proto::mesos::v1::{
    self as pb, agent_info::capability::Type as AgentCapability, container_info, environment, secret,
};
use meshos_types::{Milli, Resources, RoleName, TaskId};

use super::check::{check, health_check};
use crate::core::{agent::Agent, framework::Framework};

/// Where a task is to be launched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TaskScene<'a> {
    pub(crate) framework: &'a Framework,
    pub(crate) agent: &'a Agent,
    pub(crate) role: &'a RoleName,
    /// What is left of the offers.
    pub(crate) offered: &'a Resources,
}

/// Checks a task. Returns its resources, allocated to nobody.
pub(crate) fn task(scene: &TaskScene<'_>, task: &pb::TaskInfo) -> Result<Resources, String> {
    identity(scene, task)?;
    not_negative("Task's 'kill_policy.grace_period'", grace(task.kill_policy.as_ref()))?;
    not_negative("Task's 'max_completion_time'", task.max_completion_time.as_ref().map(|t| t.nanoseconds))?;
    if let Some(wanted) = &task.check {
        check(wanted).map_err(|error| format!("Task uses invalid check: {error}"))?;
    }
    if let Some(wanted) = &task.health_check {
        health_check(wanted).map_err(|error| format!("Task uses invalid health check: {error}"))?;
    }
    let resources = resources(scene, task)?;
    if let Some(command) = &task.command {
        environment(command)?;
    }
    if let Some(container) = &task.container {
        container_rules(container)?;
    }
    limits(scene, task, &resources)?;
    if task.command.is_some() == task.executor.is_some() {
        let text = "Task should have at least one (but not both) of CommandInfo or ExecutorInfo present";
        return Err(text.to_owned());
    }
    if task.executor.is_some() {
        return Err("Task uses an executor of its own, which is not supported yet; use 'command'".to_owned());
    }
    if !scene.offered.contains(&resources) {
        return Err(format!("Task uses more resources {resources} than available {}", scene.offered));
    }
    Ok(resources)
}

/// Who may run tasks as root: without `root_submissions` nobody, whatever the framework's own user is.
pub(crate) fn submitter(task: &pb::TaskInfo, root_submissions: bool) -> Result<(), String> {
    let user = task.command.as_ref().and_then(|command| command.user.as_deref());
    if user == Some("root") && !root_submissions {
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

fn not_negative(what: &str, nanoseconds: Option<i64>) -> Result<(), String> {
    match nanoseconds {
        Some(value) if value < 0 => Err(format!("{what} must be non-negative")),
        _ => Ok(()),
    }
}

fn resources(scene: &TaskScene<'_>, task: &pb::TaskInfo) -> Result<Resources, String> {
    let resources = Resources::from_proto(&task.resources)
        .map_err(|error| format!("Task uses invalid resources: {error}"))?;
    if resources.is_empty() {
        return Err("Task uses no resources".to_owned());
    }
    let foreign = resources.iter().filter_map(|r| r.allocation.as_ref()).find(|role| *role != scene.role);
    if let Some(foreign) = foreign {
        return Err(format!(
            "Task uses invalid resources: allocated to role '{foreign}' while role '{}' is expected",
            scene.role
        ));
    }
    let mut revocable: BTreeMap<&str, bool> = BTreeMap::new();
    for resource in &resources {
        if *revocable.entry(&*resource.name).or_insert(resource.revocable) != resource.revocable {
            return Err(format!(
                "Task uses invalid resources: cannot use both revocable and non-revocable '{}' at the same time",
                resource.name
            ));
        }
    }
    let mut volumes = std::collections::BTreeSet::new();
    for resource in &resources {
        if let Some(id) = resource.persistence_id()
            && !volumes.insert((resource.reserved_role(), id))
        {
            return Err(format!("Task uses duplicate persistence ID {id}"));
        }
    }
    Ok(resources.unallocated())
}

fn environment(command: &pb::CommandInfo) -> Result<(), String> {
    use environment::variable::Type;
    for variable in command.environment.iter().flat_map(|environment| &environment.variables) {
        let name = &variable.name;
        let fault = match variable.r#type() {
            Type::Value if variable.secret.is_some() => "of type 'VALUE' must not have a secret set",
            Type::Value if variable.value.is_none() => "of type 'VALUE' must have a value set",
            Type::Secret if variable.value.is_some() => "of type 'SECRET' must not have a value set",
            Type::Secret if !variable.secret.as_ref().is_some_and(well_formed) => {
                "of type 'SECRET' must have a valid secret set"
            }
            Type::Unknown => "of type 'UNKNOWN' is not allowed",
            Type::Value | Type::Secret => continue,
        };
        return Err(format!("Environment variable '{name}' {fault}"));
    }
    Ok(())
}

fn well_formed(secret: &pb::Secret) -> bool {
    match secret.r#type() {
        secret::Type::Value => {
            secret.reference.is_none() && secret.value.as_ref().is_some_and(|value| !value.data.contains(&0))
        }
        secret::Type::Reference => secret.value.is_none() && secret.reference.is_some(),
        secret::Type::Unknown => false,
    }
}

fn container_rules(container: &pb::ContainerInfo) -> Result<(), String> {
    for volume in &container.volumes {
        let kinds = [volume.host_path.is_some(), volume.image.is_some(), volume.source.is_some()]
            .iter()
            .filter(|k| **k)
            .count();
        if kinds != 1 {
            return Err("Exactly one of 'host_path', 'image' or 'source' must be set for a volume".to_owned());
        }
        if volume.source.as_ref().is_some_and(|source| !source_matches(source)) {
            return Err("The sub-message of a volume's 'source' must match its 'type'".to_owned());
        }
    }
    if container.r#type() == container_info::Type::Docker {
        let Some(docker) = &container.docker else { return Err("DockerInfo 'docker' is not set".to_owned()) };
        if docker.parameters.iter().any(|parameter| parameter.key == "name") {
            return Err("Parameter in DockerInfo must not be 'name'".to_owned());
        }
    }
    Ok(())
}

fn source_matches(source: &pb::volume::Source) -> bool {
    use pb::volume::source::Type;
    match source.r#type() {
        Type::DockerVolume => source.docker_volume.is_some(),
        Type::HostPath => source.host_path.is_some(),
        Type::SandboxPath => source.sandbox_path.is_some(),
        Type::Secret => source.secret.is_some(),
        Type::CsiVolume => source.csi_volume.is_some(),
        Type::Unknown => false,
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
