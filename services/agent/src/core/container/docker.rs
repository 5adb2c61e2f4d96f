//! Containers of type DOCKER, as upstream's docker containerizer checks them.

use meshos_proto::mesos::v1::{
    self as pb,
    container_info::{DockerInfo, docker_info::Network},
};

use super::{Order, port_mapping, volumes};
use crate::containerizer::{
    container::{ContainerSetup, ImageSetup, LinuxSetup, NetworkMode, NetworkSetup, Runtime},
    runtimes::Runtimes,
};

pub(super) fn setup(
    runtimes: &Runtimes,
    info: &pb::ContainerInfo,
    order: Order<'_>,
) -> Result<ContainerSetup, String> {
    let docker = info.docker.as_ref();
    let docker = docker.ok_or("DockerInfo 'docker' is not set for DOCKER typed ContainerInfo")?;
    if docker.image.trim().is_empty() {
        return Err("DockerInfo has no image".to_owned());
    }
    let network = network(info, docker, order.resources)?;
    if info.hostname.is_some() && network.mode == NetworkMode::Host {
        return Err("Unable to set hostname with host network mode".to_owned());
    }
    let parameters = docker.parameters.iter().map(|p| (p.key.clone(), p.value.clone())).collect();
    let known = &runtimes.defaults.dns;
    let dns = match &network.mode {
        NetworkMode::Bridge => known.bridge.clone(),
        NetworkMode::Named(names) => names.first().and_then(|name| known.user.of(name)),
        NetworkMode::Host | NetworkMode::None => None,
    };
    Ok(ContainerSetup {
        runtime: Runtime::Docker,
        dns,
        image: Some(ImageSetup {
            name: docker.image.trim().to_owned(),
            force_pull: docker.force_pull_image.unwrap_or_default(),
            pull_config: None,
        }),
        hostname: info.hostname.clone(),
        network,
        mounts: volumes::of_docker(info, docker)?,
        parameters,
        linux: LinuxSetup { privileged: docker.privileged.unwrap_or_default(), ..LinuxSetup::default() },
        ..ContainerSetup::default()
    })
}

fn network(
    info: &pb::ContainerInfo,
    docker: &DockerInfo,
    resources: &[pb::Resource],
) -> Result<NetworkSetup, String> {
    // A parameter goes before the field, as in upstream.
    let named =
        docker.parameters.iter().rfind(|parameter| matches!(parameter.key.as_str(), "net" | "network"));
    let mode = match named {
        Some(parameter) => mode_of(&parameter.value),
        None => match docker.network() {
            Network::Host => NetworkMode::Host,
            Network::Bridge => NetworkMode::Bridge,
            Network::None => NetworkMode::None,
            Network::User => NetworkMode::Named(vec![user_network(&info.network_infos)?]),
        },
    };
    let takes_ports = matches!(mode, NetworkMode::Bridge | NetworkMode::Named(_));
    if !docker.port_mappings.is_empty() && !takes_ports {
        return Err("Port mappings are only supported for bridge and user-defined networks".to_owned());
    }
    let port_mappings = docker.port_mappings.iter().map(|mapping| {
        port_mapping((mapping.host_port, mapping.container_port, mapping.protocol.as_deref()), resources)
    });
    Ok(NetworkSetup { mode, port_mappings: port_mappings.collect::<Result<_, _>>()?, shared_as: None })
}

fn mode_of(name: &str) -> NetworkMode {
    match name {
        "host" => NetworkMode::Host,
        "bridge" | "default" => NetworkMode::Bridge,
        "none" => NetworkMode::None,
        name => NetworkMode::Named(vec![name.to_owned()]),
    }
}

fn user_network(networks: &[pb::NetworkInfo]) -> Result<String, String> {
    match networks {
        [] => Err("No network info found in container info".to_owned()),
        [one] => {
            let name = one.name.clone().filter(|name| !name.is_empty());
            name.ok_or_else(|| "No network name found in network info".to_owned())
        }
        _ => Err("Only a single network can be defined in Docker run".to_owned()),
    }
}
