//! Networks, containers and port mappings of a definition, with their defaults.

use meshos_proto::meshos::apps::v1::{
    App, AppUpdate, Container, ContainerType, Network, NetworkMode, PortDefinition, PortMapping,
    PortMappingList, UpgradeStrategy, container_volume::Source,
};
use meshos_types::network_mode;

use super::Defaults;

/// Takes over what was sent, and makes the rest of the definition fit to how the app is connected now.
pub(super) fn apply(app: &mut App, update: &AppUpdate, defaults: &Defaults) {
    let before = network_mode(app);
    if let Some(networks) = &update.networks {
        app.networks.clone_from(&networks.items);
    }
    if update.container.is_some() {
        app.container.clone_from(&update.container);
    }
    if update.tty.is_some() {
        app.tty = update.tty;
    }
    if app.networks.is_empty() {
        app.networks.push(Network { mode: NetworkMode::Host.into(), ..Default::default() });
    }
    for network in app.networks.iter_mut().filter(|network| network.mode() == NetworkMode::Container) {
        if network.name.is_none() {
            network.name.clone_from(&defaults.network_name);
        }
    }
    match network_mode(app) {
        NetworkMode::Host => on_host(app, update, before),
        mode => in_network(app, update, mode),
    }
}

fn on_host(app: &mut App, update: &AppUpdate, before: NetworkMode) {
    if before != NetworkMode::Host && update.port_definitions.is_none() {
        app.port_definitions = vec![default_port()];
    }
    let Some(container) = &mut app.container else { return };
    // Mappings of a network that the app has left mean nothing; those that were sent are refused.
    let sent = update.container.is_some();
    let kept = container.port_mappings.take().filter(|mappings| sent && !mappings.items.is_empty());
    container.port_mappings = kept;
}

fn in_network(app: &mut App, update: &AppUpdate, mode: NetworkMode) {
    app.require_ports = false;
    // The same for port definitions of before.
    if update.port_definitions.is_none() {
        app.port_definitions.clear();
    }
    let plain = || Container { r#type: ContainerType::Mesos.into(), ..Default::default() };
    let container = app.container.get_or_insert_with(plain);
    let mappings = container.port_mappings.get_or_insert_with(|| PortMappingList {
        items: vec![PortMapping { name: Some("default".to_owned()), ..Default::default() }],
    });
    for mapping in &mut mappings.items {
        match mapping.protocol.as_str() {
            "" => "tcp".clone_into(&mut mapping.protocol),
            "tcp,udp" => "udp,tcp".clone_into(&mut mapping.protocol),
            _ => {}
        }
        if mode == NetworkMode::Bridge {
            mapping.host_port.get_or_insert(0);
        }
    }
}

/// The port of an app on the host's network that says nothing of ports.
pub(super) fn default_port() -> PortDefinition {
    PortDefinition { protocol: "tcp".to_owned(), name: Some("default".to_owned()), ..Default::default() }
}

/// Parts of the strategy that are not given. A volume that only one task can use at a time lets none overlap.
pub(super) fn default_strategy(app: &App) -> UpgradeStrategy {
    let (minimum_health_capacity, maximum_over_capacity) =
        if has_external_volume(app) { (0.5, 0.0) } else { (1.0, 1.0) };
    UpgradeStrategy { minimum_health_capacity, maximum_over_capacity }
}

fn has_external_volume(app: &App) -> bool {
    let volumes = app.container.iter().flat_map(|container| &container.volumes);
    volumes.into_iter().any(|volume| matches!(volume.source, Some(Source::External(_))))
}

#[cfg(test)]
mod tests {
    use meshos_proto::meshos::apps::v1::{ContainerImage, NetworkList, PortDefinitionList};

    use super::*;
    use crate::update::apply as whole;

    fn defaults() -> Defaults {
        Defaults { role: "*".into(), network_name: Some("overlay".into()) }
    }

    fn networks(mode: NetworkMode) -> Option<NetworkList> {
        Some(NetworkList { items: vec![Network { mode: mode.into(), ..Default::default() }] })
    }

    fn image(mappings: Option<Vec<PortMapping>>) -> Option<Container> {
        Some(Container {
            r#type: ContainerType::Docker.into(),
            image: Some(ContainerImage { name: "nginx".into(), ..Default::default() }),
            port_mappings: mappings.map(|items| PortMappingList { items }),
            ..Default::default()
        })
    }

    fn mappings(app: &App) -> Vec<PortMapping> {
        meshos_types::app_port::port_mappings(app).to_vec()
    }

    #[test]
    fn a_bridge_gives_each_mapping_a_port_of_the_host() {
        let mapping = PortMapping { container_port: 80, ..Default::default() };
        let update = AppUpdate {
            networks: networks(NetworkMode::Bridge),
            container: image(Some(vec![mapping])),
            ..Default::default()
        };
        let app = whole("/a", &update, None, &defaults());
        let found = mappings(&app);
        assert_eq!((found[0].host_port, found[0].protocol.as_str()), (Some(0), "tcp"));
        assert!(app.port_definitions.is_empty() && !app.require_ports);
        let nothing = AppUpdate { container: image(Some(Vec::new())), ..update.clone() };
        assert!(mappings(&whole("/a", &nothing, None, &defaults())).is_empty());
        let unsaid = AppUpdate { container: image(None), ..update };
        let found = mappings(&whole("/a", &unsaid, None, &defaults()));
        assert_eq!(
            (found.len(), found[0].name.as_deref(), found[0].host_port),
            (1, Some("default"), Some(0))
        );
    }

    #[test]
    fn a_network_of_its_own_has_the_default_name_and_no_port_of_the_host() {
        let update = AppUpdate {
            cmd: Some("x".into()),
            networks: networks(NetworkMode::Container),
            ..Default::default()
        };
        let app = whole("/a", &update, None, &defaults());
        assert_eq!(app.networks[0].name.as_deref(), Some("overlay"));
        assert_eq!(mappings(&app)[0].host_port, None);
        assert_eq!(app.container.unwrap().r#type(), ContainerType::Mesos);
    }

    #[test]
    fn leaving_a_network_leaves_its_ports_too() {
        let update = AppUpdate {
            networks: networks(NetworkMode::Bridge),
            container: image(None),
            ..Default::default()
        };
        let bridged = whole("/a", &update, None, &defaults());
        let back = AppUpdate { networks: networks(NetworkMode::Host), ..Default::default() };
        let host = whole("/a", &back, Some(&bridged), &defaults());
        assert!(mappings(&host).is_empty() && host.port_definitions == [default_port()]);
        let bridge = AppUpdate { networks: networks(NetworkMode::Bridge), ..Default::default() };
        let again = whole("/a", &bridge, Some(&host), &defaults());
        assert!(again.port_definitions.is_empty() && mappings(&again).len() == 1);
        let both = PortDefinitionList { items: vec![default_port()] };
        let both = AppUpdate { port_definitions: Some(both), ..bridge };
        let refused = whole("/a", &both, Some(&host), &defaults());
        assert!(!refused.port_definitions.is_empty(), "for validation to refuse");
    }
}
