//! The ports of an app: its port definitions on the host's network, else the port mappings of its container.

use std::collections::BTreeMap;

use meshos_proto::meshos::apps::v1::{App, Instance, NetworkMode, PortMapping};

/// What a task wants of its host for one port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostPort {
    /// Nothing: it is reached at an address of its own.
    None,
    Any,
    Exactly(u32),
}

/// One port of an app.
#[derive(Clone, Copy, Debug)]
pub struct AppPort<'a> {
    pub host: HostPort,
    /// The number that the definition names: of the container, or on the host's network of the service; 0: none.
    pub requested: u32,
    /// 0: not assigned yet.
    pub service: u32,
    /// `tcp`, `udp` or `udp,tcp`
    pub protocol: &'a str,
    pub name: Option<&'a str>,
    pub labels: &'a BTreeMap<String, String>,
    /// None on the host's network.
    pub mapping: Option<&'a PortMapping>,
}

/// The ports of an app, in their order.
pub fn app_ports(app: &App) -> impl Iterator<Item = AppPort<'_>> + Clone {
    let defined = app.port_definitions.iter().map(|definition| AppPort {
        host: match (app.require_ports, definition.port) {
            (true, port @ 1..) => HostPort::Exactly(port),
            _ => HostPort::Any,
        },
        requested: definition.port,
        service: definition.port,
        protocol: &definition.protocol,
        name: definition.name.as_deref(),
        labels: &definition.labels,
        mapping: None,
    });
    // A definition has only one of the two.
    defined.chain(port_mappings(app).iter().map(|mapping| AppPort {
        host: match mapping.host_port {
            None => HostPort::None,
            Some(0) => HostPort::Any,
            Some(port) => HostPort::Exactly(port),
        },
        requested: mapping.container_port,
        service: mapping.service_port,
        protocol: &mapping.protocol,
        name: mapping.name.as_deref(),
        labels: &mapping.labels,
        mapping: Some(mapping),
    }))
}

/// The port mappings of an app that is not on the host's network.
#[must_use]
pub fn port_mappings(app: &App) -> &[PortMapping] {
    let mappings = app.container.as_ref().and_then(|container| container.port_mappings.as_ref());
    mappings.map_or(&[], |mappings| &mappings.items)
}

/// The service ports of a definition, to be set.
pub fn service_ports_mut(app: &mut App) -> impl Iterator<Item = &mut u32> {
    let mappings = app.container.as_mut().and_then(|container| container.port_mappings.as_mut());
    let mapped = mappings.into_iter().flat_map(|mappings| &mut mappings.items);
    let defined = app.port_definitions.iter_mut().map(|definition| &mut definition.port);
    defined.chain(mapped.map(|mapping| &mut mapping.service_port))
}

/// How the app is connected; all its networks have the same mode.
#[must_use]
pub fn network_mode(app: &App) -> NetworkMode {
    match app.networks.first().map(|network| network.mode()) {
        None | Some(NetworkMode::Unspecified) => NetworkMode::Host,
        Some(mode) => mode,
    }
}

/// Where the task of an instance is reached on the app's port `index`: host and port. None: nowhere (yet).
#[must_use]
pub fn task_address<'a>(app: &App, instance: &'a Instance, index: usize) -> Option<(&'a str, u16)> {
    let at =
        |ports: &[u32]| ports.get(index).and_then(|port| u16::try_from(*port).ok()).filter(|port| *port != 0);
    if let Some(port) = at(&instance.ports) {
        return Some((&instance.host, port));
    }
    if network_mode(app) != NetworkMode::Container {
        return None;
    }
    Some((own_address(instance)?, at(&instance.container_ports)?))
}

/// The address that the task has in a network of its own; none while it is not known.
#[must_use]
pub fn own_address(instance: &Instance) -> Option<&str> {
    instance.ip_addresses.first().map(|address| address.address.as_str())
}

#[cfg(test)]
mod tests {
    use meshos_proto::meshos::apps::v1::{Container, IpAddress, Network, PortDefinition, PortMappingList};

    use super::*;

    fn mapping(container_port: u32, host_port: Option<u32>) -> PortMapping {
        PortMapping { container_port, host_port, service_port: 10_000, ..Default::default() }
    }

    fn mapped(mode: NetworkMode, items: Vec<PortMapping>) -> App {
        let container = Container { port_mappings: Some(PortMappingList { items }), ..Default::default() };
        let network = Network { mode: mode.into(), ..Default::default() };
        App { container: Some(container), networks: vec![network], ..Default::default() }
    }

    #[test]
    fn ports_of_the_host_are_exact_where_that_is_said() {
        let definition = |port| PortDefinition { port, ..Default::default() };
        let port_definitions = vec![definition(0), definition(8080)];
        let app = App { port_definitions, ..Default::default() };
        let hosts = |app: &App| app_ports(app).map(|port| port.host).collect::<Vec<_>>();
        assert_eq!(hosts(&app), [HostPort::Any, HostPort::Any]);
        let app = App { require_ports: true, ..app };
        assert_eq!(hosts(&app), [HostPort::Any, HostPort::Exactly(8080)]);
        let app = mapped(
            NetworkMode::Container,
            vec![mapping(80, None), mapping(80, Some(0)), mapping(0, Some(31_000))],
        );
        assert_eq!(hosts(&app), [HostPort::None, HostPort::Any, HostPort::Exactly(31_000)]);
        assert_eq!(app_ports(&app).map(|port| port.requested).collect::<Vec<_>>(), [80, 80, 0]);
    }

    #[test]
    fn service_ports_are_set_wherever_they_stand() {
        let mut app = mapped(NetworkMode::Bridge, vec![mapping(80, Some(0))]);
        service_ports_mut(&mut app).for_each(|port| *port = 7);
        assert_eq!(app_ports(&app).map(|port| port.service).collect::<Vec<_>>(), [7]);
    }

    #[test]
    fn a_task_is_reached_at_the_host_or_at_its_own_address() {
        let app = mapped(NetworkMode::Container, vec![mapping(80, None), mapping(81, Some(0))]);
        let mut instance = Instance {
            host: "h".into(),
            ports: vec![0, 31_000],
            container_ports: vec![80, 81],
            ..Default::default()
        };
        assert_eq!(task_address(&app, &instance, 0), None, "its address is not known");
        instance.ip_addresses = vec![IpAddress { address: "10.0.0.2".into(), protocol: "IPv4".into() }];
        assert_eq!(task_address(&app, &instance, 0), Some(("10.0.0.2", 80)));
        assert_eq!(task_address(&app, &instance, 1), Some(("h", 31_000)));
        assert_eq!(task_address(&app, &instance, 2), None);
    }
}
