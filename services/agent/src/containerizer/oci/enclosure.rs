//! From what a container asks for to what the supervisor makes.

use std::path::{Path, PathBuf};

use meshos_proto::meshos::agent::v1::{EnclosedMount, Enclosure, Rights, Root};
use nix::{mount::MsFlags, sched::CloneFlags};

use super::state::State;
use crate::containerizer::container::{ContainerSetup, MountSetup, MountSource, NetworkMode};

/// What the operator has switched on, for containers that do not ask for anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Isolation {
    /// `namespaces/pid`
    pub(super) pid: bool,
    /// `namespaces/ipc`
    pub(super) ipc: bool,
    /// `linux/nnp`
    pub(super) no_new_privileges: bool,
}

/// What there is for one container.
#[derive(Clone, Debug)]
pub(super) struct Parts<'a> {
    /// Its own directory.
    pub(super) dir: &'a Path,
    /// Layers of its image, the lowest first.
    pub(super) layers: &'a [PathBuf],
    /// Files of `/etc`, and where they belong.
    pub(super) files: &'a [(PathBuf, &'static str)],
    pub(super) network_namespace: Option<&'a Path>,
    pub(super) hostname: Option<&'a str>,
}

/// The enclosure of a container.
///
/// # Errors
/// A volume or a network that cannot be.
pub(super) fn of(
    setup: &ContainerSetup,
    state: &State,
    parts: &Parts<'_>,
    isolation: Isolation,
) -> Result<Enclosure, String> {
    let text = |path: &Path| path.display().to_string();
    let sandbox = if state.has_image { &state.sandbox_inside } else { &state.sandbox };
    let files = parts.files.iter().map(|(source, target)| EnclosedMount {
        source: text(source),
        target: (*target).to_owned(),
        flags: flags(MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC),
        ..EnclosedMount::default()
    });
    let volumes = setup.mounts.iter().enumerate().map(|(number, wanted)| match wanted.source {
        MountSource::Secret(_) => Ok(secret(wanted, &super::files::secret(parts.dir, number))),
        _ => mount(wanted, state),
    });
    Ok(Enclosure {
        joins: String::new(),
        namespaces: namespaces(setup, parts, isolation)?.bits().cast_unsigned(),
        network_namespace: parts.network_namespace.map(text).unwrap_or_default(),
        root: state.has_image.then(|| root(parts)),
        mounts: files.map(Ok).chain(volumes).collect::<Result<_, _>>()?,
        hostname: parts.hostname.unwrap_or_default().to_owned(),
        shm_size: setup.linux.shm_size.unwrap_or_default(),
        sandbox: text(sandbox),
        sandbox_source: text(&state.sandbox),
        unmasked: setup.linux.privileged,
        rights: Some(rights(state)),
    })
}

/// For a process that enters a container which is there.
pub(super) fn joining(container_id: &str, state: &State) -> Enclosure {
    Enclosure { joins: container_id.to_owned(), rights: Some(rights(state)), ..Enclosure::default() }
}

fn rights(state: &State) -> Rights {
    Rights {
        bounding_capabilities: state.bounding_capabilities,
        ambient_capabilities: state.ambient_capabilities,
        seccomp: state.seccomp,
        no_new_privileges: state.no_new_privileges,
        seccomp_programs: state.seccomp_programs(),
    }
}

fn root(parts: &Parts<'_>) -> Root {
    let text = |path: PathBuf| path.display().to_string();
    Root {
        layers: parts.layers.iter().map(|layer| layer.display().to_string()).collect(),
        upper: text(parts.dir.join("upper")),
        work: text(parts.dir.join("work")),
        place: text(parts.dir.join("root")),
    }
}

fn namespaces(setup: &ContainerSetup, parts: &Parts<'_>, isolation: Isolation) -> Result<CloneFlags, String> {
    let has_image = !parts.layers.is_empty();
    let linux = &setup.linux;
    let mut namespaces = CloneFlags::CLONE_NEWNS;
    namespaces.set(CloneFlags::CLONE_NEWCGROUP, has_image);
    namespaces.set(CloneFlags::CLONE_NEWPID, (has_image || isolation.pid) && !linux.share_pid_namespace);
    // Shared memory of a size of its own must be its own.
    let wants_ipc = has_image || isolation.ipc || linux.shm_size.is_some();
    namespaces.set(CloneFlags::CLONE_NEWIPC, wants_ipc && !linux.share_ipc_namespace);
    namespaces.set(CloneFlags::CLONE_NEWUTS, parts.hostname.is_some());
    match &setup.network.mode {
        NetworkMode::Host => {}
        NetworkMode::None => namespaces |= CloneFlags::CLONE_NEWNET,
        NetworkMode::Named(_) if parts.network_namespace.is_some() => {}
        NetworkMode::Named(_) => return Err("its networks were not made".to_owned()),
        NetworkMode::Bridge => {
            return Err(
                "the bridge of the Docker Engine is for containers of type DOCKER: name a CNI network"
                    .to_owned(),
            );
        }
    }
    Ok(namespaces)
}

