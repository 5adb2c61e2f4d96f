//! Apps.

use meshos_proto::meshos::apps::v1::{
    App, Constraint, Fetch, HealthCheck, HealthProtocol, InstanceReadiness, KillSelection, NetworkMode,
    PortDefinition, ReadinessCheck, ResourceLimits, TaskCheck, TaskFailure, UnreachableStrategy,
    task_check::Kind,
};
use meshos_types::network_mode;
use serde_json::{Map, Value, json};

use super::{
    container,
    embed::Embeds,
    number, stats,
    task::{self, Counts},
    timestamp,
};
use crate::views::Apps;

/// The definition alone.
pub(in crate::marathon) fn definition(app: &App) -> Map<String, Value> {
    let mut object = Map::new();
    let mut put = |key: &str, value: Value| object.insert(key.to_owned(), value);
    put("id", json!(app.id));
    if let Some(cmd) = &app.cmd {
        put("cmd", json!(cmd));
    }
    put_lists(app, &mut put);
    put("backoffFactor", number(app.backoff_factor));
    put("backoffSeconds", json!(app.backoff_ms / 1000));
    put("cpus", number(app.cpus));
    put("disk", number(app.disk));
    put("executor", json!(app.executor));
    put("gpus", json!(app.gpus));
    put("instances", json!(app.instances));
    put("killSelection", json!(kill_selection(app.kill_selection())));
    put("labels", json!(app.labels));
    put("maxLaunchDelaySeconds", json!(app.max_launch_delay_ms / 1000));
    put("mem", number(app.mem));
    if let Some(found) = &app.container {
        put("container", container::container(found));
    }
    put("networks", container::networks(app));
    if network_mode(app) == NetworkMode::Host {
        put("portDefinitions", app.port_definitions.iter().map(port).collect());
    }
    put("requirePorts", json!(app.require_ports));
    put("role", json!(app.role));
    if let Some(limits) = &app.resource_limits {
        put("resourceLimits", resource_limits(limits));
    }
    if let Some(found) = &app.check {
        put("check", check(found));
    }
    if let Some(tty) = app.tty {
        put("tty", json!(tty));
    }
    put_strategies(app, &mut put);
    object
}

fn resource_limits(limits: &ResourceLimits) -> Value {
    let named = [("cpus", limits.cpus), ("mem", limits.mem)];
    let shown = |limit: f64| if limit.is_finite() { number(limit) } else { json!("unlimited") };
    let some = named.into_iter().filter_map(|(name, limit)| Some((name.to_owned(), shown(limit?))));
    Value::Object(some.collect())
}

