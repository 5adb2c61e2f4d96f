//! What the operator gives to containers that do not ask, and what none may ask for.

use std::{collections::BTreeMap, path::PathBuf};

use meshos_proto::mesos::v1 as pb;

use crate::containerizer::container::DnsSetup;

/// The operator's choices; without any, the kernel's and Docker's hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Defaults {
    /// For tasks and executors that have no container.
    pub container: Option<Box<pb::ContainerInfo>>,
    pub dns: DnsDefaults,
    /// Bytes of a `/dev/shm` of which nothing is said.
    pub shm_size: Option<u64>,
    /// As `CAP_NET_RAW`.
    pub effective_capabilities: Option<Vec<String>>,
    /// What may be asked for at most, as well.
    pub bounding_capabilities: Option<Vec<String>>,
    /// Where seccomp profiles are found by their names.
    pub seccomp_dir: Option<PathBuf>,
    /// A file with that of containers that ask for none.
    pub seccomp_profile: Option<PathBuf>,
    /// No container may see the machine's processes.
    pub own_pids: bool,
    /// No container may share the machine's IPC.
    pub own_ipc: bool,
}

/// Name servers by kind of network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsDefaults {
    /// Docker's default bridge.
    pub bridge: Option<DnsSetup>,
    pub user: ByNetwork,
    pub cni: ByNetwork,
}

/// Name servers by network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ByNetwork {
    pub named: BTreeMap<String, DnsSetup>,
    /// Of all others.
    pub others: Option<DnsSetup>,
}

impl ByNetwork {
    /// Those of a network.
    #[must_use]
    pub fn of(&self, network: &str) -> Option<DnsSetup> {
        self.named.get(network).or(self.others.as_ref()).cloned()
    }
}
