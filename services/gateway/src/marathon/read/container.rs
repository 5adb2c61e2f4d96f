//! Containers and networks.

use meshos_proto::meshos::apps::v1::{
    Container, ContainerImage, ContainerParameter, ContainerType, ContainerVolume, ExternalVolume, Ipc,
    LinuxSettings, Network, NetworkList, NetworkMode, PortMapping, PortMappingList, Seccomp,
    container_volume::Source,
};

use super::{
    faults::{Faults, Field, field},
    parts,
};

/// The violation's text for what Marathon has and this version does not act on.
const NOT_SUPPORTED: &str = "is not supported by this version of meshos; leave it out";

/// Longest name of a network.
const LONGEST_NAME: usize = 63;

pub(super) fn container(found: &Field<'_>, faults: &mut Faults) -> Option<Container> {
    let object = faults.object(found)?;
    let get = |name: &str| field(object, &found.path, name);
    let kinds = [("DOCKER", ContainerType::Docker), ("MESOS", ContainerType::Mesos)];
    let kind = get("type").and_then(|word| faults.word(&word, &kinds));
    Some(Container {
        // One that does not say what it is is Docker's.
        r#type: kind.unwrap_or(ContainerType::Docker).into(),
        image: get("docker").and_then(|docker| image(&docker, faults)),
        port_mappings: get("portMappings").and_then(|list| mappings(&list, faults)),
        volumes: get("volumes").and_then(|list| volumes(&list, faults)).unwrap_or_default(),
        linux: get("linuxInfo").and_then(|info| linux(&info, faults)),
    })
}

fn image(found: &Field<'_>, faults: &mut Faults) -> Option<ContainerImage> {
    let object = faults.object(found)?;
    let get = |name: &str| field(object, &found.path, name);
    let name = faults.required(object, &found.path, "image");
    let mut flag = |name: &str| get(name).and_then(|value| faults.boolean(&value)).unwrap_or_default();
    let (force_pull, privileged) = (flag("forcePullImage"), flag("privileged"));
    if let Some(credential) = get("credential") {
        faults.invalid(&credential.path, "must be empty");
    }
    let pull = get("pullConfig").and_then(|config| {
        let object = faults.object(&config)?;
        let secret = faults.required(object, &config.path, "secret")?;
        faults.text(&secret, 1, usize::MAX)
    });
    Some(ContainerImage {
        name: name.and_then(|name| faults.text(&name, 1, 1024)).unwrap_or_default(),
        force_pull,
        privileged,
        parameters: get("parameters").and_then(|list| parameters(&list, faults)).unwrap_or_default(),
        pull_secret: pull,
    })
}

fn parameters(found: &Field<'_>, faults: &mut Faults) -> Option<Vec<ContainerParameter>> {
    let items = faults.list(found)?;
    let parameter = |item: &Field<'_>| {
        let object = faults.object(item)?;
        let (key, value) =
            (faults.required(object, &item.path, "key"), faults.required(object, &item.path, "value"));
        Some(ContainerParameter { key: faults.text(&key?, 1, usize::MAX)?, value: faults.string(&value?)? })
    };
    Some(items.iter().filter_map(parameter).collect())
}

pub(super) fn mappings(found: &Field<'_>, faults: &mut Faults) -> Option<PortMappingList> {
    let items = faults.list(found)?;
    Some(PortMappingList { items: items.iter().filter_map(|item| mapping(item, faults)).collect() })
}

fn mapping(found: &Field<'_>, faults: &mut Faults) -> Option<PortMapping> {
    let object = faults.object(found)?;
    let get = |name: &str| field(object, &found.path, name);
    let mut port = |name: &str| get(name).and_then(|port| faults.integer(&port, u16::MAX)).map(u32::from);
    let (container_port, host_port, service_port) =
        (port("containerPort"), port("hostPort"), port("servicePort"));
    Some(PortMapping {
        container_port: container_port.unwrap_or_default(),
        host_port,
        service_port: service_port.unwrap_or_default(),
        protocol: get("protocol").and_then(|word| parts::protocol(&word, faults)).unwrap_or_default(),
        name: get("name").and_then(|name| faults.string(&name)),
        labels: get("labels").and_then(|map| parts::labels(&map, faults)).unwrap_or_default().items,
        network_names: get("networkNames").and_then(|list| faults.string_list(&list)).unwrap_or_default(),
    })
}

