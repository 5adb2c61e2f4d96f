//! Containers and networks of apps.

use meshos_proto::meshos::apps::v1::{
    App, Container, ContainerImage, ContainerType, ContainerVolume, ExternalVolume, LinuxSettings, Network,
    NetworkMode, PortMapping, container_volume::Source,
};
use serde_json::{Map, Value, json};

/// At least one: an app of before there were any is on the host's.
pub(super) fn networks(app: &App) -> Value {
    if app.networks.is_empty() {
        return json!([{"mode": "host"}]);
    }
    app.networks.iter().map(network).collect()
}

fn network(network: &Network) -> Value {
    let mut object = Map::new();
    if let Some(name) = &network.name {
        object.insert("name".to_owned(), json!(name));
    }
    let mode = match network.mode() {
        NetworkMode::Container => "container",
        NetworkMode::Bridge => "container/bridge",
        NetworkMode::Host | NetworkMode::Unspecified => "host",
    };
    object.insert("mode".to_owned(), json!(mode));
    if !network.labels.is_empty() {
        object.insert("labels".to_owned(), json!(network.labels));
    }
    Value::Object(object)
}

pub(super) fn container(container: &Container) -> Value {
    let mut object = Map::new();
    let mut put = |key: &str, value: Value| object.insert(key.to_owned(), value);
    put("type", json!(if container.r#type() == ContainerType::Mesos { "MESOS" } else { "DOCKER" }));
    if let Some(found) = &container.image {
        put("docker", image(found));
    }
    put("volumes", container.volumes.iter().map(volume).collect());
    if let Some(mappings) = &container.port_mappings {
        put("portMappings", mappings.items.iter().map(mapping).collect());
    }
    if let Some(found) = &container.linux {
        put("linuxInfo", linux(found));
    }
    Value::Object(object)
}

fn image(image: &ContainerImage) -> Value {
    let parameters: Value =
        image.parameters.iter().map(|found| json!({"key": found.key, "value": found.value})).collect();
    let mut shown = json!({
        "forcePullImage": image.force_pull,
        "image": image.name,
        "parameters": parameters,
        "privileged": image.privileged,
    });
    if let Some(secret) = &image.pull_secret {
        shown["pullConfig"] = json!({"secret": secret});
    }
    shown
}

fn mapping(mapping: &PortMapping) -> Value {
    let mut object = Map::new();
    let mut put = |key: &str, value: Value| object.insert(key.to_owned(), value);
    put("containerPort", json!(mapping.container_port));
    if let Some(port) = mapping.host_port {
        put("hostPort", json!(port));
    }
    put("labels", json!(mapping.labels));
    if let Some(name) = &mapping.name {
        put("name", json!(name));
    }
    if !mapping.network_names.is_empty() {
        put("networkNames", json!(mapping.network_names));
    }
    put("protocol", json!(mapping.protocol));
    put("servicePort", json!(mapping.service_port));
    Value::Object(object)
}

fn volume(volume: &ContainerVolume) -> Value {
    let mut shown = json!({"containerPath": volume.container_path});
    match &volume.source {
        Some(Source::Secret(secret)) => {
            shown["secret"] = json!(secret);
            return shown;
        }
        Some(Source::HostPath(path)) => shown["hostPath"] = json!(path),
        Some(Source::External(volume)) => shown["external"] = external(volume),
        None => {}
    }
    shown["mode"] = json!(if volume.read_only { "RO" } else { "RW" });
    shown
}

fn external(volume: &ExternalVolume) -> Value {
    let mut shown = json!({"name": volume.name, "provider": volume.provider, "options": volume.options});
    if let Some(size) = volume.size {
        shown["size"] = json!(size);
    }
    shown["shared"] = json!(volume.shared);
    shown
}

fn linux(settings: &LinuxSettings) -> Value {
    let mut shown = json!({});
    if let Some(seccomp) = &settings.seccomp {
        shown["seccomp"] = json!({"unconfined": seccomp.unconfined});
        if let Some(profile) = &seccomp.profile {
            shown["seccomp"]["profileName"] = json!(profile);
        }
    }
    if let Some(ipc) = &settings.ipc {
        shown["ipcInfo"] = json!({"mode": if ipc.shares_parent { "SHARE_PARENT" } else { "PRIVATE" }});
        if let Some(size) = ipc.shm_size {
            shown["ipcInfo"]["shmSize"] = json!(size);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::marathon::{
        read,
        render::app::{definition, tests::minimal},
    };

    /// What is shown of a definition that says this about its container.
    fn shown(more: &Value) -> Map<String, Value> {
        let update = read::app(more).unwrap();
        let networks = update.networks.unwrap_or_default().items;
        definition(&App { container: update.container, networks, tty: update.tty, ..minimal("/a") })
    }

    #[test]
    fn what_is_sent_is_shown_with_everything_filled_in() {
        let sent = json!({
            "container": {"type": "DOCKER", "docker": {
                "forcePullImage": false, "image": "nginx", "parameters": [], "privileged": true
            }, "portMappings": [
                {"containerPort": 80, "hostPort": 0, "labels": {}, "protocol": "tcp", "servicePort": 80}
            ]},
            "networks": [{"mode": "container/bridge"}],
        });
        let app = shown(&sent);
        let mut wanted = sent["container"].clone();
        wanted["volumes"] = json!([]);
        assert_eq!((&app["container"], &app["networks"]), (&wanted, &sent["networks"]));
        assert!(!app.contains_key("portDefinitions") && !app.contains_key("tty"));
    }

    #[test]
    fn every_part_survives_being_sent_back() {
        let sent = json!({
            "container": {
                "type": "MESOS",
                "docker": {
                    "forcePullImage": true, "image": "x", "parameters": [{"key": "a", "value": "b"}],
                    "privileged": false, "pullConfig": {"secret": "s"},
                },
                "volumes": [
                    {"containerPath": "/a", "hostPath": "/b", "mode": "RO"},
                    {"containerPath": "c", "mode": "RW", "external": {
                        "name": "v", "provider": "dvdi", "options": {"dvdi/driver": "d"}, "size": 5, "shared": true
                    }},
                    {"containerPath": "/k", "secret": "s"},
                ],
                "portMappings": [{
                    "containerPort": 80, "labels": {"VIP_0": "x"}, "name": "http", "networkNames": ["n"],
                    "protocol": "udp,tcp", "servicePort": 10_000,
                }],
                "linuxInfo": {
                    "seccomp": {"unconfined": false, "profileName": "p"},
                    "ipcInfo": {"mode": "PRIVATE", "shmSize": 64},
                },
            },
            "networks": [{"name": "n", "mode": "container", "labels": {"l": "v"}}],
            "tty": true,
        });
        let app = shown(&sent);
        for key in ["container", "networks", "tty"] {
            assert_eq!(app[key], sent[key], "{key}");
        }
    }
}
