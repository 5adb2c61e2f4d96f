//! Ports of tasks: those inside containers, and how tasks are told of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
};

use meshos_proto::meshos::apps::v1::{App, NetworkMode};
use meshos_types::{app_ports, network_mode};

use super::Launch;

/// Ports below are the system's.
const LOWEST: u16 = 1025;

/// The ports inside the container, in the order of the app's ports; none on the host's network. One that the app does
/// not name has the number of the host's port; without that it is any, the same for each launch of the instance.
pub(super) fn container_ports(app: &App, host_ports: &[u32], instance_id: &str) -> Vec<u32> {
    if network_mode(app) == NetworkMode::Host {
        return Vec::new();
    }
    let wanted = app_ports(app).map(|port| port.requested);
    let mut used: BTreeSet<u32> = wanted.clone().chain(host_ports.iter().copied()).collect();
    let mut hasher = DefaultHasher::new();
    instance_id.hash(&mut hasher);
    let mut next = LOWEST + (hasher.finish() % u64::from(u16::MAX - LOWEST)) as u16;
    let mut any = || {
        // An app has far fewer ports than there are.
        while !used.insert(next.into()) {
            next = next.checked_add(1).unwrap_or(LOWEST);
        }
        next.into()
    };
    let pairs = wanted.zip(host_ports.iter().copied());
    pairs
        .map(|(wanted, host)| match (wanted, host) {
            (0, 0) => any(),
            (0, host) => host,
            (wanted, _) => wanted,
        })
        .collect()
}

/// `PORT*`, without the prefix.
pub(super) fn variables(app: &App, launch: &Launch) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    let mut listed = Vec::new();
    let mut generated = Vec::new();
    for (index, port) in app_ports(app).enumerate() {
        let host = launch.ports.get(index).copied().unwrap_or_default();
        let inside = launch.container_ports.get(index).copied().unwrap_or_default();
        let effective = if host == 0 { inside } else { host };
        match (host, port.requested) {
            (0, 0) => generated.push(inside),
            (0, _) => {}
            _ => listed.push(host),
        }
        let requested = if port.requested == 0 { effective } else { port.requested };
        let mut set = |name: String| variables.insert(name, effective.to_string());
        set(format!("PORT{index}"));
        set(format!("PORT_{requested}"));
        if let Some(name) = port.name {
            set(format!("PORT_{}", name.to_uppercase()));
        }
    }
    listed.extend(generated);
    if let Some(first) = listed.first() {
        let all: Vec<String> = listed.iter().map(u32::to_string).collect();
        variables.insert("PORT".to_owned(), first.to_string());
        variables.insert("PORTS".to_owned(), all.join(","));
    }
    variables
}

#[cfg(test)]
mod tests {
    use meshos_proto::meshos::apps::v1::{Container, Network, PortMapping, PortMappingList};

    use super::*;

    fn mapped(ports: &[(u32, Option<u32>, Option<&str>)]) -> App {
        let mapping = |(container_port, host_port, name): &(u32, Option<u32>, Option<&str>)| PortMapping {
            container_port: *container_port,
            host_port: *host_port,
            name: name.map(str::to_owned),
            ..Default::default()
        };
        let items = ports.iter().map(mapping).collect();
        let container = Container { port_mappings: Some(PortMappingList { items }), ..Default::default() };
        let network = Network { mode: NetworkMode::Container.into(), ..Default::default() };
        App { container: Some(container), networks: vec![network], ..Default::default() }
    }

    #[test]
    fn a_port_that_is_not_named_has_the_number_of_the_host_or_any() {
        let app = mapped(&[(80, Some(0), None), (0, Some(0), None), (0, None, None), (0, None, None)]);
        let ports = container_ports(&app, &[31_000, 31_001, 0, 0], "a.instance-1");
        assert_eq!(ports[..2], [80, 31_001]);
        assert!(ports[2..].iter().all(|port| (1025..=65_535).contains(port)) && ports[2] != ports[3]);
        assert_eq!(ports, container_ports(&app, &[31_000, 31_001, 0, 0], "a.instance-1"));
        assert!(container_ports(&App::default(), &[31_000], "a.instance-1").is_empty());
    }

    #[test]
    fn variables_name_the_port_of_the_host_else_that_of_the_container() {
        let app = mapped(&[(9000, None, Some("admin")), (80, Some(0), Some("http")), (0, None, None)]);
        let launch = Launch {
            instance_id: String::new(),
            resources: Default::default(),
            executor: Default::default(),
            ports: vec![0, 31_000, 0],
            container_ports: vec![9000, 80, 4711],
        };
        let found = variables(&app, &launch);
        let wanted = [
            ("PORT", "31000"),
            ("PORT0", "9000"),
            ("PORT1", "31000"),
            ("PORT2", "4711"),
            ("PORTS", "31000,4711"),
            ("PORT_4711", "4711"),
            ("PORT_80", "31000"),
            ("PORT_9000", "9000"),
            ("PORT_ADMIN", "9000"),
            ("PORT_HTTP", "31000"),
        ];
        let wanted = wanted.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(found, wanted.into());
    }
}
