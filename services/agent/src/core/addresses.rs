//! Where containers are reached, as statuses and readers are told.

use meshos_proto::mesos::v1::{
    self as pb,
    network_info::{IpAddress, Protocol},
};

use super::{Core, task::Task};
use crate::containerizer::NetworkStatus;

impl Core {
    /// A container that is being started has these addresses.
    pub(super) fn addressed(&mut self, container_id: &str, status: &NetworkStatus) {
        if let Some(key) = self.executor_containers.get(container_id).cloned() {
            if let Some(executor) = self.executor_mut(&key) {
                executor.networks = networks(status);
            }
            return;
        }
        let Some(key) = self.containers.get(container_id).cloned() else { return };
        if let Some(task) = self.task_mut(&key) {
            task.networks = networks(status);
        }
    }

    /// The networks that a status of a task names.
    pub(super) fn networks_of(&self, task: &Task) -> Vec<pb::NetworkInfo> {
        if task.networks.is_empty() { vec![self.network()] } else { task.networks.clone() }
    }

    /// The network that plain processes are in: the node's.
    pub(super) fn network(&self) -> pb::NetworkInfo {
        info(None, std::iter::once((Protocol::IPv4, self.settings.ip.clone())))
    }
}

fn networks(status: &NetworkStatus) -> Vec<pb::NetworkInfo> {
    let of = |network: &crate::containerizer::container::NetworkAddresses| {
        let addresses = network.addresses.iter().map(|address| {
            let protocol = if address.is_ipv6() { Protocol::IPv6 } else { Protocol::IPv4 };
            (protocol, address.to_string())
        });
        info(network.name.clone(), addresses)
    };
    status.networks.iter().map(of).collect()
}

fn info(name: Option<String>, addresses: impl Iterator<Item = (Protocol, String)>) -> pb::NetworkInfo {
    let address =
        |(protocol, address)| IpAddress { protocol: Some(protocol as i32), ip_address: Some(address) };
    pb::NetworkInfo { name, ip_addresses: addresses.map(address).collect(), ..pb::NetworkInfo::default() }
}
