//! Health checks.

use meshos_proto::meshos::apps::v1::{HealthCheck, HealthCheckList, HealthProtocol};

use super::faults::{Faults, Field, field};

pub(super) fn checks(found: &Field<'_>, faults: &mut Faults) -> Option<HealthCheckList> {
    let items = faults.list(found)?;
    let checks: Vec<HealthCheck> = items.iter().filter_map(|item| check(item, faults)).collect();
    let twice = (1..checks.len()).any(|at| checks[..at].contains(&checks[at]));
    if twice {
        faults.read(&found.path, "error.array.unique");
    }
    Some(HealthCheckList { items: checks })
}

fn check(found: &Field<'_>, faults: &mut Faults) -> Option<HealthCheck> {
    let object = faults.object(found)?;
    let get = |name: &str| field(object, &found.path, name);
    let protocol = get("protocol").and_then(|word| protocol(&word, faults));
    let port: Option<u16> = get("port").and_then(|port| faults.integer(&port, u16::MAX));
    let mut seconds = |name: &str, default: u64| {
        get(name).and_then(|value| faults.integer(&value, u64::MAX)).unwrap_or(default)
    };
    let (grace_period_s, interval_s, timeout_s) =
        (seconds("gracePeriodSeconds", 300), seconds("intervalSeconds", 60), seconds("timeoutSeconds", 20));
    Some(HealthCheck {
        protocol: protocol.unwrap_or(HealthProtocol::Http).into(),
        path: get("path").and_then(|path| faults.string(&path)),
        port_index: get("portIndex").and_then(|index| faults.integer(&index, u32::MAX)),
        port: port.map(u32::from),
        grace_period_s,
        interval_s,
        timeout_s,
        max_consecutive_failures: get("maxConsecutiveFailures")
            .and_then(|most| faults.integer(&most, u32::MAX))
            .unwrap_or(3),
        ignore_http_1xx: get("ignoreHttp1xx").and_then(|flag| faults.boolean(&flag)).unwrap_or(false),
        command: get("command").and_then(|command| shell(&command, faults)),
        delay_s: get("delaySeconds").and_then(|value| faults.integer(&value, u64::MAX)),
        ipv6: get("ipProtocol").is_some_and(|word| is_ipv6(&word, faults)),
    })
}

/// `{"value":…}`
fn shell(found: &Field<'_>, faults: &mut Faults) -> Option<String> {
    let object = faults.object(found)?;
    let value = field(object, &found.path, "value");
    if value.is_none() {
        faults.read(&format!("{}/value", found.path), "error.path.missing");
    }
    faults.text(&value?, 1, usize::MAX)
}

fn is_ipv6(found: &Field<'_>, faults: &mut Faults) -> bool {
    match faults.string(found).map(|word| word.to_uppercase()).as_deref() {
        Some("IPV6") => return true,
        Some("IPV4") | None => {}
        Some(_) => faults.read(&found.path, "error.unknown.enum.literal"),
    }
    false
}

fn protocol(found: &Field<'_>, faults: &mut Faults) -> Option<HealthProtocol> {
    match faults.string(found)?.to_uppercase().as_str() {
        "HTTP" => return Some(HealthProtocol::Http),
        "HTTPS" => return Some(HealthProtocol::Https),
        "TCP" => return Some(HealthProtocol::Tcp),
        "COMMAND" => return Some(HealthProtocol::Command),
        "MESOS_HTTP" => return Some(HealthProtocol::MesosHttp),
        "MESOS_HTTPS" => return Some(HealthProtocol::MesosHttps),
        "MESOS_TCP" => return Some(HealthProtocol::MesosTcp),
        _ => faults.read(&found.path, "error.unknown.enum.literal"),
    }
    None
}

#[cfg(test)]
mod tests {
    use crate::marathon::read::app;
    use serde_json::json;

    #[test]
    fn checks_have_the_defaults_of_marathon() {
        let update = app(&json!({"healthChecks": [{}, {"protocol": "tcp", "port": 8080}]})).unwrap();
        let checks = update.health_checks.unwrap().items;
        let first = &checks[0];
        assert_eq!((first.grace_period_s, first.interval_s, first.timeout_s), (300, 60, 20));
        assert_eq!((first.max_consecutive_failures, first.port_index, first.protocol), (3, None, 1));
        assert_eq!((checks[1].protocol, checks[1].port), (3, Some(8080)));
    }

    #[test]
    fn checks_that_agents_make_are_read() {
        let update = app(&json!({"healthChecks": [
            {"protocol": "COMMAND", "command": {"value": "true"}},
            {"protocol": "mesos_https", "portIndex": 1, "delaySeconds": 3, "path": "/x"},
        ]}));
        let checks = update.unwrap().health_checks.unwrap().items;
        assert_eq!((checks[0].protocol, checks[0].command.as_deref()), (4, Some("true")));
        assert_eq!((checks[1].protocol, checks[1].delay_s), (6, Some(3)));
    }

    #[test]
    fn what_cannot_be_checked_is_refused() {
        let detail = |check: serde_json::Value| {
            app(&json!({"healthChecks": [check]})).unwrap_err().body["details"][0].clone()
        };
        assert_eq!(detail(json!({"ipProtocol": "IPv5"}))["path"], "/healthChecks(0)/ipProtocol");
        let nothing = detail(json!({"protocol": "COMMAND", "command": {}}));
        assert_eq!(nothing["path"], "/healthChecks(0)/command/value");
        assert_eq!(detail(json!({"protocol": "x"}))["errors"], json!(["error.unknown.enum.literal"]));
        assert_eq!(detail(json!({"intervalSeconds": -1}))["errors"], json!(["error.min"]));
        assert!(app(&json!({"healthChecks": [{}, {}]})).is_err());
    }
}
