//! The rules for containers, networks and port mappings.

use std::collections::BTreeSet;

use meshos_proto::meshos::apps::v1::{
    App, Container, ContainerImage, ContainerType, LinuxSettings, NetworkMode, PortMapping,
};
use meshos_types::{app_port::port_mappings, network_mode};

use super::{Found, PORT_NAME, Rules, port_name, volumes};

const MIXED: &str =
    "May specify a single host network, single bridge network, or else 1-to-n container networks";
const DOCKER_NETWORKS: &str =
    "may only specify a single container network when using the Docker container engine";
/// Longest name of a network.
const MAX_NETWORK_NAME: usize = 63;

/// Whether the app's tasks run an image, which knows its own command.
pub(super) fn has_image(app: &App) -> bool {
    app.container.as_ref().is_some_and(|container| container.image.is_some())
}

pub(super) fn is_docker(app: &App) -> bool {
    app.container.as_ref().is_some_and(|container| container.r#type() != ContainerType::Mesos)
}

pub(super) fn check(app: &App, rules: &Rules, found: &mut Found) {
    networks(app, found);
    let on_host = network_mode(app) == NetworkMode::Host;
    let mappings = port_mappings(app);
    let rule = "portMappings are not allowed with host-networking";
    found.check(!on_host || mappings.is_empty(), "/container/portMappings", rule);
    let rule = "portDefinitions are only allowed with host-networking";
    found.check(on_host || app.port_definitions.is_empty(), "/portDefinitions", rule);
    port_rules(app, mappings, found);
    let rule = "GPU resources only work with the Mesos containerizer";
    found.check(app.gpus == 0 || !is_docker(app), "/", rule);
    if let Some(container) = &app.container {
        kind(app, container, rules, found);
        volumes::check(app, container, rules, found);
    }
}

fn networks(app: &App, found: &mut Found) {
    let modes: Vec<NetworkMode> = app.networks.iter().map(|network| network.mode()).collect();
    let container = modes.iter().all(|mode| *mode == NetworkMode::Container);
    found.check(modes.len() <= 1 || container, "/networks", MIXED);
    let rule = "Duplicate networks are not allowed";
    let mut names = BTreeSet::new();
    let twice = !app.networks.iter().all(|network| names.insert(&network.name));
    found.check(!container || !twice, "/networks", rule);
    found.check(!container || modes.len() <= 1 || !is_docker(app), "/networks", DOCKER_NETWORKS);
    for (index, network) in app.networks.iter().enumerate() {
        let at = format!("/networks({index})");
        match network.mode() {
            NetworkMode::Host | NetworkMode::Unspecified => {
                let plain = network.name.is_none() && network.labels.is_empty();
                found.check(plain, &at, "Host networks may not have names or labels");
            }
            NetworkMode::Bridge => {
                found.check(network.name.is_none(), &at, "Bridge networks may not have names");
            }
            NetworkMode::Container => match &network.name {
                None => {
                    found.add(&at, "Network name must be specified when container network is selected.");
                }
                Some(name) => network_name(name, &format!("{at}/name"), found),
            },
        }
    }
}

fn network_name(name: &str, at: &str, found: &mut Found) {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    let fits = !name.is_empty() && name.bytes().all(allowed) && !name.starts_with('-');
    found.check(fits, at, "must fully match regular expression '^[a-z0-9_][a-z0-9_-]*$'");
    found.check(name.len() <= MAX_NETWORK_NAME, at, "error.maxLength");
}

fn port_rules(app: &App, mappings: &[PortMapping], found: &mut Found) {
    let known: Vec<&str> = app.networks.iter().filter_map(|network| network.name.as_deref()).collect();
    let listed: BTreeSet<&str> = known.iter().copied().collect();
    let mut told = false;
    let mut names = BTreeSet::new();
    let mut unique = true;
    for (index, mapping) in mappings.iter().enumerate() {
        let path = |field: &str| format!("/container/portMappings({index})/{field}");
        for (field, port) in [
            ("containerPort", mapping.container_port),
            ("hostPort", mapping.host_port.unwrap_or_default()),
            ("servicePort", mapping.service_port),
        ] {
            found.check(port <= 65_535, &path(field), "error.max");
        }
        let protocol = matches!(mapping.protocol.as_str(), "tcp" | "udp" | "udp,tcp");
        found.check(protocol, &path("protocol"), "error.unknown.enum.literal");
        if let Some(name) = &mapping.name {
            found.check(port_name(name), &path("name"), PORT_NAME);
            unique &= names.insert(name);
        }
        // One says enough: it lists all networks.
        let strange = mapping.network_names.iter().position(|name| !listed.contains(name.as_str()));
        if let Some(place) = strange.filter(|_| !told) {
            told = true;
            let rule = format!("is not one of ({})", known.join(","));
            found.add(&path(&format!("networkNames({place})")), rule);
        }
        let rule = "networkNames must be a single item list when hostPort is specified and more than 1 container \
                    network is defined";
        let clear = mapping.host_port.is_none() || known.len() <= 1 || mapping.network_names.len() == 1;
        found.check(clear, &format!("/container/portMappings({index})"), rule);
    }
    found.check(unique, "/container/portMappings", "Port names must be unique.");
}

fn kind(app: &App, container: &Container, rules: &Rules, found: &mut Found) {
    let docker = is_docker(app);
    match &container.image {
        Some(image) => image_rules(app, image, docker, rules, found),
        None => found.check(!docker, "/container/docker", "not defined"),
    }
    if let Some(linux) = &container.linux {
        let rule = "linuxInfo is only supported by the Mesos containerizer";
        found.check(!docker, "/container/linuxInfo", rule);
        linux_rules(linux, found);
    }
}

fn image_rules(app: &App, image: &ContainerImage, docker: bool, rules: &Rules, found: &mut Found) {
    let fits = !image.name.is_empty() && image.name.bytes().all(|b| b.is_ascii_graphic());
    let rule = "must contain only visible ASCII characters, and no spaces";
    found.check(fits, "/container/docker/image", rule);
    let rule = "must be empty";
    found.check(docker || image.parameters.is_empty(), "/container/docker/parameters", rule);
    for (index, parameter) in image.parameters.iter().enumerate() {
        let at = format!("/container/docker/parameters({index})/key");
        found.check(!parameter.key.is_empty(), &at, "error.minLength");
        // Refused by the agent's side as well: its own names are how it finds containers again.
        found.check(parameter.key != "name", &at, "must not be 'name'");
    }
    if let Some(secret) = &image.pull_secret {
        let at = "/container/docker/pullConfig";
        found.check(!docker, at, "pullConfig is not supported with Docker containerizer");
        let rule = "Feature secrets is not enabled. Enable with --enable_features secrets)";
        found.check(rules.secrets_enabled, at, rule);
        let rule = "pullConfig.secret must refer to an existing secret";
        found.check(app.secrets.contains_key(secret), at, rule);
    }
}

fn linux_rules(linux: &LinuxSettings, found: &mut Found) {
    if let Some(seccomp) = &linux.seccomp {
        let at = "/container/linuxInfo/seccomp";
        let named = seccomp.profile.is_some();
        let rule = "Seccomp unconfined can NOT be true when Profile is defined";
        found.check(!(named && seccomp.unconfined), at, rule);
        let rule = "Seccomp unconfined must be true when Profile is NOT defined";
        found.check(named || seccomp.unconfined, at, rule);
    }
    if let Some(ipc) = &linux.ipc {
        let rule = "ipcInfo shmSize can NOT be set when mode is SHARE_PARENT";
        let fine = !ipc.shares_parent || ipc.shm_size.is_none();
        found.check(fine, "/container/linuxInfo/ipcInfo", rule);
    }
}

#[cfg(test)]
mod tests {
    use meshos_proto::meshos::apps::v1::{Ipc, Network, PortDefinition, PortMappingList, Seccomp};

    use super::*;
    use crate::validate::tests::{has, refused};

    fn network(mode: NetworkMode, name: Option<&str>) -> Network {
        Network { mode: mode.into(), name: name.map(str::to_owned), ..Default::default() }
    }

    fn image() -> Option<ContainerImage> {
        Some(ContainerImage { name: "nginx".into(), ..Default::default() })
    }

    fn app(networks: Vec<Network>, mappings: Vec<PortMapping>, kind: ContainerType) -> App {
        let container = Container {
            r#type: kind.into(),
            image: image(),
            port_mappings: Some(PortMappingList { items: mappings }),
            ..Default::default()
        };
        App {
            container: Some(container),
            networks,
            port_definitions: Vec::new(),
            cmd: None,
            ..crate::validate::tests::valid()
        }
    }

    fn docker(networks: Vec<Network>, mappings: Vec<PortMapping>) -> App {
        app(networks, mappings, ContainerType::Docker)
    }

    fn tcp(name: Option<&str>) -> PortMapping {
        PortMapping { protocol: "tcp".into(), name: name.map(str::to_owned), ..Default::default() }
    }

    #[test]
    fn an_image_needs_no_command_but_not_both() {
        let plain = docker(vec![network(NetworkMode::Bridge, None)], vec![tcp(None)]);
        assert!(refused(&plain).is_empty());
        let args = vec!["x".to_owned()];
        assert!(refused(&App { args: args.clone(), ..plain.clone() }).is_empty());
        has(&App { cmd: Some("x".into()), args, ..plain.clone() }, "/", "must either contain one of");
        let bare = |kind: ContainerType| Container { r#type: kind.into(), ..Default::default() };
        let bare_app = |kind| App { cmd: Some("x".into()), container: Some(bare(kind)), ..plain.clone() };
        has(&bare_app(ContainerType::Docker), "/container/docker", "not defined");
        assert!(refused(&bare_app(ContainerType::Mesos)).is_empty());
    }

    #[test]
    fn marathon_c19_networks_do_not_mix() {
        let (host, bridge) = (network(NetworkMode::Host, None), network(NetworkMode::Bridge, None));
        let own = |name| network(NetworkMode::Container, Some(name));
        has(
            &docker(vec![bridge.clone(), own("n")], vec![]),
            "/networks",
            "May specify a single host network",
        );
        has(&docker(vec![bridge.clone(), bridge.clone()], vec![]), "/networks", "May specify");
        has(&docker(vec![own("a"), own("b")], vec![]), "/networks", "using the Docker container engine");
        let mesos = |networks| app(networks, vec![], ContainerType::Mesos);
        assert!(refused(&mesos(vec![own("a"), own("b")])).is_empty());
        has(&mesos(vec![own("a"), own("a")]), "/networks", "Duplicate networks are not allowed");
        let named = network(NetworkMode::Host, Some("n"));
        has(&docker(vec![named], vec![]), "/networks(0)", "Host networks may not have names or labels");
        has(
            &docker(vec![network(NetworkMode::Bridge, Some("n"))], vec![]),
            "/networks(0)",
            "may not have names",
        );
        let unnamed = network(NetworkMode::Container, None);
        has(&docker(vec![unnamed], vec![]), "/networks(0)", "Network name must be specified");
        has(&docker(vec![own("A b")], vec![]), "/networks(0)/name", "regular expression");
        has(
            &docker(vec![host], vec![tcp(None)]),
            "/container/portMappings",
            "not allowed with host-networking",
        );
        let definition = PortDefinition { protocol: "tcp".into(), ..Default::default() };
        let both = App { port_definitions: vec![definition], ..docker(vec![bridge], vec![]) };
        has(&both, "/portDefinitions", "only allowed with host-networking");
    }

    #[test]
    fn port_mappings_are_checked() {
        let own = |name| network(NetworkMode::Container, Some(name));
        let twice = vec![tcp(Some("http")), tcp(Some("http"))];
        has(&docker(vec![own("n")], twice), "/container/portMappings", "Port names must be unique.");
        has(
            &docker(vec![own("n")], vec![tcp(Some("-"))]),
            "/container/portMappings(0)/name",
            "must fully match",
        );
        let large = PortMapping { container_port: 70_000, ..tcp(None) };
        has(&docker(vec![own("n")], vec![large]), "/container/portMappings(0)/containerPort", "error.max");
        let elsewhere = PortMapping { network_names: vec!["m".into()], ..tcp(None) };
        let at = "/container/portMappings(0)/networkNames(0)";
        has(&docker(vec![own("n")], vec![elsewhere]), at, "is not one of (n)");
        let unclear = PortMapping { host_port: Some(0), ..tcp(None) };
        let two = app(vec![own("a"), own("b")], vec![unclear], ContainerType::Mesos);
        has(&two, "/container/portMappings(0)", "networkNames must be a single item list");
    }

    #[test]
    fn what_only_one_containerizer_can_do_is_refused_for_the_other() {
        let with = |kind, change: &dyn Fn(&mut Container)| {
            let mut app = app(vec![network(NetworkMode::Bridge, None)], vec![], kind);
            app.container.iter_mut().for_each(change);
            app
        };
        let pull = |container: &mut Container| {
            container.image.as_mut().unwrap().pull_secret = Some("s".into());
        };
        let found = refused(&with(ContainerType::Docker, &pull));
        assert!(found[0].1.contains("pullConfig is not supported with Docker containerizer"), "{found:?}");
        let found = refused(&with(ContainerType::Mesos, &pull));
        assert!(found[0].1.contains("pullConfig.secret must refer to an existing secret"), "{found:?}");
        let seccomp = |profile: Option<&str>, unconfined| {
            let seccomp = Seccomp { profile: profile.map(str::to_owned), unconfined };
            let linux = LinuxSettings { seccomp: Some(seccomp), ipc: None };
            with(ContainerType::Mesos, &move |container| container.linux = Some(linux.clone()))
        };
        let at = "/container/linuxInfo/seccomp";
        has(&seccomp(Some("p"), true), at, "can NOT be true when Profile is defined");
        has(&seccomp(None, false), at, "must be true when Profile is NOT defined");
        assert!(refused(&seccomp(None, true)).is_empty());
        let ipc = LinuxSettings { seccomp: None, ipc: Some(Ipc { shares_parent: true, shm_size: Some(1) }) };
        let shm = with(ContainerType::Mesos, &|container| container.linux = Some(ipc.clone()));
        has(&shm, "/container/linuxInfo/ipcInfo", "shmSize can NOT be set");
        let linux = with(ContainerType::Docker, &|c| c.linux = Some(LinuxSettings::default()));
        has(&linux, "/container/linuxInfo", "only supported by the Mesos containerizer");
        let gpus = App { gpus: 1, ..with(ContainerType::Docker, &|_| ()) };
        assert!(refused(&gpus).iter().any(|(_, text)| text.contains("GPU resources only work")));
    }
}
