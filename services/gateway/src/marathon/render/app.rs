//! Apps.

mod checks;

use meshos_proto::meshos::apps::v1::{
    App, Constraint, Fetch, InstanceReadiness, KillSelection, NetworkMode, PortDefinition, ResourceLimits,
    TaskFailure, UnreachableStrategy,
};
use meshos_types::network_mode;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    container,
    embed::Embeds,
    number, stats,
    task::{self, Counts},
    timestamp,
};
use crate::views::Apps;
pub(in crate::marathon) use checks::health_check;
use checks::{readiness_check, task_check};

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
    if let Some(found) = &app.executor_resources {
        let [cpus, mem, disk] = [found.cpus, found.mem, found.disk].map(number);
        put("executorResources", json!({"cpus": cpus, "mem": mem, "disk": disk}));
    }
    if let Some(found) = &app.check {
        put("check", task_check(found));
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

/// The definition with its embeds, written to the end of `out`: see [`task::Shown`]. The text of a definition is
/// made once for each version.
pub(in crate::marathon) fn write_info(out: &mut Vec<u8>, apps: &Apps, app: &App, embeds: Embeds) {
    let fresh = || Value::Object(definition(app)).to_string();
    match apps.texts.get(&app.id) {
        Some(text) => out.extend_from_slice(text.get_or_init(fresh).as_bytes()),
        None => out.extend_from_slice(fresh().as_bytes()),
    }
    // It is an object that is not empty.
    out.pop();
    for (key, value) in extras(apps, app, Embeds { tasks: false, ..embeds }) {
        write_entry(out, &key, &value);
    }
    if embeds.tasks {
        let placed = apps.instances_of(&app.id).filter(|found| task::is_placed(found));
        let tasks: Vec<_> = placed.map(|found| task::Shown::new(found, apps.health_of(&found.id))).collect();
        write_entry(out, "tasks", &tasks);
    }
    out.push(b'}');
}

/// One more entry of an object that has some. Nothing in it has a form that JSON does not have, and memory takes all.
fn write_entry(out: &mut Vec<u8>, key: &str, value: &impl Serialize) {
    out.push(b',');
    let _ = serde_json::to_writer(&mut *out, key);
    out.push(b':');
    let _ = serde_json::to_writer(out, value);
}

/// The definition with its embeds.
pub(in crate::marathon) fn info(apps: &Apps, app: &App, embeds: Embeds) -> Value {
    let mut object = definition(app);
    object.extend(extras(apps, app, embeds));
    Value::Object(object)
}

/// The embeds.
fn extras(apps: &Apps, app: &App, embeds: Embeds) -> Map<String, Value> {
    let now_ms = embeds.now_ms;
    let mut object = Map::new();
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
    object
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
pub(in crate::marathon) mod tests;
