//! From a checked container to what the engine is asked to make.

use std::{collections::HashMap, path::Path};

use bollard::models::{
    ContainerCreateBody, HostConfig, Mount, MountTmpfsOptions, MountType, MountVolumeOptions,
    MountVolumeOptionsDriverConfig, NetworkingConfig, PortBinding,
};

use super::parameters::{Draft, apply};
use crate::containerizer::{
    ContainerSpec, Limits,
    container::{ContainerSetup, ImageCommand, MountSetup, MountSource, NetworkMode},
};

/// By which an agent finds its containers again.
pub(super) const OWNER: &str = "meshos.owner";
pub(super) const CONTAINER: &str = "meshos.container_id";

const MB: u64 = 1024 * 1024;
/// Nothing can start with less, says Mesos.
const LEAST_MEMORY: u64 = 32 * MB;
/// Microseconds.
const CPU_PERIOD: i64 = 100_000;
const LEAST_QUOTA: i64 = 1000;
const LEAST_SHARES: i64 = 2;
const SHARES_PER_CPU: f64 = 1024.0;

/// As Mesos names its containers.
pub(super) fn name_of(container_id: &str) -> String {
    format!("mesos-{container_id}")
}

/// What the agent adds of its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Maker<'a> {
    pub(super) owner: &'a str,
    /// Never more processor time than was asked for.
    pub(super) cfs: bool,
}

/// What the engine is to make.
///
/// # Errors
/// A parameter that cannot be taken.
pub(super) fn body(
    spec: &ContainerSpec,
    setup: &ContainerSetup,
    maker: Maker<'_>,
) -> Result<ContainerCreateBody, String> {
    let mut draft = Draft { host: limits(&spec.limits, maker.cfs), ..Draft::default() };
    draft.host.privileged = Some(setup.linux.privileged);
    draft.body.env = Some(spec.environment.iter().map(|(name, value)| format!("{name}={value}")).collect());
    draft.body.hostname = setup.hostname.clone();
    let image = setup.image.as_ref().ok_or("a container of the Docker Engine needs an image")?;
    draft.body.image = Some(image.name.clone());
    network(&mut draft, setup);
    for (key, value) in &setup.parameters {
        apply(&mut draft, key, value)?;
    }
    name_servers(&mut draft, setup);
    command(&mut draft, &setup.command);
    volumes(&mut draft, spec, setup);
    let labels = draft.body.labels.get_or_insert_default();
    labels.extend(setup.labels.iter().cloned());
    labels.insert(OWNER.to_owned(), maker.owner.to_owned());
    labels.insert(CONTAINER.to_owned(), spec.container_id.clone());
    let Draft { mut body, mut host, endpoint, .. } = draft;
    if endpoint != Default::default() {
        let network = host.network_mode.clone().unwrap_or_default();
        let endpoints_config = Some(HashMap::from([(network, endpoint)]));
        body.networking_config = Some(NetworkingConfig { endpoints_config });
    }
    // Docker's own way to start ended containers again would work behind the agent's back.
    host.auto_remove = Some(false);
    body.host_config = Some(host);
    Ok(body)
}

/// A shell takes the place of the image's entrypoint; anything else is given to it.
fn command(draft: &mut Draft, command: &ImageCommand) {
    if command.shell {
        let Some(line) = &command.value else { return };
        draft.body.entrypoint = Some(vec!["/bin/sh".to_owned()]);
        draft.body.cmd = Some(vec!["-c".to_owned(), line.clone()]);
        return;
    }
    let words: Vec<_> = command.value.iter().chain(&command.arguments).cloned().collect();
    if !words.is_empty() {
        draft.body.cmd = Some(words);
    }
}

fn network(draft: &mut Draft, setup: &ContainerSetup) {
    draft.host.network_mode = Some(match &setup.network.mode {
        NetworkMode::Host => "host".to_owned(),
        NetworkMode::Bridge => "bridge".to_owned(),
        NetworkMode::None => "none".to_owned(),
        NetworkMode::Named(names) => names.first().cloned().unwrap_or_default(),
    });
    for mapping in &setup.network.port_mappings {
        let protocol = if mapping.udp { "udp" } else { "tcp" };
        let port = format!("{}/{protocol}", mapping.container_port);
        let binding = PortBinding { host_ip: None, host_port: Some(mapping.host_port.to_string()) };
        let bindings = draft.host.port_bindings.get_or_insert_default();
        bindings.entry(port.clone()).or_default().get_or_insert_default().push(binding);
        draft.body.exposed_ports.get_or_insert_default().push(port);
    }
}

/// The operator's, unless the task names some.
fn name_servers(draft: &mut Draft, setup: &ContainerSetup) {
    let host = &mut draft.host;
    let Some(dns) = &setup.dns else { return };
    if host.dns.is_none() && host.dns_search.is_none() && host.dns_options.is_none() {
        let some = |words: &[String]| (!words.is_empty()).then(|| words.to_vec());
        host.dns = some(&dns.nameservers);
        host.dns_search = some(&dns.search);
        host.dns_options = some(&dns.options);
    }
}

