//! What a task's, an executor's or a nested container's `ContainerInfo` asks for, checked, and in the plain form that
//! containerizers obey; with Mesos's messages for what cannot be.

mod docker;
mod linux;
mod mesos;
#[cfg(test)]
mod tests;
mod volumes;

use std::path::{Path, PathBuf};

use meshos_proto::mesos::v1 as pb;
use meshos_types::FrameworkId;

use super::{
    Core, Settings,
    task::{Home, Task},
};
use crate::containerizer::{
    ContainerSpec,
    container::{ContainerSetup, ImageCommand, MountSetup, MountSource, PortMapping, Runtime},
};

pub(super) use volumes::secret_value;
pub(super) use volumes::{links, parent_volumes};

/// What a container is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order<'a> {
    pub(super) info: Option<&'a pb::ContainerInfo>,
    pub(super) command: Option<&'a pb::CommandInfo>,
    /// Its own, and those of the tasks that are launched with it: its ports are among them.
    pub(super) resources: &'a [pb::Resource],
    /// The sandbox of the container above.
    pub(super) parent: Option<&'a Path>,
}

/// The container that a plain process's spec is to be put in; absent: none is needed.
///
/// # Errors
/// Why this agent cannot run it.
pub(super) fn setup(settings: &Settings, order: Order<'_>) -> Result<Option<ContainerSetup>, String> {
    let runtimes = &settings.runtimes;
    let container = match order.info {
        Some(info) if info.r#type() == pb::container_info::Type::Docker => {
            runtimes.require_containerizer("docker", "a container of type DOCKER")?;
            Some(docker::setup(runtimes, info, order)?)
        }
        _ => {
            runtimes.require_containerizer("mesos", "a task without a container of type DOCKER")?;
            let bare = pb::ContainerInfo {
                r#type: pb::container_info::Type::Mesos as i32,
                ..pb::ContainerInfo::default()
            };
            let confined = runtimes.confines().then_some(&bare);
            order.info.or(confined).map_or(Ok(None), |info| mesos::setup(runtimes, info, order))?
        }
    };
    Ok(container.map(|container| ContainerSetup {
        command: command(order.command),
        sandbox_directory: runtimes.sandbox_directory.clone(),
        ..container
    }))
}

/// The operator's container for what has none.
pub(super) fn or_default(settings: &Settings, given: Option<pb::ContainerInfo>) -> Option<pb::ContainerInfo> {
    given.or_else(|| settings.runtimes.defaults.container.as_deref().cloned())
}

/// Puts a plain process's spec into a container: its volumes are mounted instead of linked, its variables tell what is
/// seen from inside.
pub(super) fn contain(spec: ContainerSpec, setup: Option<ContainerSetup>) -> ContainerSpec {
    let Some(mut setup) = setup else { return spec };
    let mut spec = spec;
    let volumes = std::mem::take(&mut spec.volumes);
    setup.mounts.extend(volumes.into_iter().map(|(path, container_path)| MountSetup {
        source: MountSource::Persistent(path),
        container_path,
        read_only: false,
    }));
    if setup.image.is_some() {
        let seen = setup.sandbox_directory.display().to_string();
        spec.environment.insert("MESOS_SANDBOX".to_owned(), seen);
    }
    if setup.runtime == Runtime::Docker {
        let name = format!("mesos-{}", spec.container_id);
        spec.environment.insert("MESOS_CONTAINER_NAME".to_owned(), name);
    }
    // Of the machine, and none of a network's.
    if setup.network != Default::default() {
        spec.environment.remove("MESOS_CONTAINER_IP");
    }
    ContainerSpec { container: Some(Box::new(setup)), ..spec }
}

/// Lets those who look at the Docker Engine see whose container it is.
pub(super) fn name_task(
    mut spec: ContainerSpec,
    framework: &pb::FrameworkInfo,
    task: &pb::TaskInfo,
) -> ContainerSpec {
    let Some(setup) = spec.container.as_mut().filter(|setup| setup.runtime == Runtime::Docker) else {
        return spec;
    };
    let (id, framework_id) =
        (&task.task_id.value, framework.id.as_ref().map(|id| id.value.as_str()).unwrap_or_default());
    setup.labels.push(("MESOS_TASK_ID".to_owned(), id.clone()));
    setup.labels.push(("meshos.framework_id".to_owned(), framework_id.to_owned()));
    spec.environment.entry("MESOS_TASK_ID".to_owned()).or_insert_with(|| id.clone());
    spec
}