fn mount(wanted: &MountSetup, state: &State) -> Result<EnclosedMount, String> {
    let text = |path: &Path| path.display().to_string();
    let sandboxed = flags(MsFlags::MS_NODEV | MsFlags::MS_NOSUID);
    let plain = EnclosedMount {
        target: text(&wanted.container_path),
        read_only: wanted.read_only,
        ..EnclosedMount::default()
    };
    let beneath = |sandbox: &Path, path: &Path| EnclosedMount {
        source: text(path),
        source_beneath: text(sandbox),
        flags: sandboxed,
        ..plain.clone()
    };
    Ok(match &wanted.source {
        MountSource::Host(path) => EnclosedMount { source: text(path), ..plain },
        MountSource::Sandbox(path) => beneath(&state.sandbox, path),
        MountSource::Parent { sandbox, path } => beneath(sandbox, path),
        MountSource::Persistent(path) => {
            EnclosedMount { source: text(path), flags: flags(MsFlags::MS_NODEV), ..plain }
        }
        MountSource::Tmpfs(made) => EnclosedMount {
            size: made.size.unwrap_or_default(),
            mode: made.mode.unwrap_or_default(),
            ..plain
        },
        // It is a file of the container's own directory.
        MountSource::Secret(_) => return Err("the secret was not written".to_owned()),
        MountSource::DockerVolume { name, .. } => {
            return Err(format!(
                "the volume '{name}' is one of the Docker Engine: only a container of type DOCKER can have it"
            ));
        }
    })
}

fn secret(wanted: &MountSetup, file: &Path) -> EnclosedMount {
    EnclosedMount {
        source: file.display().to_string(),
        target: wanted.container_path.display().to_string(),
        read_only: true,
        flags: flags(MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC),
        ..EnclosedMount::default()
    }
}

fn flags(flags: MsFlags) -> u64 {
    flags.bits()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containerizer::container::{LinuxSetup, NetworkSetup};

    fn made(setup: &ContainerSetup, layers: &[PathBuf], isolation: Isolation) -> Result<CloneFlags, String> {
        let parts =
            Parts { dir: Path::new("/d"), layers, files: &[], network_namespace: None, hostname: None };
        let state = State { has_image: !layers.is_empty(), ..State::default() };
        let enclosure = of(setup, &state, &parts, isolation)?;
        Ok(CloneFlags::from_bits_truncate(enclosure.namespaces.cast_signed()))
    }

    #[test]
    fn an_image_has_its_own_world_and_the_machine_shares_its() {
        let layers = [PathBuf::from("/l")];
        let plain = ContainerSetup::default();
        let image = made(&plain, &layers, Isolation::default()).unwrap();
        assert!(
            image.contains(CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWNS)
        );
        assert!(!image.intersects(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS));
        assert_eq!(made(&plain, &[], Isolation::default()).unwrap(), CloneFlags::CLONE_NEWNS);
        let all = Isolation { pid: true, ipc: true, no_new_privileges: false };
        let isolated = made(&plain, &[], all).unwrap();
        assert!(isolated.contains(CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWIPC));
        let linux =
            LinuxSetup { share_pid_namespace: true, share_ipc_namespace: true, ..LinuxSetup::default() };
        let shared = made(&ContainerSetup { linux, ..plain.clone() }, &layers, all).unwrap();
        assert!(!shared.intersects(CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWIPC));
        let network = |mode| {
            let network = NetworkSetup { mode, ..NetworkSetup::default() };
            made(&ContainerSetup { network, ..plain.clone() }, &layers, all)
        };
        assert!(network(NetworkMode::None).unwrap().contains(CloneFlags::CLONE_NEWNET));
        assert!(network(NetworkMode::Bridge).is_err() && network(NetworkMode::Named(vec![])).is_err());
    }

    #[test]
    fn volumes_of_sandboxes_follow_no_links() {
        let state = State { sandbox: "/w/s".into(), ..State::default() };
        let volume = |source| {
            let wanted = MountSetup { source, container_path: "data".into(), read_only: true };
            mount(&wanted, &state)
        };
        let sandbox = volume(MountSource::Sandbox("a/b".into())).unwrap();
        assert_eq!((sandbox.source.as_str(), sandbox.source_beneath.as_str()), ("a/b", "/w/s"));
        assert!(sandbox.read_only && sandbox.target == "data");
        let parent = MountSource::Parent { sandbox: "/w/p".into(), path: "x".into() };
        assert_eq!(volume(parent).unwrap().source_beneath, "/w/p");
        let host = volume(MountSource::Host("/srv".into())).unwrap();
        assert_eq!((host.source.as_str(), host.source_beneath.as_str()), ("/srv", ""));
        let docker = MountSource::DockerVolume { driver: None, name: "v".to_owned(), options: Vec::new() };
        assert!(volume(docker).unwrap_err().contains("'v'"));
    }
}