fn check(check: &TaskCheck) -> Value {
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
            shown.insert("scheme".to_owned(), json!("HTTP"));
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

/// How it is replaced and lost, and which version this is.
fn put_strategies(app: &App, put: &mut impl FnMut(&str, Value) -> Option<Value>) {
    if let Some(seconds) = app.kill_grace_period_s {
        put("taskKillGracePeriodSeconds", json!(seconds));
    }
    put("unreachableStrategy", unreachable(app.unreachable_strategy.unwrap_or_default()));
    let strategy = app.upgrade_strategy.unwrap_or_default();
    put(
        "upgradeStrategy",
        json!({
            "maximumOverCapacity": number(strategy.maximum_over_capacity),
            "minimumHealthCapacity": number(strategy.minimum_health_capacity),
        }),
    );
    if let Some(user) = &app.user {
        put("user", json!(user));
    }
    put("version", json!(timestamp(app.version_ms)));
    put(
        "versionInfo",
        json!({
            "lastScalingAt": timestamp(app.last_scaling_at_ms),
            "lastConfigChangeAt": timestamp(app.last_config_change_at_ms),
        }),
    );
}

/// What is shown only when it is not empty.
fn put_lists(app: &App, put: &mut impl FnMut(&str, Value) -> Option<Value>) {
    let mut some = |key: &str, list: Value| {
        if list.as_array().is_none_or(|items| !items.is_empty()) {
            put(key, list);
        }
    };
    some("args", json!(app.args));
    some("acceptedResourceRoles", json!(app.accepted_resource_roles));
    some("constraints", app.constraints.iter().map(constraint).collect());
    some("dependencies", json!(app.dependencies));
    some("healthChecks", app.health_checks.iter().map(health_check).collect());
    some("readinessChecks", app.readiness_checks.iter().map(readiness_check).collect());
    some("fetch", app.fetch.iter().map(fetch).collect());
    let mut env: Map<String, Value> =
        app.env.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    env.extend(app.env_secrets.iter().map(|(name, secret)| (name.clone(), json!({"secret": secret}))));
    if !env.is_empty() {
        put("env", Value::Object(env));
    }
    if !app.secrets.is_empty() {
        let source = |(name, source): (&String, &String)| (name.clone(), json!({"source": source}));
        put("secrets", Value::Object(app.secrets.iter().map(source).collect()));
    }
}

/// The definition with its embeds, as text: see [`task::Shown`].
pub(in crate::marathon) fn info_text(apps: &Apps, app: &App, embeds: Embeds) -> String {
    let mut text = info(apps, app, Embeds { tasks: false, ..embeds }).to_string();
    if embeds.tasks {
        let placed = apps.instances_of(&app.id).filter(|found| task::is_placed(found));
        let tasks: Vec<_> = placed.map(|found| task::Shown::new(found, apps.health_of(&found.id))).collect();
        // The definition is an object that is not empty.
        text.pop();
        text.push_str(",\"tasks\":");
        // Nothing in it has a form that JSON does not have.
        text.push_str(&serde_json::to_string(&tasks).unwrap_or_default());
        text.push('}');
    }
    text
}

/// The definition with its embeds.
pub(in crate::marathon) fn info(apps: &Apps, app: &App, embeds: Embeds) -> Value {
    let now_ms = embeds.now_ms;
    let mut object = definition(app);
    let mut put = |key: &str, value: Value| object.insert(key.to_owned(), value);
    if embeds.counts {
        let counts = Counts::of(apps.instances_of(&app.id));
        for (key, count) in counts.entries() {
            put(key, json!(count));
        }
    }
    if embeds.deployments {
        put("deployments", apps.deployments_of(&app.id).map(|id| json!({"id": id})).collect());
    }
    if embeds.readiness {
        put("readinessCheckResults", readiness_results(apps, &app.id));
    }
    if embeds.tasks {
        put(
            "tasks",
            apps.instances_of(&app.id)
                .filter(|found| task::is_placed(found))
                .map(|found| task::task(found, apps.health_of(&found.id)))
                .collect(),
        );
    }
    if let (true, Some(last)) = (embeds.last_task_failure, apps.failure_of(&app.id)) {
        put("lastTaskFailure", failure(last));
    }
    if embeds.task_stats {
        let stats = stats::stats(app, apps.instances_of(&app.id), now_ms);
        put("taskStats", stats.clone());
        if !embeds.older_name {
            put("tasksStats", stats);
        }
    }
    Value::Object(object)
}

/// The reply to a creation: the definition as accepted, nothing running yet.
pub(in crate::marathon) fn created(app: &App, deployment: &str) -> Value {
    let mut object = definition(app);
    for (key, _) in Counts::default().entries() {
        object.insert(key.to_owned(), json!(0));
    }
    object.insert("deployments".to_owned(), json!([{"id": deployment}]));
    Value::Object(object)
}

fn port(port: &PortDefinition) -> Value {
    let mut object = Map::new();
    if !port.labels.is_empty() {
        object.insert("labels".to_owned(), json!(port.labels));
    }
    if let Some(name) = &port.name {
        object.insert("name".to_owned(), json!(name));
    }
    object.insert("port".to_owned(), json!(port.port));
    object.insert("protocol".to_owned(), json!(port.protocol));
    Value::Object(object)
}

fn fetch(fetch: &Fetch) -> Value {
    let mut object = Map::new();
    object.insert("uri".to_owned(), json!(fetch.uri));
    object.insert("extract".to_owned(), json!(fetch.extract));
    object.insert("executable".to_owned(), json!(fetch.executable));
    object.insert("cache".to_owned(), json!(fetch.cache));
    if let Some(path) = &fetch.dest_path {
        object.insert("destPath".to_owned(), json!(path));
    }
    Value::Object(object)
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

fn readiness_check(check: &ReadinessCheck) -> Value {
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

/// What the readiness checks of the app's tasks found. The field named after the task holds the instance, as upstream.
pub(in crate::marathon) fn readiness_results(apps: &Apps, app_id: &str) -> Value {
    let found = apps.instances_of(app_id).filter_map(|instance| apps.readiness_of(&instance.id));
    let result = |found: &InstanceReadiness| {
        let mut shown = json!({"name": found.name, "taskId": found.instance_id, "ready": found.ready});
        if let Some(last) = &found.last_response {
            shown["lastResponse"] =
                json!({"status": last.status, "contentType": last.content_type, "body": last.body});
        }
        shown
    };
    found.map(result).collect()
}

fn constraint(constraint: &Constraint) -> Value {
    let words = [Some(&constraint.field), Some(&constraint.operator), constraint.value.as_ref()];
    words.into_iter().flatten().map(|word| json!(word)).collect()
}

fn unreachable(strategy: UnreachableStrategy) -> Value {
    if strategy.disabled {
        return json!("disabled");
    }
    json!({"expungeAfterSeconds": strategy.expunge_after_s, "inactiveAfterSeconds": strategy.inactive_after_s})
}

fn kill_selection(selection: KillSelection) -> &'static str {
    match selection {
        KillSelection::OldestFirst => "OLDEST_FIRST",
        KillSelection::YoungestFirst | KillSelection::Unspecified => "YOUNGEST_FIRST",
    }
}

fn failure(failure: &TaskFailure) -> Value {
    json!({
        "appId": failure.app_id,
        "host": failure.host,
        "message": failure.message,
        "slaveId": failure.agent_id,
        "state": failure.state,
        "taskId": failure.task_id,
        "timestamp": timestamp(failure.timestamp_ms),
        "version": timestamp(failure.version_ms),
    })
}

#[cfg(test)]
pub(in crate::marathon) mod tests {
    use super::*;
    use crate::marathon::read;
    use meshos_proto::meshos::apps::v1::UpgradeStrategy;

    /// `{"id":"/a","cmd":"sleep 1000"}` with its defaults.
    pub(in crate::marathon) fn minimal(id: &str) -> App {
        App {
            format: 1,
            id: id.to_owned(),
            cmd: Some("sleep 1000".to_owned()),
            cpus: 1.0,
            mem: 128.0,
            instances: 1,
            port_definitions: vec![PortDefinition {
                port: 10_000,
                protocol: "tcp".to_owned(),
                name: Some("default".to_owned()),
                ..Default::default()
            }],
            upgrade_strategy: Some(UpgradeStrategy {
                minimum_health_capacity: 1.0,
                maximum_over_capacity: 1.0,
            }),
            backoff_ms: 1000,
            backoff_factor: 1.15,
            max_launch_delay_ms: 300_000,
            unreachable_strategy: Some(UnreachableStrategy::default()),
            kill_selection: KillSelection::YoungestFirst.into(),
            role: "*".to_owned(),
            version_ms: 1_767_225_600_123,
            last_scaling_at_ms: 1_767_225_600_123,
            last_config_change_at_ms: 1_767_225_600_123,
            ..Default::default()
        }
    }

    #[test]
    fn marathon_c13_c14_a_minimal_app() {
        let time = "2026-01-01T00:00:00.123Z";
        let wanted = json!({
            "id": "/a", "cmd": "sleep 1000", "backoffFactor": 1.15, "backoffSeconds": 1, "cpus": 1, "disk": 0,
            "executor": "", "gpus": 0, "instances": 1, "killSelection": "YOUNGEST_FIRST", "labels": {},
            "maxLaunchDelaySeconds": 300, "mem": 128, "networks": [{"mode": "host"}],
            "portDefinitions": [{"name": "default", "port": 10000, "protocol": "tcp"}],
            "requirePorts": false, "role": "*",
            "unreachableStrategy": {"expungeAfterSeconds": 0, "inactiveAfterSeconds": 0},
            "upgradeStrategy": {"maximumOverCapacity": 1, "minimumHealthCapacity": 1}, "version": time,
            "versionInfo": {"lastScalingAt": time, "lastConfigChangeAt": time},
        });
        assert_eq!(Value::Object(definition(&minimal("/a"))), wanted);
    }

    #[test]
    fn what_is_shown_can_be_sent_back() {
        let app = App {
            args: vec!["x".to_owned()],
            env: [("A".to_owned(), "1".to_owned())].into(),
            env_secrets: [("B".to_owned(), "s".to_owned())].into(),
            secrets: [("s".to_owned(), "dir/file".to_owned())].into(),
            readiness_checks: vec![ReadinessCheck {
                name: "up".into(),
                protocol: HealthProtocol::Https.into(),
                path: "/ready".into(),
                port_name: "default".into(),
                interval_s: 3,
                timeout_s: 2,
                ready_statuses: vec![200, 204],
                preserve_last_response: true,
            }],
            health_checks: vec![HealthCheck {
                protocol: HealthProtocol::Command.into(),
                command: Some("true".into()),
                grace_period_s: 1,
                interval_s: 2,
                timeout_s: 3,
                max_consecutive_failures: 4,
                delay_s: Some(5),
                ..Default::default()
            }],
            constraints: vec![Constraint {
                field: "hostname".into(),
                operator: "UNIQUE".into(),
                value: None,
            }],
            fetch: vec![Fetch { uri: "http://h/x".into(), extract: true, ..Default::default() }],
            dependencies: vec!["/b".to_owned()],
            accepted_resource_roles: vec!["*".to_owned()],
            kill_grace_period_s: Some(3),
            user: Some("u".to_owned()),
            ..minimal("/a")
        };
        let update = read::app(&Value::Object(definition(&app))).unwrap();
        assert_eq!(update.args.unwrap().items, app.args);
        assert_eq!(update.env.unwrap().items, app.env);
        assert_eq!(update.env_secrets.unwrap().items, app.env_secrets);
        assert_eq!(update.secrets.unwrap().items, app.secrets);
        assert_eq!(update.readiness_checks.unwrap().items, app.readiness_checks);
        assert_eq!(update.health_checks.unwrap().items, app.health_checks);
        assert_eq!(update.constraints.unwrap().items, app.constraints);
        assert_eq!(update.fetch.unwrap().items, app.fetch);
        assert_eq!(update.port_definitions.unwrap().items, app.port_definitions);
        assert_eq!((update.cpus, update.mem, update.backoff_s), (Some(1.0), Some(128.0), Some(1)));
        assert_eq!(update.unreachable_strategy, app.unreachable_strategy);
        assert_eq!(update.version_ms, Some(app.version_ms));
    }

    #[test]
    fn marathon_c01_a_new_app_has_counts_and_no_tasks() {
        let reply = created(&minimal("/a"), "d");
        assert_eq!(reply["tasksRunning"], 0);
        assert_eq!(reply["deployments"], json!([{"id": "d"}]));
        assert!(reply.get("tasks").is_none());
    }
}
