//! What readers may see of secrets: that they are there.

use meshos_proto::mesos::v1 as pb;

/// The container without the values of its secrets. References stay: they say where a value is, not what.
#[must_use]
pub fn without_secrets(mut container: pb::ContainerInfo) -> pb::ContainerInfo {
    let pb::ContainerInfo { volumes, mesos, .. } = &mut container;
    let hide = |image: &mut pb::Image| {
        if let Some(secret) = image.docker.as_mut().and_then(|docker| docker.config.as_mut()) {
            secret.value = None;
        }
    };
    for volume in volumes {
        if let Some(secret) = volume.source.as_mut().and_then(|source| source.secret.as_mut()) {
            secret.value = None;
        }
        volume.image.iter_mut().for_each(hide);
    }
    mesos.iter_mut().filter_map(|mesos| mesos.image.as_mut()).for_each(hide);
    container
}
