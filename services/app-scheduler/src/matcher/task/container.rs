//! What the task runs in.

use std::collections::BTreeMap;

use meshos_proto::{
    meshos::apps::v1::{
        App, Container, ContainerImage, ContainerType, ContainerVolume, ExternalVolume, LinuxSettings,
        Network, NetworkMode, PortMapping, container_volume::Source,
    },
    mesos::v1::{
        self as pb, ContainerInfo,
        container_info::{self, DockerInfo, MesosInfo, docker_info},
        network_info,
        volume::source::{self, DockerVolume},
    },
};
use meshos_types::{app_port::port_mappings, network_mode};

use super::{TaskContext, labels, reference};
use crate::{matcher::Launch, validate::volumes::DRIVER};

/// None: a plain process.
pub(super) fn container_info(app: &App, launch: &Launch, context: TaskContext<'_>) -> Option<ContainerInfo> {
    let tty_info = app.tty.unwrap_or_default().then(pb::TtyInfo::default);
    let Some(container) = &app.container else {
        let plain = ContainerInfo {
            r#type: container_info::Type::Mesos.into(),
            mesos: Some(MesosInfo::default()),
            ..Default::default()
        };
        return tty_info.map(|tty| ContainerInfo { tty_info: Some(tty), ..plain });
    };
    let mut info = ContainerInfo {
        volumes: container.volumes.iter().filter_map(|one| volume(app, one)).collect(),
        linux_info: container.linux.as_ref().map(linux),
        tty_info,
        ..Default::default()
    };
    if container.r#type() == ContainerType::Mesos {
        info.r#type = container_info::Type::Mesos.into();
        info.mesos = Some(MesosInfo { image: container.image.as_ref().map(|one| image(app, one)) });
    } else {
        info.r#type = container_info::Type::Docker.into();
        info.docker = Some(docker(app, container, launch, context));
    }
    info.network_infos = networks(app, container, launch, context);
    Some(info)
}

fn docker(app: &App, container: &Container, launch: &Launch, context: TaskContext<'_>) -> DockerInfo {
    let image = container.image.clone().unwrap_or_default();
    let given = image.parameters.into_iter().map(|given| (given.key, given.value));
    let own = ("label".to_owned(), format!("MESOS_TASK_ID={}", context.task_id));
    let network = match network_mode(app) {
        NetworkMode::Bridge => docker_info::Network::Bridge,
        NetworkMode::Container => docker_info::Network::User,
        NetworkMode::Host | NetworkMode::Unspecified => docker_info::Network::Host,
    };
    let mapping = |(host_port, container_port, protocol): (u32, u32, &str)| docker_info::PortMapping {
        host_port,
        container_port,
        protocol: Some(protocol.to_owned()),
    };
    DockerInfo {
        image: image.name,
        network: Some(network.into()),
        port_mappings: published(app, launch, |_| true).map(mapping).collect(),
        privileged: Some(image.privileged),
        parameters: given.chain([own]).map(|(key, value)| pb::Parameter { key, value }).collect(),
        force_pull_image: Some(image.force_pull),
        ..Default::default()
    }
}

/// Port of the host, port of the container, protocol, for each mapping that has a port of the host.
fn published<'a>(
    app: &'a App,
    launch: &'a Launch,
    wanted: impl Fn(&PortMapping) -> bool + 'a,
) -> impl Iterator<Item = (u32, u32, &'a str)> {
    let numbers = launch.ports.iter().copied().zip(launch.container_ports.iter().copied());
    let known = port_mappings(app).iter().zip(numbers).filter(|(_, (host, _))| *host != 0);
    known.filter(move |(mapping, _)| wanted(mapping)).flat_map(|(mapping, (host, inside))| {
        mapping.protocol.split(',').map(move |protocol| (host, inside, protocol))
    })
}

fn networks(
    app: &App,
    container: &Container,
    launch: &Launch,
    context: TaskContext<'_>,
) -> Vec<pb::NetworkInfo> {
    let docker = container.r#type() != ContainerType::Mesos;
    let joined = app.networks.iter().filter_map(|network| match network.mode() {
        NetworkMode::Container => Some((network, network.name.clone().unwrap_or_default())),
        // The engine has its own bridge.
        NetworkMode::Bridge if !docker => Some((network, context.bridge_name.to_owned())),
        _ => None,
    });
    joined.map(|(network, name)| network_info(app, launch, network, name)).collect()
}

