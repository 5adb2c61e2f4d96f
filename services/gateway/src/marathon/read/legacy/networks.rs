//! Networks as clients of before Marathon 1.5 describe them: `container.docker.network`,
//! `container.docker.portMappings` and `ipAddress`.

use meshos_proto::meshos::apps::v1::{
    AppUpdate, Container, ContainerType, Network, NetworkList, NetworkMode, PortMapping, PortMappingList,
};

use crate::marathon::read::{
    At, container,
    faults::{Faults, Field, field},
    parts,
};

/// The name by which the older form asks for bridge networking.
const BRIDGE: &str = "mesos-bridge";

/// A network of one's own, and the ports that are served there.
#[derive(Debug, Default)]
struct IpAddress {
    path: String,
    network: Network,
    ports: Vec<PortMapping>,
}

pub(super) fn migrate(update: &mut AppUpdate, (object, base): At<'_>, faults: &mut Faults) {
    let ip = field(object, base, "ipAddress").and_then(|found| ip_address(&found, faults));
    let docker = field(object, base, "container").and_then(|found| {
        let container = found.value.as_object()?;
        field(container, &found.path, "docker")
    });
    let mut named = false;
    if let Some((docker, fields)) = docker.as_ref().and_then(|found| Some((found, found.value.as_object()?)))
    {
        if let Some(found) = field(fields, &docker.path, "portMappings") {
            port_mappings(update, &found, faults);
        }
        if let Some(found) = field(fields, &docker.path, "network") {
            named = true;
            docker_network(update, &found, base, ip.as_ref(), faults);
        }
    }
    if let Some(ip) = ip {
        own_address(update, base, ip, named, faults);
    }
}

fn port_mappings(update: &mut AppUpdate, found: &Field<'_>, faults: &mut Faults) {
    let (Some(older), Some(container)) = (container::mappings(found, faults), update.container.as_mut())
    else {
        return;
    };
    match &container.port_mappings {
        Some(given) if *given != older => {
            faults.invalid(&found.path, "cannot specify both portMappings and docker.portMappings");
        }
        _ => container.port_mappings = Some(older),
    }
}

fn docker_network(
    update: &mut AppUpdate,
    found: &Field<'_>,
    base: &str,
    ip: Option<&IpAddress>,
    faults: &mut Faults,
) {
    let modes = [
        ("HOST", Some(NetworkMode::Host)),
        ("BRIDGE", Some(NetworkMode::Bridge)),
        ("USER", Some(NetworkMode::Container)),
        ("NONE", None),
    ];
    let Some(mode) = faults.word(found, &modes) else { return };
    let Some(mode) = mode else {
        return faults.invalid(&found.path, "the network NONE is not supported");
    };
    if has_networks(update) {
        return faults.invalid(root(base), "must not specify both container.docker.network and networks");
    }
    let network = match ip.filter(|_| mode == NetworkMode::Container) {
        Some(ip) => Network { mode: mode.into(), ..ip.network.clone() },
        None => Network { mode: mode.into(), ..Default::default() },
    };
    update.networks = Some(NetworkList { items: vec![network] });
}

/// `named`: the container said which network it is, and the address only adds to that.
fn own_address(update: &mut AppUpdate, base: &str, ip: IpAddress, named: bool, faults: &mut Faults) {
    if !named && has_networks(update) {
        return faults.invalid(root(base), "must not specify both networks and ipAddress");
    }
    if !named {
        update.networks = Some(NetworkList { items: vec![ip.network] });
    }
    if ip.ports.is_empty() {
        return;
    }
    let plain = || Container { r#type: ContainerType::Mesos.into(), ..Default::default() };
    let container = update.container.get_or_insert_with(plain);
    if container.r#type() == ContainerType::Docker {
        let path = format!("{}/discovery", ip.path);
        return faults.invalid(&path, "ipAddress/discovery is not allowed for Docker containers");
    }
    container.port_mappings.get_or_insert(PortMappingList { items: ip.ports });
}

fn ip_address(found: &Field<'_>, faults: &mut Faults) -> Option<IpAddress> {
    let object = faults.object(found)?;
    let get = |name: &str| field(object, &found.path, name);
    let name = get("networkName").and_then(|name| faults.text(&name, 1, 63));
    let labels = get("labels").and_then(|map| parts::labels(&map, faults)).unwrap_or_default().items;
    let ports = get("discovery").and_then(|found| {
        let object = faults.object(&found)?;
        let ports = field(object, &found.path, "ports")?;
        let items = faults.list(&ports)?;
        Some(items.iter().filter_map(|item| discovered(item, faults)).collect())
    });
    let network = match name {
        Some(name) if name == BRIDGE => Network { mode: NetworkMode::Bridge.into(), name: None, labels },
        name => Network { mode: NetworkMode::Container.into(), name, labels },
    };
    Some(IpAddress { path: found.path.clone(), network, ports: ports.unwrap_or_default() })
}