/// The engine's numbers for what a container may use.
#[allow(clippy::cast_possible_truncation, reason = "the cast clamps; resources are not negative")]
pub(super) fn limits(limits: &Limits, cfs: bool) -> HostConfig {
    let mut host = HostConfig::default();
    let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    if limits.cpus > 0.0 {
        host.cpu_shares = Some(LEAST_SHARES.max((limits.cpus * SHARES_PER_CPU) as i64));
    }
    let most = limits.cpus_limit.or((cfs && limits.cpus > 0.0).then_some(limits.cpus));
    if let Some(cpus) = most.filter(|cpus| cpus.is_finite()) {
        host.cpu_period = Some(CPU_PERIOD);
        host.cpu_quota = Some(LEAST_QUOTA.max((cpus * CPU_PERIOD as f64) as i64));
    }
    let memory = limits.memory_limit.unwrap_or(limits.memory);
    if memory > 0 && memory < u64::MAX {
        host.memory = Some(signed(memory.max(LEAST_MEMORY)));
    }
    if let Some(limit) = limits.memory_limit {
        host.memory_reservation = (limits.memory > 0).then(|| signed(limits.memory.max(LEAST_MEMORY)));
        host.oom_score_adj =
            crate::detect::memory().filter(|_| limit > limits.memory).and_then(|(total, _)| {
                let kept = (limits.memory.min(total) * 1000).checked_div(total)?;
                Some(1000 - i64::try_from(kept).unwrap_or(1000))
            });
    }
    host
}

fn volumes(draft: &mut Draft, spec: &ContainerSpec, setup: &ContainerSetup) {
    let seen = &setup.sandbox_directory;
    let mut mounts = vec![bind(&spec.sandbox, seen, false)];
    let mut binds = std::mem::take(&mut draft.binds);
    for mount in &setup.mounts {
        // Absolute paths replace what they are joined to.
        let target = seen.join(&mount.container_path);
        match &mount.source {
            MountSource::Host(path) => match as_bind(path, &target, mount.read_only) {
                // The engine makes what is not there.
                Some(bind) => binds.push(bind),
                None => mounts.push(bind(path, &target, mount.read_only)),
            },
            MountSource::Sandbox(path) => {
                mounts.push(bind(&spec.sandbox.join(path), &target, mount.read_only));
            }
            MountSource::Parent { sandbox, path } => {
                mounts.push(bind(&sandbox.join(path), &target, mount.read_only));
            }
            MountSource::Persistent(path) => mounts.push(bind(path, &target, mount.read_only)),
            MountSource::Tmpfs(_) | MountSource::DockerVolume { .. } => {
                mounts.push(of_engine(mount, &target));
            }
            // Refused before.
            MountSource::Secret(_) => {}
        }
    }
    draft.host.mounts = Some(mounts);
    draft.host.binds = (!binds.is_empty()).then_some(binds);
}

fn bind(source: &Path, target: &Path, read_only: bool) -> Mount {
    Mount {
        typ: Some(MountType::BIND),
        source: Some(source.display().to_string()),
        target: Some(target.display().to_string()),
        read_only: Some(read_only),
        ..Mount::default()
    }
}

/// None where a path would be taken apart.
fn as_bind(source: &Path, target: &Path, read_only: bool) -> Option<String> {
    let (source, target) = (source.to_str()?, target.to_str()?);
    let mode = if read_only { "ro" } else { "rw" };
    (!source.contains(':') && !target.contains(':')).then(|| format!("{source}:{target}:{mode}"))
}

fn of_engine(mount: &MountSetup, target: &Path) -> Mount {
    let made = Mount {
        target: Some(target.display().to_string()),
        read_only: Some(mount.read_only),
        ..Mount::default()
    };
    match &mount.source {
        MountSource::Tmpfs(memory) => Mount {
            typ: Some(MountType::TMPFS),
            tmpfs_options: Some(MountTmpfsOptions {
                size_bytes: memory.size.and_then(|size| i64::try_from(size).ok()),
                mode: memory.mode.map(i64::from),
                ..MountTmpfsOptions::default()
            }),
            ..made
        },
        MountSource::DockerVolume { driver, name, options } => Mount {
            typ: Some(MountType::VOLUME),
            source: Some(name.clone()),
            volume_options: driver.as_ref().map(|driver| MountVolumeOptions {
                driver_config: Some(MountVolumeOptionsDriverConfig {
                    name: Some(driver.clone()),
                    options: Some(options.iter().cloned().collect()),
                }),
                ..MountVolumeOptions::default()
            }),
            ..made
        },
        _ => made,
    }
}

#[cfg(test)]
mod tests;
