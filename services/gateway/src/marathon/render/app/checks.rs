//! Checks of an app, as in its definition.

use meshos_proto::meshos::apps::v1::{
    HealthCheck, HealthProtocol, ReadinessCheck, TaskCheck, task_check::Kind,
};
use serde_json::{Map, Value, json};

/// What the agent finds out.
pub(super) fn task_check(check: &TaskCheck) -> Value {
    let ports = |index: Option<u32>, port: Option<u32>| {
        let named = [("portIndex", index), ("port", port)];
        named.into_iter().filter_map(|(name, port)| Some((name.to_owned(), json!(port?)))).collect()
    };
    let (name, kind): (_, Map<String, Value>) = match &check.kind {
        Some(Kind::Tcp(tcp)) => ("tcp", ports(tcp.port_index, tcp.port)),
        Some(Kind::Exec(exec)) => {
            let shell = exec.shell.as_ref().map(|shell| json!({"shell": shell}));
            let command = shell.unwrap_or_else(|| json!({"argv": exec.argv}));
            ("exec", Map::from_iter([("command".to_owned(), command)]))
        }
        Some(Kind::Http(http)) => {
            let mut shown: Map<String, Value> = ports(http.port_index, http.port);
            shown.extend(http.path.iter().map(|path| ("path".to_owned(), json!(path))));
            let scheme = if http.https { "HTTPS" } else { "HTTP" };
            shown.insert("scheme".to_owned(), json!(scheme));
            ("http", shown)
        }
        None => return json!({}),
    };
    let mut shown = json!({
        "delaySeconds": check.delay_s, "intervalSeconds": check.interval_s, "timeoutSeconds": check.timeout_s,
    });
    shown[name] = Value::Object(kind);
    shown
}

/// As in a definition.
pub(in crate::marathon) fn health_check(check: &HealthCheck) -> Value {
    let mut object = Map::new();
    let mut put = |key: &str, value: Value| object.insert(key.to_owned(), value);
    put("gracePeriodSeconds", json!(check.grace_period_s));
    put("ignoreHttp1xx", json!(check.ignore_http_1xx));
    put("intervalSeconds", json!(check.interval_s));
    put("ipProtocol", json!(if check.ipv6 { "IPv6" } else { "IPv4" }));
    put("maxConsecutiveFailures", json!(check.max_consecutive_failures));
    if let Some(path) = &check.path {
        put("path", json!(path));
    }
    if let Some(command) = &check.command {
        put("command", json!({"value": command}));
    }
    match (check.port, check.port_index) {
        (Some(port), _) => put("port", json!(port)),
        (None, Some(index)) => put("portIndex", json!(index)),
        (None, None) => None,
    };
    let protocol = match check.protocol() {
        HealthProtocol::Tcp => "TCP",
        HealthProtocol::Https => "HTTPS",
        HealthProtocol::Http | HealthProtocol::Unspecified => "HTTP",
        HealthProtocol::Command => "COMMAND",
        HealthProtocol::MesosHttp => "MESOS_HTTP",
        HealthProtocol::MesosHttps => "MESOS_HTTPS",
        HealthProtocol::MesosTcp => "MESOS_TCP",
    };
    put("protocol", json!(protocol));
    put("timeoutSeconds", json!(check.timeout_s));
    put("delaySeconds", json!(check.delay_s.unwrap_or(15)));
    Value::Object(object)
}

pub(super) fn readiness_check(check: &ReadinessCheck) -> Value {
    json!({
        "name": check.name,
        "protocol": if check.protocol() == HealthProtocol::Https { "HTTPS" } else { "HTTP" },
        "path": check.path,
        "portName": check.port_name,
        "intervalSeconds": check.interval_s,
        "timeoutSeconds": check.timeout_s,
        "httpStatusCodesForReady": check.ready_statuses,
        "preserveLastResponse": check.preserve_last_response,
    })
}
