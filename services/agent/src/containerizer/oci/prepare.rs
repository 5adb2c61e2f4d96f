//! Everything that a container needs before its start.

use std::path::{Path, PathBuf};

use meshos_proto::meshos::agent::v1::SpawnRequest;

use super::{
    OciContainerizer, Prepared, command,
    enclosure::{self, Parts},
    files::{self, Names},
    rights,
    state::{self, State},
    user,
};
use crate::{
    beneath::Beneath,
    containerizer::{
        ContainerSpec, ContainerizerError, TaskUser,
        container::{ContainerSetup, DnsSetup, MountSource, NetworkMode},
        process::blocking,
    },
    images::Image,
    network::{Joined, Order},
};

/// Who a container that was prepared runs as.
pub(super) fn user_of(request: &SpawnRequest) -> Option<TaskUser> {
    let (uid, gid) = (request.uid?, request.gid?);
    Some(TaskUser { name: uid.to_string(), uid, gid, groups: request.groups.clone() })
}

impl OciContainerizer {
    pub(super) async fn prepare_container(
        &self,
        spec: &ContainerSpec,
        setup: &ContainerSetup,
    ) -> Result<(), ContainerizerError> {
        let id = spec.container_id.as_str();
        let failed = |reason: String| ContainerizerError::container(id, reason);
        state::check_id(id).map_err(failed)?;
        if !nix::unistd::geteuid().is_root() {
            return Err(failed(
                "a container with its own files or networks needs an agent that is root".to_owned(),
            ));
        }
        let brought = self.brought().remove(id);
        let image = match &setup.image {
            Some(_) if brought.is_some() => brought,
            Some(image) => Some(self.images.provide(image, id).await.map_err(failed)?),
            None => None,
        };
        let user = self.find_user(spec, image.as_ref()).await?;
        let spec = with_program(spec, setup, image.as_ref()).map_err(failed)?;
        let state = self.new_state(&spec, setup, (image.as_ref(), user.as_ref())).map_err(failed)?;
        // First: whoever cleans up finds what there is.
        let dir = self.make_directory(id, &state).await?;
        self.process.prepare_as(&spec, user.clone()).await?;
        make_sources(&spec, setup, user.as_ref()).await?;
        let joined = self.join(id, setup).await.map_err(failed)?;
        let request = self.process.spawn_request_as(&spec, user);
        let enclosed = self.enclose(setup, &state, (&dir, image.as_ref(), joined.as_ref())).await?;
        let directory = working_directory(&spec, image.as_ref(), &state);
        let request = SpawnRequest {
            enclosure: Some(enclosed),
            working_directory: directory.display().to_string(),
            ..request
        };
        self.prepared().insert(id.to_owned(), Prepared { spec, request });
        Ok(())
    }

    /// The user whom the framework names if it is not root (one of the machine, else one of the image), or the image's.
    async fn find_user(
        &self,
        spec: &ContainerSpec,
        image: Option<&Image>,
    ) -> Result<Option<TaskUser>, ContainerizerError> {
        let Some(image) = image else { return self.process.user_of(spec).await };
        let named = spec.user.clone().filter(|name| name != "root" && self.process.switches_user());
        let of_image = Some(image.config.user.clone()).filter(|user| !user.is_empty());
        let Some(wanted) = named.clone().or(of_image) else { return Ok(None) };
        // Who a framework may run as is the machine's say, where it knows the name.
        if named.is_some()
            && let Ok(user) = self.process.user_of(spec).await
        {
            return Ok(user);
        }
        let layers = image.layers.clone();
        let found = blocking(&spec.container_id, move || user::of_image(&wanted, &layers)).await;
        found.map(Some)
    }

    fn new_state(
        &self,
        spec: &ContainerSpec,
        setup: &ContainerSetup,
        (image, user): (Option<&Image>, Option<&TaskUser>),
    ) -> Result<State, String> {
        let rights = rights::rights(&setup.linux, image.is_some(), self.isolation.no_new_privileges)?;
        let network =
            matches!(setup.network.mode, NetworkMode::Named(_)).then(|| holder(&spec.container_id, setup));
        if let Some(holder) = &network {
            state::check_id(holder)?;
        }
        let state = State {
            has_image: image.is_some(),
            sandbox: spec.sandbox.clone(),
            sandbox_inside: setup.sandbox_directory.clone(),
            environment: spec.environment.clone(),
            user: user.map(|user| (user.uid, user.gid, user.groups.clone())),
            bounding_capabilities: rights.bounding_capabilities,
            ambient_capabilities: rights.ambient_capabilities,
            seccomp: rights.seccomp,
            no_new_privileges: rights.no_new_privileges,
            network,
            ..State::default()
        };
        Ok(state.with_programs(&rights.seccomp_programs))
    }

    async fn make_directory(&self, id: &str, state: &State) -> Result<PathBuf, ContainerizerError> {
        let (directories, state, id_inside) = (self.directories.clone(), state.clone(), id.to_owned());
        blocking(id, move || {
            let dir = directories.make(&id_inside)?;
            directories.write(&id_inside, &state)?;
            let parts: &[&str] = if state.has_image { &["upper", "work", "root"] } else { &[] };
            for part in parts {
                let path = dir.join(part);
                std::fs::create_dir(&path)
                    .map_err(|error| format!("cannot make {}: {error}", path.display()))?;
            }
            Ok(dir)
        })
        .await
    }

    async fn join(&self, id: &str, setup: &ContainerSetup) -> Result<Option<Joined>, String> {
        let NetworkMode::Named(networks) = &setup.network.mode else { return Ok(None) };
        let order = Order {
            holder: holder(id, setup),
            container_id: id.to_owned(),
            networks: networks.clone(),
            port_mappings: setup.network.port_mappings.clone(),
        };
        self.networks.join(&order).await.map(Some)
    }

