//! What a container brings along beside its command: an image, networks, volumes, the kernel's settings. Checked and
//! plain forms of upstream's `ContainerInfo`; the core fills them in, the containerizers obey.

use std::{fmt, net::IpAddr, path::PathBuf};

use serde::Deserialize;

use super::tmpfs::Tmpfs;

/// Who runs a container that is more than a plain process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Runtime {
    /// meshos itself: a root file system of its own, or the machine's (upstream: the `mesos` containerizer).
    #[default]
    Oci,
    /// The Docker Engine.
    Docker,
}

/// A container that is more than a plain process.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ContainerSetup {
    pub runtime: Runtime,
    /// Absent: the machine's own file system, which only `Runtime::Oci` knows.
    pub image: Option<ImageSetup>,
    /// What the program is when an image decides about it.
    pub command: ImageCommand,
    /// Absent: the engine's choice.
    pub hostname: Option<String>,
    pub network: NetworkSetup,
    /// Absent: those of its networks, or of the machine.
    pub dns: Option<DnsSetup>,
    pub mounts: Vec<MountSetup>,
    /// Options of `docker run`, checked: neither name nor anything that the agent decides itself.
    pub parameters: Vec<(String, String)>,
    pub linux: LinuxSetup,
    /// Where an image sees the sandbox (`--sandbox_directory`).
    pub sandbox_directory: PathBuf,
    /// Labels for the engine, beside those by which the agent finds its containers again.
    pub labels: Vec<(String, String)>,
}

/// Which image, and how to get it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageSetup {
    /// As written by the user: `nginx`, `registry:5000/a/b:tag`, `name@sha256:…`, `repository#…`.
    pub name: String,
    /// Ask the registry even when a copy is here.
    pub force_pull: bool,
    /// Contents of a `.docker/config.json`; a secret.
    pub pull_config: Option<Vec<u8>>,
}

/// A command as the framework gave it: an image's entrypoint and command are mixed with it by upstream's table
/// (reference: docker/runtime isolator).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageCommand {
    /// `value` is a line for `/bin/sh -c`.
    pub shell: bool,
    /// Absent: the image's.
    pub value: Option<String>,
    pub arguments: Vec<String>,
}

/// How a container reaches the world.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkSetup {
    pub mode: NetworkMode,
    pub port_mappings: Vec<PortMapping>,
    /// Containers with the same text here share one network: the tasks of a pod. It is made with the first and goes
    /// with the last of them.
    pub shared_as: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NetworkMode {
    /// The machine's own.
    #[default]
    Host,
    /// Docker's default bridge.
    Bridge,
    /// Loopback alone.
    None,
    /// Named networks: Docker's user networks, or CNI networks for `Runtime::Oci`.
    Named(Vec<String>),
}

/// Who knows names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DnsSetup {
    pub nameservers: Vec<String>,
    pub domain: Option<String>,
    pub search: Vec<String>,
    pub options: Vec<String>,
}

impl DnsSetup {
    fn words(&self) -> impl Iterator<Item = &String> {
        self.nameservers.iter().chain(&self.domain).chain(&self.search).chain(&self.options)
    }

    /// Whether it can stand in a file.
    ///
    /// # Errors
    /// Names what is no word.
    pub fn check(&self) -> Result<(), String> {
        let is_broken =
            |word: &&String| word.is_empty() || word.contains(|c: char| c.is_whitespace() || c.is_control());
        self.words()
            .find(is_broken)
            .map_or(Ok(()), |word| Err(format!("'{}' is no word", word.escape_debug())))
    }

    /// As in `/etc/resolv.conf`.
    #[must_use]
    pub fn resolv_conf(&self) -> String {
        let line = |name: &str, words: &[String]| match words.is_empty() {
            true => String::new(),
            false => format!("{name} {}\n", words.join(" ")),
        };
        let servers: String =
            self.nameservers.iter().map(|server| format!("nameserver {server}\n")).collect();
        let domain = self.domain.as_ref().map(|domain| format!("domain {domain}\n")).unwrap_or_default();
        [domain, line("search", &self.search), line("options", &self.options), servers].concat()
    }
}

/// One port of the machine that leads into a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortMapping {
    pub host_port: u16,
    pub container_port: u16,
    pub udp: bool,
}

/// Something that a container sees at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountSetup {
    pub source: MountSource,
    /// Absolute: in the container; relative: in its sandbox.
    pub container_path: PathBuf,
    pub read_only: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountSource {
    /// An absolute path of the machine; made when absent.
    Host(PathBuf),
    /// A path in the container's own sandbox, made when absent; checked: relative, without `..`.
    Sandbox(PathBuf),
    /// The same in the sandbox of the container above, or of the pod.
    Parent { sandbox: PathBuf, path: PathBuf },
    /// A persistent volume of the agent.
    Persistent(PathBuf),
    /// A file with a secret in it.
    Secret(Hidden),
    /// A file system in memory.
    Tmpfs(Tmpfs),
    /// A volume of the Docker Engine.
    DockerVolume { driver: Option<String>, name: String, options: Vec<(String, String)> },
}

/// What is not to be read in any log.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Hidden(pub Vec<u8>);

impl fmt::Debug for Hidden {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("…")
    }
}

/// What the kernel is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinuxSetup {
    pub privileged: bool,
    /// Names as `CAP_NET_RAW`; absent: the agent's default.
    pub effective_capabilities: Option<Vec<String>>,
    pub bounding_capabilities: Option<Vec<String>>,
    /// The machine's process ids are seen.
    pub share_pid_namespace: bool,
    /// No system call filter.
    pub seccomp_unconfined: bool,
    /// A file with a profile; absent: Docker's.
    pub seccomp_profile: Option<PathBuf>,
    /// Bytes of `/dev/shm`; absent: the agent's default.
    pub shm_size: Option<u64>,
    /// `/dev/shm` and IPC of the machine are seen.
    pub share_ipc_namespace: bool,
    pub terminal: bool,
}

/// Where a running container is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkStatus {
    /// One per network, in their order; empty: the machine's own.
    pub networks: Vec<NetworkAddresses>,
}

/// A network that a container is in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkAddresses {
    /// Absent: it has none.
    pub name: Option<String>,
    pub addresses: Vec<IpAddr>,
}