fn network_info(app: &App, launch: &Launch, network: &Network, name: String) -> pb::NetworkInfo {
    let serves =
        |mapping: &PortMapping| mapping.network_names.is_empty() || mapping.network_names.contains(&name);
    let mapping = |(host_port, container_port, protocol): (u32, u32, &str)| network_info::PortMapping {
        host_port,
        container_port,
        protocol: Some(protocol.to_owned()),
    };
    pb::NetworkInfo {
        // One that says nothing asks for any address.
        ip_addresses: vec![network_info::IpAddress::default()],
        port_mappings: published(app, launch, serves).map(mapping).collect(),
        labels: Some(labels(&network.labels)),
        name: Some(name.clone()),
        ..Default::default()
    }
}

fn image(app: &App, image: &ContainerImage) -> pb::Image {
    let config = image.pull_secret.as_ref().map(|secret| reference(app, secret));
    pb::Image {
        r#type: pb::image::Type::Docker.into(),
        docker: Some(pb::image::Docker { name: image.name.clone(), config, ..Default::default() }),
        cached: Some(!image.force_pull),
        ..Default::default()
    }
}

fn volume(app: &App, volume: &ContainerVolume) -> Option<pb::Volume> {
    use pb::volume::Mode;
    let mut made = pb::Volume {
        mode: if volume.read_only { Mode::Ro } else { Mode::Rw }.into(),
        container_path: volume.container_path.clone(),
        ..Default::default()
    };
    match volume.source.as_ref()? {
        Source::HostPath(path) => made.host_path = Some(path.clone()),
        Source::External(external) => {
            made.source = Some(pb::volume::Source {
                r#type: Some(source::Type::DockerVolume.into()),
                docker_volume: Some(docker_volume(external)),
                ..Default::default()
            });
        }
        Source::Secret(secret) => {
            made.set_mode(Mode::Ro);
            made.source = Some(pb::volume::Source {
                r#type: Some(source::Type::Secret.into()),
                secret: Some(reference(app, secret)),
                ..Default::default()
            });
        }
    }
    Some(made)
}

/// Options are the driver's, without the provider's prefix.
fn docker_volume(external: &ExternalVolume) -> DockerVolume {
    let mut options: BTreeMap<&str, String> = external
        .options
        .iter()
        .filter(|(key, _)| key.as_str() != DRIVER)
        .map(|(key, value)| (key.strip_prefix("dvdi/").unwrap_or(key), value.clone()))
        .collect();
    if let Some(size) = external.size {
        // Of GiB, as the drivers of the provider take it; memory is asked for with its unit.
        let in_memory = external.options.get(DRIVER).is_some_and(|driver| driver == "tmpfs");
        options.insert("size", if in_memory { format!("{size}g") } else { size.to_string() });
    }
    let parameter = |(key, value): (&str, String)| pb::Parameter { key: key.to_owned(), value };
    let parameter: Vec<pb::Parameter> = options.into_iter().map(parameter).collect();
    DockerVolume {
        driver: external.options.get(DRIVER).cloned(),
        name: external.name.clone(),
        driver_options: (!parameter.is_empty()).then_some(pb::Parameters { parameter }),
    }
}

fn linux(settings: &LinuxSettings) -> pb::LinuxInfo {
    use pb::linux_info::IpcMode;
    let mode = |ipc: &meshos_proto::meshos::apps::v1::Ipc| {
        if ipc.shares_parent { IpcMode::ShareParent } else { IpcMode::Private }.into()
    };
    pb::LinuxInfo {
        seccomp: settings.seccomp.as_ref().map(|seccomp| pb::SeccompInfo {
            profile_name: seccomp.profile.clone(),
            unconfined: Some(seccomp.unconfined),
        }),
        ipc_mode: settings.ipc.as_ref().map(mode),
        shm_size: settings.ipc.as_ref().and_then(|ipc| ipc.shm_size),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests;