fn volumes(found: &Field<'_>, faults: &mut Faults) -> Option<Vec<ContainerVolume>> {
    let items = faults.list(found)?;
    Some(items.iter().filter_map(|item| volume(item, faults)).collect())
}

fn volume(found: &Field<'_>, faults: &mut Faults) -> Option<ContainerVolume> {
    let object = faults.object(found)?;
    let get = |name: &str| field(object, &found.path, name);
    if let Some(persistent) = get("persistent") {
        faults.invalid(&persistent.path, NOT_SUPPORTED);
        return None;
    }
    let path = faults.required(object, &found.path, "containerPath");
    let container_path = path.and_then(|path| faults.text(&path, 1, usize::MAX)).unwrap_or_default();
    if let Some(secret) = get("secret") {
        let source = Source::Secret(faults.text(&secret, 1, usize::MAX)?);
        return Some(ContainerVolume { container_path, read_only: true, source: Some(source) });
    }
    let mode = faults.required(object, &found.path, "mode");
    let read_only = mode.and_then(|word| faults.word(&word, &[("RO", true), ("RW", false)]));
    let source = match get("external") {
        Some(external) => external_volume(&external, faults).map(Source::External),
        None => {
            let path = faults.required(object, &found.path, "hostPath");
            path.and_then(|path| faults.text(&path, 1, usize::MAX)).map(Source::HostPath)
        }
    };
    Some(ContainerVolume { container_path, read_only: read_only.unwrap_or_default(), source })
}

fn external_volume(found: &Field<'_>, faults: &mut Faults) -> Option<ExternalVolume> {
    let object = faults.object(found)?;
    let get = |name: &str| field(object, &found.path, name);
    let mut text = |name: &str| get(name).and_then(|value| faults.string(&value)).unwrap_or_default();
    let (name, provider) = (text("name"), text("provider"));
    // Options of other providers have other shapes.
    let options = get("options").filter(|_| provider != "csi");
    Some(ExternalVolume {
        name,
        provider,
        options: options.and_then(|map| parts::labels(&map, faults)).unwrap_or_default().items,
        size: get("size").and_then(|size| faults.integer(&size, u32::MAX)),
        shared: get("shared").and_then(|flag| faults.boolean(&flag)).unwrap_or_default(),
    })
}

fn linux(found: &Field<'_>, faults: &mut Faults) -> Option<LinuxSettings> {
    let object = faults.object(found)?;
    let get = |name: &str| field(object, &found.path, name);
    let seccomp = get("seccomp").and_then(|found| {
        let object = faults.object(&found)?;
        let get = |name: &str| field(object, &found.path, name);
        Some(Seccomp {
            profile: get("profileName").and_then(|name| faults.text(&name, 1, usize::MAX)),
            unconfined: get("unconfined").and_then(|flag| faults.boolean(&flag)).unwrap_or_default(),
        })
    });
    let ipc = get("ipcInfo").and_then(|found| {
        let object = faults.object(&found)?;
        let mode = faults.required(object, &found.path, "mode");
        let shares = mode.and_then(|word| faults.word(&word, &[("PRIVATE", false), ("SHARE_PARENT", true)]));
        let size = field(object, &found.path, "shmSize");
        Some(Ipc {
            shares_parent: shares.unwrap_or_default(),
            shm_size: size.and_then(|size| faults.integer(&size, u32::MAX)),
        })
    });
    Some(LinuxSettings { seccomp, ipc })
}

pub(super) fn networks(found: &Field<'_>, faults: &mut Faults) -> Option<NetworkList> {
    let items = faults.list(found)?;
    Some(NetworkList { items: items.iter().filter_map(|item| network(item, faults)).collect() })
}

fn network(found: &Field<'_>, faults: &mut Faults) -> Option<Network> {
    let object = faults.object(found)?;
    let get = |name: &str| field(object, &found.path, name);
    let modes = [
        ("CONTAINER", NetworkMode::Container),
        ("CONTAINER/BRIDGE", NetworkMode::Bridge),
        ("HOST", NetworkMode::Host),
    ];
    let mode = get("mode").and_then(|word| faults.word(&word, &modes));
    Some(Network {
        mode: mode.unwrap_or(NetworkMode::Container).into(),
        name: get("name").and_then(|name| faults.text(&name, 1, LONGEST_NAME)),
        labels: get("labels").and_then(|map| parts::labels(&map, faults)).unwrap_or_default().items,
    })
}

