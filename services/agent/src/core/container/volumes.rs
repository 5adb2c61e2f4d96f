//! Volumes of containers, and where they are seen.

use std::path::{Path, PathBuf};

use meshos_proto::mesos::v1::{
    self as pb,
    container_info::DockerInfo,
    volume::{
        Mode,
        source::{self, sandbox_path},
    },
};

use super::inside;
use crate::containerizer::{
    container::{Hidden, MountSetup, MountSource},
    runtimes::Runtimes,
    tmpfs::{self, Tmpfs},
};

/// Volumes of a container of type DOCKER.
#[allow(deprecated, reason = "frameworks of old still set it")]
pub(super) fn of_docker(info: &pb::ContainerInfo, docker: &DockerInfo) -> Result<Vec<MountSetup>, String> {
    let mut mounts = Vec::new();
    // The older field says that host paths are names of volumes.
    let driver = docker.volume_driver.clone().filter(|driver| !driver.is_empty());
    for volume in &info.volumes {
        let container_path = container_path(volume)?;
        let source = match (&volume.host_path, volume.source.as_ref()) {
            (Some(name), None) if driver.is_some() => {
                MountSource::DockerVolume { driver: driver.clone(), name: name.clone(), options: Vec::new() }
            }
            (Some(path), None) => host_path(path, &container_path)?,
            (None, Some(source)) => source_of(source, &container_path, None)?,
            _ => return Err(only_one(volume)),
        };
        if let MountSource::Secret(_) = source {
            return Err(format!(
                "the volume at '{}' is a secret: only a container of type MESOS can have it",
                container_path.display()
            ));
        }
        mounts.push(MountSetup { source, container_path, read_only: read_only(volume) });
    }
    let driver_of = |mount: &MountSetup| match &mount.source {
        MountSource::DockerVolume { driver, .. } => driver.clone(),
        _ => None,
    };
    let mut drivers: Vec<_> = mounts.iter().filter_map(driver_of).collect();
    drivers.sort_unstable();
    drivers.dedup();
    match drivers.as_slice() {
        [one, other, ..] => {
            Err(format!("Only one volume driver is supported: '{one}' and '{other}' are given"))
        }
        _ => Ok(mounts),
    }
}

/// Volumes of a container of type MESOS; `parent`: the sandbox of the container above.
pub(super) fn of_mesos(
    runtimes: &Runtimes,
    info: &pb::ContainerInfo,
    parent: Option<&Path>,
) -> Result<Vec<MountSetup>, String> {
    let mut mounts = Vec::new();
    for volume in &info.volumes {
        let container_path = container_path(volume)?;
        let source = match (&volume.host_path, volume.source.as_ref()) {
            (Some(path), None) => host_path(path, &container_path)?,
            (None, Some(source)) => source_of(source, &container_path, parent)?,
            _ => return Err(only_one(volume)),
        };
        let source = in_memory(source, &container_path)?;
        let (isolator, what) = match &source {
            MountSource::Host(_) | MountSource::Persistent(_) => {
                (Some("volume/host_path"), "a volume of a host path")
            }
            MountSource::Sandbox(_) | MountSource::Parent { .. } => {
                (Some("volume/sandbox_path"), "a volume of a sandbox path")
            }
            MountSource::Tmpfs(_) => (None, "a volume in memory"),
            MountSource::Secret(_) => (Some("volume/secret"), "a volume with a secret"),
            MountSource::DockerVolume { .. } => (Some("docker/volume"), "a volume of a Docker volume driver"),
        };
        let isolators: Vec<_> = std::iter::once("filesystem/linux").chain(isolator).collect();
        runtimes.require_isolators(&isolators, what)?;
        mounts.push(MountSetup { source, container_path, read_only: read_only(volume) });
    }
    Ok(mounts)
}

/// Docker's own way to ask for a file system in memory, where no Docker Engine is asked.
fn in_memory(source: MountSource, container_path: &Path) -> Result<MountSource, String> {
    match &source {
        MountSource::DockerVolume { driver, options, .. }
            if driver.as_deref().is_none_or(|driver| driver == "local") =>
        {
            let made =
                Tmpfs::of_local(options).transpose().map_err(|reason| broken(container_path, &reason))?;
            Ok(made.map_or(source, MountSource::Tmpfs))
        }
        _ => Ok(source),
    }
}

fn broken(container_path: &Path, reason: &str) -> String {
    format!("the volume in memory at '{}' cannot be: {reason}", container_path.display())
}

