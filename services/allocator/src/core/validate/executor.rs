//! The rules of an executor that a framework gives (2.9, rule 12).

use meshos_proto::mesos::v1::{self as pb, container_info, executor_info::Type};
use meshos_types::{ExecutorId, Format, FrameworkId, Resources};

use super::{
    container::{container, environment, share_cgroups},
    resources,
    task::{TaskScene, not_negative},
};

/// An executor that may be used.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    /// As its agent gets it: with the framework's id, its resources allocated.
    pub(crate) info: pb::ExecutorInfo,
    /// What it takes; none when the agent has it already.
    pub(crate) takes: Option<Resources>,
}

/// The executor of a task in LAUNCH, which may leave out the framework's id.
pub(super) fn of_task(scene: &TaskScene<'_>, info: &pb::ExecutorInfo) -> Result<Given, String> {
    let mut info = info.clone();
    info.framework_id.get_or_insert_with(|| scene.id.to_proto());
    let given = executor(scene, info)?;
    match given.info.r#type {
        None => {}
        Some(kind) if kind == i32::from(Type::Custom) => {}
        Some(_) => return Err("'ExecutorInfo.type' must be 'CUSTOM'".to_owned()),
    }
    if given.info.command.is_none() {
        return Err("'ExecutorInfo.command' must be set".to_owned());
    }
    if share_cgroups(given.info.container.as_ref()) == Some(true) {
        return Err("'linux_info.share_cgroups' must not be true for an executor".to_owned());
    }
    Ok(given)
}

/// The rules for all executors.
pub(super) fn executor(scene: &TaskScene<'_>, mut info: pb::ExecutorInfo) -> Result<Given, String> {
    kind(&info)?;
    let Some(framework) = info.framework_id.as_ref() else {
        return Err("'ExecutorInfo.framework_id' must be set".to_owned());
    };
    if FrameworkId::from(framework) != *scene.id {
        return Err(format!(
            "ExecutorInfo has an invalid FrameworkID (Actual: {} vs Expected: {})",
            framework.value, scene.id
        ));
    }
    ExecutorId::parse(&info.executor_id.value).map_err(|error| error.to_string())?;
    let grace = info.shutdown_grace_period.as_ref().map(|grace| grace.nanoseconds);
    not_negative("ExecutorInfo's 'shutdown_grace_period'", grace)?;
    let resources = resources::read("Executor", scene.role, &info.resources)?;
    if resources.iter().any(|resource| resource.shared) {
        return Err(format!("Executor resources {resources} should not contain any shared resources"));
    }
    if let Some(command) = &info.command {
        environment(command)?;
    }
    if let Some(wanted) = &info.container {
        container(wanted)?;
    }
    info.resources = resources.allocate(scene.role).to_proto(Format::PostRefinement);
    match scene.executors.get(&scene.agent.id, scene.id, &info.executor_id.value) {
        Some(known) if known.info == info => Ok(Given { info, takes: None }),
        Some(_) => Err(format!(
            "ExecutorInfo is not compatible with existing ExecutorInfo with same ExecutorID '{}' on agent {}",
            info.executor_id.value, scene.agent.id
        )),
        None => Ok(Given { info, takes: Some(resources) }),
    }
}

fn kind(info: &pb::ExecutorInfo) -> Result<(), String> {
    match info.r#type() {
        Type::Custom if info.command.is_none() => {
            Err("'ExecutorInfo.command' must be set for 'CUSTOM' executor".to_owned())
        }
        Type::Default if info.command.is_some() => {
            Err("'ExecutorInfo.command' must not be set for 'DEFAULT' executor".to_owned())
        }
        Type::Default => match &info.container {
            Some(container) if container.r#type() != container_info::Type::Mesos => {
                Err("'ExecutorInfo.container.type' must be 'MESOS' for 'DEFAULT' executor".to_owned())
            }
            Some(container) if container.mesos.as_ref().is_some_and(|mesos| mesos.image.is_some()) => {
                let text = "'ExecutorInfo.container.mesos.image' must not be set for 'DEFAULT' executor";
                Err(text.to_owned())
            }
            _ => Ok(()),
        },
        Type::Custom | Type::Unknown => Ok(()),
    }
}