#[cfg(test)]
mod tests {
    use crate::marathon::read::app;
    use serde_json::{Value, json};

    use super::*;

    fn read(container: Value) -> Container {
        app(&json!({"container": container})).unwrap().container.unwrap()
    }

    fn details(body: Value) -> Value {
        app(&body).unwrap_err().body["details"].clone()
    }

    #[test]
    fn the_app_that_users_post_is_read() {
        let update = app(&json!({
            "container": {"type": "DOCKER", "docker": {
                "forcePullImage": false, "image": "nginx", "parameters": [], "privileged": true
            }, "portMappings": [
                {"containerPort": 80, "hostPort": 0, "labels": {}, "protocol": "tcp", "servicePort": 80}
            ]},
            "networks": [{"mode": "container/bridge"}],
        }))
        .unwrap();
        assert_eq!(update.networks.unwrap().items[0].mode(), NetworkMode::Bridge);
        let container = update.container.unwrap();
        assert!(container.image.unwrap().privileged);
        let mapping = &container.port_mappings.unwrap().items[0];
        assert_eq!((mapping.container_port, mapping.host_port, mapping.service_port), (80, Some(0), 80));
    }

    #[test]
    fn what_is_not_said_stays_open() {
        let container = read(json!({"docker": {"image": "x"}}));
        assert_eq!((container.r#type(), container.port_mappings), (ContainerType::Docker, None));
        let container = read(json!({"type": "mesos", "portMappings": [{}]}));
        assert_eq!(container.r#type(), ContainerType::Mesos);
        assert_eq!(container.port_mappings.unwrap().items[0].host_port, None);
        let update = app(&json!({"networks": [{"name": "n"}, {"mode": "Container"}]})).unwrap();
        assert!(update.networks.unwrap().items.iter().all(|one| one.mode() == NetworkMode::Container));
    }

    #[test]
    fn volumes_are_told_apart() {
        let container = read(json!({"type": "MESOS", "volumes": [
            {"containerPath": "/a", "hostPath": "/b", "mode": "ro"},
            {"containerPath": "c", "mode": "RW", "external": {
                "name": "v", "provider": "dvdi", "size": 5, "options": {"dvdi/driver": "rexray"}
            }},
            {"containerPath": "/k", "secret": "s"},
        ]}));
        let [host, external, secret] = &container.volumes[..] else { panic!("{:?}", container.volumes) };
        assert!(host.read_only && host.source == Some(Source::HostPath("/b".into())));
        assert!(matches!(&external.source, Some(Source::External(v)) if v.size == Some(5) && !v.shared));
        assert_eq!(secret.source, Some(Source::Secret("s".into())));
    }

    #[test]
    fn what_is_missing_or_not_there_yet_is_named() {
        let at = |path: &str, error: &str| json!([{"path": path, "errors": [error]}]);
        let missing = "error.path.missing";
        assert_eq!(details(json!({"container": {"docker": {}}})), at("/container/docker/image", missing));
        let volume = |volume: Value| details(json!({"container": {"type": "MESOS", "volumes": [volume]}}));
        let path = "/container/volumes(0)";
        assert_eq!(
            volume(json!({"containerPath": "/a", "hostPath": "/b"})),
            at(&format!("{path}/mode"), missing)
        );
        let strange = json!({"containerPath": "/a", "hostPath": "/b", "mode": "RX"});
        assert_eq!(volume(strange), at(&format!("{path}/mode"), "error.unknown.enum.literal"));
        let persistent = json!({"containerPath": "a", "mode": "RW", "persistent": {"size": 1}});
        assert_eq!(volume(persistent), at(&format!("{path}/persistent"), NOT_SUPPORTED));
        let port =
            json!({"container": {"docker": {"image": "x"}, "portMappings": [{"containerPort": 70_000}]}});
        assert_eq!(details(port), at("/container/portMappings(0)/containerPort", "error.max"));
        assert_eq!(
            details(json!({"networks": [{"mode": "moon"}]})),
            at("/networks(0)/mode", "error.unknown.enum.literal")
        );
        let credential = json!({"container": {"docker": {"image": "x", "credential": {"principal": "p"}}}});
        assert_eq!(details(credential), at("/container/docker/credential", "must be empty"));
    }
}