fn discovered(found: &Field<'_>, faults: &mut Faults) -> Option<PortMapping> {
    let object = faults.object(found)?;
    let get = |name: &str| field(object, &found.path, name);
    let number = faults.required(object, &found.path, "number");
    Some(PortMapping {
        container_port: number.and_then(|number| faults.integer(&number, u16::MAX)).map(u32::from)?,
        protocol: get("protocol").and_then(|word| parts::protocol(&word, faults)).unwrap_or_default(),
        name: get("name").and_then(|name| faults.string(&name)),
        labels: get("labels").and_then(|map| parts::labels(&map, faults)).unwrap_or_default().items,
        ..Default::default()
    })
}

/// An empty list says nothing.
fn has_networks(update: &AppUpdate) -> bool {
    update.networks.as_ref().is_some_and(|networks| !networks.items.is_empty())
}

fn root(base: &str) -> &str {
    if base.is_empty() { "/" } else { base }
}

#[cfg(test)]
mod tests {
    use crate::marathon::read::app;
    use serde_json::{Value, json};

    use super::*;

    fn first_error(body: Value) -> String {
        let error = app(&body).unwrap_err();
        assert_eq!(error.body["message"], "Object is not valid");
        error.body["details"][0]["errors"][0].as_str().unwrap().to_owned()
    }

    fn docker(more: Value) -> Value {
        let mut docker = json!({"image": "x"});
        docker.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"type": "DOCKER", "docker": docker})
    }

    #[test]
    fn marathon_c17_docker_networks_become_networks() {
        let mappings = json!([{"containerPort": 8080, "protocol": "udp"}]);
        let body = json!({"container": docker(json!({"network": "BRIDGE", "portMappings": mappings}))});
        let update = app(&body).unwrap();
        assert_eq!(update.networks.unwrap().items[0].mode(), NetworkMode::Bridge);
        assert_eq!(update.container.unwrap().port_mappings.unwrap().items[0].container_port, 8080);
        let mode = |body: Value| app(&body).unwrap().networks.unwrap().items.remove(0);
        assert_eq!(mode(json!({"container": docker(json!({"network": "host"}))})).mode(), NetworkMode::Host);
        let user =
            json!({"container": docker(json!({"network": "USER"})), "ipAddress": {"networkName": "n"}});
        let user = mode(user);
        assert_eq!((user.mode(), user.name.as_deref()), (NetworkMode::Container, Some("n")));
    }

    #[test]
    fn an_address_of_its_own_becomes_a_network_with_mappings() {
        let discovery = json!({"ports": [{"number": 80, "name": "http", "protocol": "tcp"}]});
        let update =
            app(&json!({"cmd": "x", "ipAddress": {"networkName": "n", "discovery": discovery}})).unwrap();
        let container = update.container.unwrap();
        assert_eq!(container.r#type(), ContainerType::Mesos);
        let mapping = &container.port_mappings.unwrap().items[0];
        assert_eq!((mapping.container_port, mapping.host_port), (80, None));
        let update = app(&json!({"cmd": "x", "ipAddress": {"networkName": "mesos-bridge"}})).unwrap();
        assert_eq!(update.networks.unwrap().items[0].mode(), NetworkMode::Bridge);
    }

    #[test]
    fn old_and_new_forms_exclude_each_other() {
        let networks = json!([{"mode": "host"}]);
        let both = json!({"container": docker(json!({"network": "HOST"})), "networks": networks});
        assert_eq!(first_error(both), "must not specify both container.docker.network and networks");
        let both = json!({"ipAddress": {}, "networks": networks});
        assert_eq!(first_error(both), "must not specify both networks and ipAddress");
        let mut both = docker(json!({"portMappings": [{"containerPort": 1}]}));
        both["portMappings"] = json!([{"containerPort": 2}]);
        let text = "cannot specify both portMappings and docker.portMappings";
        assert_eq!(first_error(json!({"container": both})), text);
        let none = json!({"container": docker(json!({"network": "NONE"}))});
        assert_eq!(first_error(none), "the network NONE is not supported");
        let ports = json!({"discovery": {"ports": [{"number": 80}]}});
        let text = "ipAddress/discovery is not allowed for Docker containers";
        assert_eq!(first_error(json!({"container": docker(json!({})), "ipAddress": ports})), text);
    }
}
