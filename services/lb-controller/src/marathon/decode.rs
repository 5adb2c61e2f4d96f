//! Apps and tasks of Marathon's API as the records that the app-scheduler's `Watch` would give. Pure.

use std::collections::BTreeMap;

use meshos_proto::meshos::apps::v1::{
    App, Condition, Container, Goal, HealthCheck, HealthProtocol, HealthResult, Instance, InstanceHealth,
    IpAddress, Network, NetworkMode, PortDefinition, PortMapping, PortMappingList,
};
use meshos_types::Timestamp;
use serde_json::Value;

use crate::core::charset::{self, Kind};

/// One app with its tasks.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Found {
    pub(super) app: App,
    pub(super) instances: Vec<Instance>,
    pub(super) health: Vec<InstanceHealth>,
}

/// An app with its tasks embedded; none: it is nothing of that kind.
pub(super) fn found(value: &Value) -> Option<Found> {
    let mut found = Found { app: app(value)?, ..Found::default() };
    let inner: Vec<u32> =
        found.app.container.iter().flat_map(mappings).map(|port| port.container_port).collect();
    for value in value["tasks"].as_array().into_iter().flatten() {
        let Some(mut instance) = task(value, &found.app.id) else { continue };
        instance.container_ports.clone_from(&inner);
        if instance.ports.is_empty() {
            instance.ports = found.app.port_definitions.iter().map(|port| port.port).collect();
        }
        let results: Vec<HealthResult> = value["healthCheckResults"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|result| {
                Some(HealthResult { alive: result["alive"].as_bool()?, ..HealthResult::default() })
            })
            .collect();
        // Without results, what was known before holds.
        if !results.is_empty() {
            instance.healthy = Some(results.iter().any(|result| result.alive));
            found.health.push(InstanceHealth { instance_id: instance.id.clone(), results });
        }
        found.instances.push(instance);
    }
    Some(found)
}

fn mappings(container: &Container) -> &[PortMapping] {
    container.port_mappings.as_ref().map_or(&[], |mappings| &mappings.items)
}

fn app(value: &Value) -> Option<App> {
    // It becomes the name of a backend, and a part of URLs.
    let id = value["id"].as_str().filter(|id| id.starts_with('/'))?;
    charset::checked(id, Kind::AppId).ok()?;
    let networks = networks(value);
    let on_host = networks.iter().all(|network| network.mode() == NetworkMode::Host);
    let mut app = App {
        id: id.to_owned(),
        version_ms: time(&value["version"]),
        last_scaling_at_ms: time(&value["versionInfo"]["lastScalingAt"]),
        labels: texts(&value["labels"]),
        instances: number(&value["instances"]),
        health_checks: list(&value["healthChecks"]).map(check).collect(),
        networks,
        ..App::default()
    };
    if on_host {
        let defined = list(&value["portDefinitions"]).map(definition);
        app.port_definitions = defined.collect();
        if app.port_definitions.is_empty() {
            // The form of before 1.5.
            let port = |port| PortDefinition {
                port: number(port),
                protocol: "tcp".to_owned(),
                ..Default::default()
            };
            app.port_definitions = list(&value["ports"]).map(port).collect();
        }
    } else {
        let container = &value["container"];
        let given = if container["portMappings"].is_array() { container } else { &container["docker"] };
        let items = list(&given["portMappings"]).map(mapping).collect();
        app.container =
            Some(Container { port_mappings: Some(PortMappingList { items }), ..Container::default() });
    }
    Some(app)
}

/// With the form of before 1.5, where Docker's network says it.
fn networks(value: &Value) -> Vec<Network> {
    let network = |mode: NetworkMode| Network { mode: mode.into(), ..Network::default() };
    let given = list(&value["networks"]).map(|given| match given["mode"].as_str() {
        Some("container/bridge") => network(NetworkMode::Bridge),
        Some("container") => network(NetworkMode::Container),
        _ => network(NetworkMode::Host),
    });
    let given: Vec<Network> = given.collect();
    if !given.is_empty() {
        return given;
    }
    match value["container"]["docker"]["network"].as_str() {
        Some("BRIDGE") => vec![network(NetworkMode::Bridge)],
        Some("USER") => vec![network(NetworkMode::Container)],
        _ if value["ipAddress"].is_object() => vec![network(NetworkMode::Container)],
        _ => vec![network(NetworkMode::Host)],
    }
}

fn definition(value: &Value) -> PortDefinition {
    PortDefinition {
        port: number(&value["port"]),
        protocol: value["protocol"].as_str().unwrap_or("tcp").to_owned(),
        name: value["name"].as_str().map(str::to_owned),
        labels: texts(&value["labels"]),
    }
}

fn mapping(value: &Value) -> PortMapping {
    PortMapping {
        container_port: number(&value["containerPort"]),
        host_port: value["hostPort"].as_u64().and_then(|port| u32::try_from(port).ok()),
        service_port: number(&value["servicePort"]),
        protocol: value["protocol"].as_str().unwrap_or("tcp").to_owned(),
        ..PortMapping::default()
    }
}