/// Directories of the sandbox above, and where in the container's own they are to be found; none when there is more to
/// its volumes than links can do.
pub(in crate::core) fn links(volumes: &[pb::Volume]) -> Option<Result<Vec<(PathBuf, PathBuf)>, String>> {
    let parent = |volume: &pb::Volume| {
        let source = volume.source.as_ref().filter(|source| source.r#type() == source::Type::SandboxPath);
        let path = source.and_then(|source| source.sandbox_path.clone());
        path.filter(|path| path.r#type() == sandbox_path::Type::Parent && !read_only(volume))
    };
    let paths: Option<Vec<_>> = volumes.iter().map(parent).collect();
    let is_relative = volumes.iter().all(|volume| !volume.container_path.starts_with('/'));
    let link = |(path, volume): (&source::SandboxPath, &pb::Volume)| {
        Ok((inside(&path.path)?, inside(&volume.container_path)?))
    };
    paths.filter(|_| is_relative).map(|paths| paths.iter().zip(volumes).map(link).collect())
}

/// Directories of the sandbox above that volumes show, and where in the task's own they are to be found. Those that
/// mean nothing are left out.
pub(in crate::core) fn parent_volumes(volumes: &[pb::Volume]) -> Vec<(PathBuf, PathBuf)> {
    let parent = |volume: &pb::Volume| {
        let path = volume.source.as_ref()?.sandbox_path.as_ref()?;
        let is_parent = path.r#type() == sandbox_path::Type::Parent;
        let place = inside(volume.container_path.trim_start_matches('/')).ok();
        inside(&path.path).ok().zip(place).filter(|_| is_parent)
    };
    volumes.iter().filter_map(parent).collect()
}

fn read_only(volume: &pb::Volume) -> bool {
    volume.mode == Mode::Ro as i32
}

fn only_one(volume: &pb::Volume) -> String {
    format!(
        "the volume at '{}' needs exactly one of 'host_path' and 'source' (a volume of an image is not supported)",
        volume.container_path
    )
}

/// Absolute, or a path in the sandbox.
fn container_path(volume: &pb::Volume) -> Result<PathBuf, String> {
    let path = Path::new(&volume.container_path);
    let normal = |part: std::path::Component<'_>| {
        !matches!(part, std::path::Component::ParentDir | std::path::Component::CurDir)
    };
    match path.is_absolute() {
        true if path.parent().is_none() => Err("a volume cannot take the place of '/'".to_owned()),
        true if path.components().all(normal) => Ok(path.to_owned()),
        true => Err(format!("the container path '{}' of a volume must not contain '..'", path.display())),
        false => inside(&volume.container_path),
    }
}

/// An absolute path of the machine, or a relative one in the sandbox.
fn host_path(path: &str, container_path: &Path) -> Result<MountSource, String> {
    if Path::new(path).is_absolute() {
        return Ok(MountSource::Host(PathBuf::from(path)));
    }
    if container_path.is_relative() {
        return Err(format!(
            "Both the host path '{path}' and the container path '{}' of a volume are relative: one must be absolute",
            container_path.display()
        ));
    }
    inside(path).map(MountSource::Sandbox)
}

/// Nobody here knows secrets by their names.
pub(in crate::core) fn secret_value(secret: &pb::Secret) -> Result<Vec<u8>, String> {
    match (secret.r#type(), &secret.value) {
        (pb::secret::Type::Value, Some(value)) => Ok(value.data.to_vec()),
        (pb::secret::Type::Value, None) => Err("the secret has no 'value'".to_owned()),
        _ => Err("the secret is a reference: this agent takes only values".to_owned()),
    }
}

fn source_of(
    source: &pb::volume::Source,
    container_path: &Path,
    parent: Option<&Path>,
) -> Result<MountSource, String> {
    let missing =
        |what: &str| format!("the source of the volume at '{}' has no '{what}'", container_path.display());
    match source.r#type() {
        source::Type::HostPath => {
            let host = source.host_path.as_ref().ok_or_else(|| missing("host_path"))?;
            match Path::new(&host.path).is_absolute() {
                true => Ok(MountSource::Host(PathBuf::from(&host.path))),
                false => Err(format!("Path '{}' in HOST_PATH volume is not absolute", host.path)),
            }
        }
        source::Type::SandboxPath => {
            let path = source.sandbox_path.as_ref().ok_or_else(|| missing("sandbox_path"))?;
            match path.r#type() {
                sandbox_path::Type::Parent => {
                    let sandbox = parent.ok_or("PARENT type SANDBOX_PATH only works for nested container")?;
                    Ok(MountSource::Parent { sandbox: sandbox.to_owned(), path: inside(&path.path)? })
                }
                sandbox_path::Type::Self_ => inside(&path.path).map(MountSource::Sandbox),
                sandbox_path::Type::Unknown => Err(missing("sandbox_path.type")),
            }
        }
        source::Type::DockerVolume => {
            let volume = source.docker_volume.as_ref().ok_or_else(|| missing("docker_volume"))?;
            if volume.name.is_empty() {
                return Err(missing("docker_volume.name"));
            }
            let options = volume.driver_options.iter().flat_map(|options| &options.parameter);
            let options: Vec<_> = options.map(|option| (option.key.clone(), option.value.clone())).collect();
            let driver = volume.driver.clone().filter(|driver| !driver.is_empty());
            match driver.as_deref() {
                Some(tmpfs::DRIVER) => Tmpfs::of_driver(&options)
                    .map(MountSource::Tmpfs)
                    .map_err(|reason| broken(container_path, &reason)),
                _ => Ok(MountSource::DockerVolume { driver, name: volume.name.clone(), options }),
            }
        }
        source::Type::Secret => {
            let secret = source.secret.as_ref().ok_or_else(|| missing("secret"))?;
            secret_value(secret).map(Hidden).map(MountSource::Secret)
        }
        kind @ (source::Type::CsiVolume | source::Type::Unknown) => Err(format!(
            "the volume at '{}' is of the kind {}, which this agent does not support",
            container_path.display(),
            kind.as_str_name()
        )),
    }
}
