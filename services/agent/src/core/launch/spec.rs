//! What to run for a task.

use std::path::{Path, PathBuf};

use meshos_proto::mesos::v1 as pb;
use meshos_types::Resources;

use crate::{
    containerizer::{ContainerSetup, ContainerSpec, Limits},
    core::{
        Settings,
        container::{self, Order},
        environment, needs,
        operations::volume_of,
        scalar,
        task::Task,
    },
};

const SHELL: &str = "/bin/sh";
const BYTES_PER_MB: f64 = 1024.0 * 1024.0;

/// What to run for a task, or why this agent cannot run it.
pub(in crate::core) fn spec(
    settings: &Settings,
    framework: &pb::FrameworkInfo,
    task: &Task,
) -> Result<ContainerSpec, String> {
    let info = &task.info;
    let order = Order {
        info: info.container.as_ref(),
        command: info.command.as_ref(),
        resources: &info.resources,
        parent: None,
    };
    let setup = container::setup(settings, order)?;
    in_container(settings, framework, task, setup)
}

/// As [`spec`], in this container.
pub(in crate::core) fn in_container(
    settings: &Settings,
    framework: &pb::FrameworkInfo,
    task: &Task,
    setup: Option<ContainerSetup>,
) -> Result<ContainerSpec, String> {
    let info = &task.info;
    let command = info.command.as_ref().ok_or("the task has no command")?;
    let (program, argument_zero, arguments) = program(command, setup.as_ref())?;
    let environment = environment::of_task(settings, framework, task)?;
    let spec = ContainerSpec {
        container_id: task.container_id.clone(),
        program,
        argument_zero,
        arguments,
        environment: environment::for_image(environment, &[info.command.as_ref()], setup.as_ref()),
        sandbox: task.directory.clone(),
        user: Some(command.user.clone().unwrap_or_else(|| framework.user.clone())),
        limits: limits(info),
        volumes: volumes(&settings.work_dir, &info.resources)?,
        uris: needs::uris(command),
        rlimits: needs::rlimits(info.container.as_ref())?,
        ..ContainerSpec::default()
    };
    Ok(container::name_task(container::contain(spec, setup), framework, info))
}

/// What to run; an image may know it better.
pub(in crate::core) fn program(
    command: &pb::CommandInfo,
    setup: Option<&ContainerSetup>,
) -> Result<(String, String, Vec<String>), String> {
    let line = command_line(command);
    // A shell without a line is a mistake in any container.
    if line.is_err() && container::has_image(setup) && !command.shell.unwrap_or(true) {
        return Ok(Default::default());
    }
    line
}

/// Reservations and volumes that an operation must have made first; what is missing of them.
pub(in crate::core) fn unknown_resources(total: &Resources, wanted: &[pb::Resource]) -> Option<Resources> {
    let resources = Resources::from_proto(wanted).ok()?.unallocated();
    let made = resources.filter(|r| r.is_dynamically_reserved() || r.persistence_id().is_some());
    let missing = made.filter(|resource| !total.contains_one(resource));
    (!missing.is_empty()).then_some(missing)
}

/// Persistent volumes, and where in the sandbox they are to be found.
pub(in crate::core) fn volumes(
    work_dir: &Path,
    resources: &[pb::Resource],
) -> Result<Vec<(PathBuf, PathBuf)>, String> {
    let resources = Resources::from_proto(resources).map_err(|error| error.to_string())?;
    let mut volumes: Vec<(PathBuf, PathBuf)> = Vec::new();
    for resource in &resources {
        let Some(volume) = volume_of(work_dir, resource) else { continue };
        let info = resource.disk.as_ref().and_then(|disk| disk.info().volume.as_ref());
        let container_path = PathBuf::from(info.map(|info| info.container_path.as_str()).unwrap_or_default());
        let inside = |part: std::path::Component<'_>| matches!(part, std::path::Component::Normal(_));
        if container_path.as_os_str().is_empty() || !container_path.components().all(inside) {
            return Err(format!(
                "the path '{}' of a persistent volume must be relative, without '..': it is made in the sandbox",
                container_path.display()
            ));
        }
        // A task owns what is in its volumes: a link there could lead the other volume anywhere.
        let nested =
            |other: &Path| container_path.starts_with(other) || other.starts_with(container_path.as_path());
        if let Some((_, other)) = volumes.iter().find(|(_, other)| nested(other)) {
            return Err(format!(
                "the paths '{}' and '{}' of two persistent volumes lie one in the other: each needs a place of its own",
                other.display(),
                container_path.display()
            ));
        }
        volumes.push((volume.path, container_path));
    }
    Ok(volumes)
}

pub(in crate::core) fn command_line(
    command: &pb::CommandInfo,
) -> Result<(String, String, Vec<String>), String> {
    let value = command.value.clone().filter(|value| !value.is_empty());
    if command.shell.unwrap_or(true) {
        let text = value.ok_or("the command has no value to give to the shell")?;
        return Ok((SHELL.to_owned(), "sh".to_owned(), vec!["-c".to_owned(), text]));
    }
    let program = value.ok_or("the command has no value to execute")?;
    // As in Mesos: the first argument is the program's own name.
    let mut arguments = command.arguments.iter().cloned();
    let argument_zero = arguments.next().unwrap_or_else(|| program.clone());
    Ok((program, argument_zero, arguments.collect()))
}

fn limits(info: &pb::TaskInfo) -> Limits {
    let limit = |name: &str| info.limits.get(name).map(|limit| limit.value);
    Limits {
        cpus: scalar(&info.resources, "cpus"),
        cpus_limit: limit("cpus"),
        memory: bytes(scalar(&info.resources, "mem")),
        memory_limit: limit("mem").map(bytes),
    }
}

/// Megabytes, as resources count memory.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast clamps; resources are not negative"
)]
pub(in crate::core) fn bytes(megabytes: f64) -> u64 {
    if megabytes.is_finite() { (megabytes * BYTES_PER_MB) as u64 } else { u64::MAX }
}