    async fn enclose(
        &self,
        setup: &ContainerSetup,
        state: &State,
        (dir, image, joined): (&Path, Option<&Image>, Option<&Joined>),
    ) -> Result<meshos_proto::meshos::agent::v1::Enclosure, ContainerizerError> {
        let id = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let hostname = hostname(&id, setup).map_err(|reason| ContainerizerError::container(&id, reason))?;
        let (dir, image, joined) = (dir.to_owned(), image.cloned(), joined.cloned());
        let (setup, state, isolation) = (setup.clone(), state.clone(), self.isolation);
        blocking(&id, move || {
            let status = joined.as_ref().map(|joined| joined.status.clone()).unwrap_or_default();
            let firsts = status.networks.iter().filter_map(|network| network.addresses.first().copied());
            let addresses: Vec<_> = firsts.collect();
            let of_network = joined.as_ref().map(|joined| joined.resolv_conf.clone());
            let of_operator = || setup.dns.as_ref().map(DnsSetup::resolv_conf).unwrap_or_default();
            let resolv_conf = of_network.filter(|text| !text.is_empty()).unwrap_or_else(of_operator);
            let owner = state.user.as_ref().map(|(uid, gid, _)| (*uid, *gid));
            files::write_secrets(&dir, &setup.mounts, owner)?;
            let names = Names {
                hostname: hostname.as_deref(),
                addresses: &addresses,
                resolv_conf: &resolv_conf,
                shares_network: setup.network.mode == NetworkMode::Host,
            };
            let files = if image.is_some() { files::write(&dir, &names)? } else { Vec::new() };
            let parts = Parts {
                dir: &dir,
                layers: image.as_ref().map_or(&[], |image| &image.layers),
                files: &files,
                network_namespace: joined.as_ref().map(|joined| joined.namespace.as_path()),
                hostname: hostname.as_deref(),
            };
            enclosure::of(&setup, &state, &parts, isolation)
        })
        .await
    }
}

/// Whose network namespace a container is in.
fn holder(id: &str, setup: &ContainerSetup) -> String {
    setup.network.shared_as.clone().unwrap_or_else(|| id.to_owned())
}

/// As in Mesos, a container with a network of its own is called by its id.
fn hostname(id: &str, setup: &ContainerSetup) -> Result<Option<String>, String> {
    if let Some(name) = &setup.hostname {
        files::check_hostname(name)?;
        return Ok(Some(name.clone()));
    }
    let own = setup.network.mode != NetworkMode::Host;
    let name: String = holder(id, setup).chars().take(63).collect();
    Ok(Some(name).filter(|name| own && files::check_hostname(name).is_ok()))
}

/// The image's say in what is run.
fn with_program(
    spec: &ContainerSpec,
    setup: &ContainerSetup,
    image: Option<&Image>,
) -> Result<ContainerSpec, String> {
    let mut spec = spec.clone();
    let Some(image) = image else { return Ok(spec) };
    spec.environment = command::environment(&image.config, &spec.environment);
    if spec.program.is_empty()
        && let Some((program, argument_zero, arguments)) = command::program(&setup.command, &image.config)?
    {
        (spec.program, spec.argument_zero, spec.arguments) = (program, argument_zero, arguments);
    }
    Ok(spec)
}

/// The image's, or the sandbox; as the container sees it.
fn working_directory(spec: &ContainerSpec, image: Option<&Image>, state: &State) -> PathBuf {
    if let Some(inside) = spec.directory.as_ref().and_then(|directory| state.inside(directory)) {
        return inside;
    }
    match image.map(|image| image.config.working_dir.as_str()) {
        Some(directory) if !directory.is_empty() => Path::new("/").join(directory),
        Some(_) => state.sandbox_inside.clone(),
        None => state.sandbox.clone(),
    }
}

/// Volumes of the machine and of sandboxes that are not there yet.
async fn make_sources(
    spec: &ContainerSpec,
    setup: &ContainerSetup,
    user: Option<&TaskUser>,
) -> Result<(), ContainerizerError> {
    let owner = user.map(|user| (user.uid, user.gid));
    let (own, mounts) = (spec.sandbox.clone(), setup.mounts.clone());
    blocking(&spec.container_id, move || {
        for mount in mounts {
            match &mount.source {
                MountSource::Host(path) => match std::fs::metadata(path) {
                    Ok(_) => Ok(()),
                    Err(_) => std::fs::create_dir_all(path),
                },
                MountSource::Sandbox(path) => in_sandbox(&own, path, owner),
                MountSource::Parent { sandbox, path } => in_sandbox(sandbox, path, owner),
                MountSource::Persistent(path) => {
                    owner.map_or(Ok(()), |(uid, gid)| std::os::unix::fs::chown(path, Some(uid), Some(gid)))
                }
                MountSource::Tmpfs(_) | MountSource::Secret(_) | MountSource::DockerVolume { .. } => Ok(()),
            }
            .map_err(|error| {
                format!("cannot provide the volume {}: {error}", mount.container_path.display())
            })?;
        }
        Ok(())
    })
    .await
}

fn in_sandbox(sandbox: &Path, path: &Path, owner: Option<(u32, u32)>) -> std::io::Result<()> {
    let sandbox = Beneath::open(sandbox, owner)?;
    match sandbox.directory(path, 0o755) {
        // A file that a task has made.
        Err(error) => sandbox.read(path).map(drop).map_err(|_| error),
        Ok(_) => Ok(()),
    }
}
