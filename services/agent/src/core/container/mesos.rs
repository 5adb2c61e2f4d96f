//! Containers of type MESOS: images, volumes and networks without the Docker Engine.

use meshos_proto::mesos::v1::{self as pb, image};

use super::{Order, linux, port_mapping, volumes};
use crate::containerizer::{
    container::{ContainerSetup, ImageSetup, NetworkMode, NetworkSetup, Runtime},
    runtimes::Runtimes,
};

/// None: a plain process does.
pub(super) fn setup(
    runtimes: &Runtimes,
    info: &pb::ContainerInfo,
    order: Order<'_>,
) -> Result<Option<ContainerSetup>, String> {
    if is_plain(info) && !runtimes.confines() {
        return Ok(None);
    }
    let image = info.mesos.as_ref().and_then(|mesos| mesos.image.as_ref());
    let image = image.map(|image| runtimes.require_images().and_then(|()| image_setup(image))).transpose()?;
    let network = network(runtimes, info, order.resources)?;
    let dns = match &network.mode {
        NetworkMode::Named(names) => names.first().and_then(|name| runtimes.defaults.dns.cni.of(name)),
        _ => None,
    };
    Ok(Some(ContainerSetup {
        dns,
        runtime: Runtime::Oci,
        image,
        hostname: info.hostname.clone(),
        network,
        mounts: volumes::of_mesos(runtimes, info, order.parent)?,
        linux: linux::setup(runtimes, info)?,
        ..ContainerSetup::default()
    }))
}

/// Whether a container asks for no more than a plain process has.
pub(super) fn is_plain(info: &pb::ContainerInfo) -> bool {
    info.mesos.as_ref().is_none_or(|mesos| mesos.image.is_none())
        && info.volumes.is_empty()
        && info.hostname.is_none()
        && info.tty_info.is_none()
        && info.linux_info.as_ref().is_none_or(linux::is_plain)
        && names(info).is_empty()
}

/// Networks without a name are the machine's own.
fn names(info: &pb::ContainerInfo) -> Vec<String> {
    info.network_infos
        .iter()
        .filter_map(|network| network.name.clone())
        .filter(|name| !name.is_empty())
        .collect()
}

fn network(
    runtimes: &Runtimes,
    info: &pb::ContainerInfo,
    resources: &[pb::Resource],
) -> Result<NetworkSetup, String> {
    let names = names(info);
    let Some(first) = names.first() else { return Ok(NetworkSetup::default()) };
    if !runtimes.cni {
        return Err(format!(
            "the network '{first}' needs --network_cni_config_dir and --network_cni_plugins_dir on this agent"
        ));
    }
    if let Some((_, twice)) = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
        return Err(format!("Attempted to join CNI network '{twice}' multiple times"));
    }
    let mappings = info.network_infos.iter().flat_map(|network| &network.port_mappings).map(|mapping| {
        port_mapping((mapping.host_port, mapping.container_port, mapping.protocol.as_deref()), resources)
    });
    let port_mappings = mappings.collect::<Result<_, _>>()?;
    Ok(NetworkSetup { mode: NetworkMode::Named(names), port_mappings, shared_as: None })
}

pub(super) fn image_setup(image: &pb::Image) -> Result<ImageSetup, String> {
    if image.r#type() != image::Type::Docker {
        return Err("images of type APPC are not supported: only DOCKER".to_owned());
    }
    let docker = image.docker.as_ref().ok_or("the image has no 'docker'")?;
    if docker.name.trim().is_empty() {
        return Err("the image has no name".to_owned());
    }
    let pull_config = match &docker.config {
        None => None,
        Some(secret) => {
            let value = volumes::secret_value(secret);
            Some(value.map_err(|reason| format!("the image's config: {reason}"))?)
        }
    };
    // `cached` says whether a copy that is here will do.
    let force_pull = !image.cached();
    Ok(ImageSetup { name: docker.name.trim().to_owned(), force_pull, pull_config })
}