/// Whether the image's own variables hold where the command sets none.
pub(super) fn has_image(setup: Option<&ContainerSetup>) -> bool {
    setup.is_some_and(|setup| setup.image.is_some())
}

/// Who runs a container; none: it is a plain process.
pub(super) fn runtime(info: Option<&pb::ContainerInfo>) -> Option<Runtime> {
    match info? {
        info if is_docker(Some(info)) => Some(Runtime::Docker),
        info => (!mesos::is_plain(info)).then_some(Runtime::Oci),
    }
}

impl Core {
    /// Who runs the container of a task; none: it is a plain process.
    pub(super) fn runtime_of(&self, framework_id: &FrameworkId, task: &Task) -> Option<Runtime> {
        let networks = || {
            let Home::Pod { id, .. } = &task.home else { return None };
            let executor = self.frameworks.get(framework_id)?.executors.get(id)?;
            let container = executor.info.container.as_ref()?;
            let joined = pb::ContainerInfo {
                r#type: pb::container_info::Type::Mesos as i32,
                network_infos: container.network_infos.clone(),
                ..pb::ContainerInfo::default()
            };
            runtime(Some(&joined))
        };
        // Links do what volumes of the pod need, when there is nothing else.
        let info = task.info.container.clone().map(|info| match links(&info.volumes) {
            Some(_) if matches!(task.home, Home::Pod { .. }) => {
                pb::ContainerInfo { volumes: Vec::new(), ..info }
            }
            _ => info,
        });
        runtime(info.as_ref()).or_else(networks)
    }
}

/// Whether a container is run by the Docker Engine.
pub(super) fn is_docker(info: Option<&pb::ContainerInfo>) -> bool {
    info.is_some_and(|info| info.r#type() == pb::container_info::Type::Docker)
}

fn command(command: Option<&pb::CommandInfo>) -> ImageCommand {
    let Some(command) = command else { return ImageCommand::default() };
    ImageCommand {
        shell: command.shell.unwrap_or(true),
        value: command.value.clone().filter(|value| !value.is_empty()),
        arguments: command.arguments.clone(),
    }
}

/// One port of the machine for a container: it must be the task's own.
fn port_mapping(
    (host, container, protocol): (u32, u32, Option<&str>),
    resources: &[pb::Resource],
) -> Result<PortMapping, String> {
    let port = |port: u32| u16::try_from(port).map_err(|_| format!("{port} is no port"));
    let udp = match protocol.map(str::to_ascii_lowercase).as_deref() {
        None | Some("" | "tcp") => false,
        Some("udp") => true,
        Some(other) => {
            return Err(format!("the protocol '{other}' of a port mapping is neither tcp nor udp"));
        }
    };
    let mut ranges = resources.iter().filter(|resource| resource.name == "ports").peekable();
    if ranges.peek().is_none() {
        return Err("Port mappings require port resources".to_owned());
    }
    let mut ranges = ranges.filter_map(|resource| resource.ranges.as_ref()).flat_map(|ranges| &ranges.range);
    let host_port = u64::from(host);
    match ranges.any(|range| (range.begin..=range.end).contains(&host_port)) {
        true => Ok(PortMapping { host_port: port(host)?, container_port: port(container)?, udp }),
        false => Err(format!("Port [{host}] not included in resources")),
    }
}

/// A path that leads into a sandbox.
pub(super) fn inside(path: &str) -> Result<PathBuf, String> {
    let path = Path::new(path);
    let normal = |part: std::path::Component<'_>| matches!(part, std::path::Component::Normal(_));
    match !path.as_os_str().is_empty() && path.components().all(normal) {
        true => Ok(path.to_owned()),
        false => Err(format!("the path '{}' of a volume must be relative, without '..'", path.display())),
    }
}