fn check(value: &Value) -> HealthCheck {
    let protocol = match value["protocol"].as_str().unwrap_or("HTTP") {
        "HTTP" | "MESOS_HTTP" => HealthProtocol::Http,
        "HTTPS" | "MESOS_HTTPS" => HealthProtocol::Https,
        "TCP" | "MESOS_TCP" => HealthProtocol::Tcp,
        _ => HealthProtocol::Command,
    };
    let small = |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok());
    HealthCheck {
        protocol: protocol.into(),
        path: value["path"].as_str().map(str::to_owned),
        port_index: small(&value["portIndex"]),
        port: small(&value["port"]),
        grace_period_s: value["gracePeriodSeconds"].as_u64().unwrap_or(300),
        interval_s: value["intervalSeconds"].as_u64().unwrap_or(60),
        timeout_s: value["timeoutSeconds"].as_u64().unwrap_or(20),
        max_consecutive_failures: small(&value["maxConsecutiveFailures"]).unwrap_or(3),
        ..HealthCheck::default()
    }
}

fn task(value: &Value, app_id: &str) -> Option<Instance> {
    let id = value["id"].as_str()?;
    let address = |value: &Value| {
        let protocol = value["protocol"].as_str().unwrap_or("IPv4").to_owned();
        Some(IpAddress { address: value["ipAddress"].as_str()?.to_owned(), protocol })
    };
    let mut instance = Instance {
        id: id.to_owned(),
        task_id: id.to_owned(),
        app_id: app_id.to_owned(),
        host: value["host"].as_str().unwrap_or_default().to_owned(),
        ports: list(&value["ports"]).map(number).collect(),
        ip_addresses: list(&value["ipAddresses"]).filter_map(address).collect(),
        version_ms: time(&value["version"]),
        ..Instance::default()
    };
    let condition = match value["state"].as_str() {
        // Upstream's oldest versions do not say.
        None | Some("TASK_RUNNING") => Condition::Running,
        // The machine may only be cut off.
        Some("TASK_UNREACHABLE" | "TASK_LOST") => Condition::Unreachable,
        Some("TASK_KILLING") => Condition::Killing,
        Some("TASK_STARTING") => Condition::Starting,
        Some(_) => Condition::Staging,
    };
    instance.set_condition(condition);
    instance.set_goal(Goal::Running);
    Some(instance)
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn number(value: &Value) -> u32 {
    value.as_u64().and_then(|number| u32::try_from(number).ok()).unwrap_or_default()
}

fn texts(value: &Value) -> BTreeMap<String, String> {
    let entries = value.as_object().into_iter().flatten();
    entries.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// Unix time in milliseconds; 0: none.
fn time(value: &Value) -> u64 {
    let time = value.as_str().and_then(|text| Timestamp::parse(text).ok());
    time.and_then(|time| u64::try_from(time.millis()).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_app_on_the_host_s_network() {
        let found = found(&json!({
            "id": "/web", "instances": 2, "version": "1970-01-01T00:00:01.500Z", "labels": {"HAPROXY_GROUP": "external"},
            "portDefinitions": [{"port": 10000, "protocol": "tcp"}, {"port": 10001, "protocol": "udp"}],
            "healthChecks": [{"protocol": "MESOS_HTTP", "portIndex": 0}],
            "tasks": [
                {"id": "web.1", "host": "h1", "ports": [31000, 31001], "state": "TASK_RUNNING",
                 "healthCheckResults": [{"alive": false}, {"alive": true}]},
                {"id": "web.2", "host": "h2", "ports": [31000, 31001], "state": "TASK_KILLING"},
                {"id": "web.3", "host": "h2", "state": "TASK_LOST"},
                {"host": "without an id"},
            ],
        }))
        .unwrap();
        assert_eq!(
            (found.app.version_ms, found.app.instances, found.app.port_definitions.len()),
            (1500, 2, 2)
        );
        assert_eq!(found.app.health_checks[0].protocol(), HealthProtocol::Http);
        let conditions: Vec<Condition> =
            found.instances.iter().map(|instance| instance.condition()).collect();
        assert_eq!(conditions, [Condition::Running, Condition::Killing, Condition::Unreachable]);
        assert_eq!(found.instances[2].ports, [10_000, 10_001]);
        assert_eq!((found.instances[0].healthy, found.instances[1].healthy), (Some(true), None));
        assert_eq!(found.health.len(), 1);
    }

    #[test]
    fn ports_of_containers_in_both_forms() {
        let mapping = json!([{"containerPort": 80, "hostPort": 0, "servicePort": 10003}]);
        let newer = json!({
            "id": "/c", "networks": [{"mode": "container", "name": "net"}], "container": {"portMappings": mapping},
            "tasks": [{"id": "c.1", "host": "h", "ipAddresses": [{"ipAddress": "10.1.2.3", "protocol": "IPv4"}]}],
        });
        let older =
            json!({"id": "/c", "container": {"docker": {"network": "BRIDGE", "portMappings": mapping}}});
        for (value, mode) in [(&newer, NetworkMode::Container), (&older, NetworkMode::Bridge)] {
            let app = found(value).unwrap().app;
            assert_eq!(app.networks[0].mode(), mode);
            assert_eq!(mappings(app.container.as_ref().unwrap())[0].service_port, 10_003);
        }
        let instance = &found(&newer).unwrap().instances[0];
        assert_eq!(
            (instance.container_ports[0], instance.ip_addresses[0].address.as_str()),
            (80, "10.1.2.3")
        );
        assert_eq!(
            found(&json!({"id": "/old", "ports": [10005]})).unwrap().app.port_definitions[0].port,
            10_005
        );
        for value in [json!({}), json!({"id": 5}), json!({"id": "/a\nb"}), json!({"id": "/a#b"}), json!([])] {
            assert_eq!(found(&value), None, "{value}");
        }
    }
}
