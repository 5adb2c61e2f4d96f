//! Tasks: instances that were placed.

use meshos_proto::meshos::apps::v1::{Condition, HealthResult, Instance};
use meshos_types::app_ports;
use serde_json::{Map, Value, json};

use super::timestamp;
use crate::views::Apps;

/// How many tasks of an app are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::marathon) struct Counts {
    pub(in crate::marathon) staged: u32,
    pub(in crate::marathon) running: u32,
    pub(in crate::marathon) healthy: u32,
    pub(in crate::marathon) unhealthy: u32,
}

impl Counts {
    pub(in crate::marathon) fn of<'a>(instances: impl Iterator<Item = &'a Instance>) -> Self {
        let mut counts = Self::default();
        for instance in instances.filter(|instance| is_placed(instance)) {
            match state(instance) {
                "TASK_STAGING" => counts.staged += 1,
                "TASK_RUNNING" => counts.running += 1,
                _ => {}
            }
            match instance.healthy {
                Some(true) => counts.healthy += 1,
                Some(false) => counts.unhealthy += 1,
                None => {}
            }
        }
        counts
    }

    /// With their names in an app.
    pub(in crate::marathon) fn entries(self) -> [(&'static str, u32); 4] {
        [
            ("tasksStaged", self.staged),
            ("tasksRunning", self.running),
            ("tasksHealthy", self.healthy),
            ("tasksUnhealthy", self.unhealthy),
        ]
    }
}

/// Whether it stands for a task; one that waits shows in the queue only.
pub(in crate::marathon) fn is_placed(instance: &Instance) -> bool {
    !instance.agent_id.is_empty() && !instance.task_id.is_empty()
}

/// The Mesos state; a task without a status is staging.
pub(in crate::marathon) fn state(instance: &Instance) -> &str {
    if instance.mesos_state.is_empty() { "TASK_STAGING" } else { &instance.mesos_state }
}

/// Whether the task may still run.
fn is_active(instance: &Instance) -> bool {
    use Condition::{Killing, Provisioned, Running, Staging, Starting, Unreachable, UnreachableInactive};
    matches!(
        instance.condition(),
        Provisioned | Staging | Starting | Running | Killing | Unreachable | UnreachableInactive
    )
}

/// A task within its app.
pub(in crate::marathon) fn task(instance: &Instance, health: &[HealthResult]) -> Value {
    let mut object = object(instance, &[]);
    object.insert("healthCheckResults".to_owned(), results(instance, health));
    Value::Object(object)
}

/// What checks found, as far as it is known.
fn results(instance: &Instance, health: &[HealthResult]) -> Value {
    let result = |result: &HealthResult| {
        let mut shown = json!({
            "alive": result.alive,
            "consecutiveFailures": result.consecutive_failures,
            "instanceId": instance.id,
        });
        for (key, time) in [
            ("firstSuccess", result.first_success_ms),
            ("lastFailure", result.last_failure_ms),
            ("lastSuccess", result.last_success_ms),
        ] {
            if time > 0 {
                shown[key] = json!(timestamp(time));
            }
        }
        if !result.last_failure_cause.is_empty() {
            shown["lastFailureCause"] = json!(result.last_failure_cause);
        }
        shown
    };
    health.iter().map(result).collect()
}

/// A task in `/v2/tasks`, with the app's service ports.
pub(in crate::marathon) fn with_service_ports(apps: &Apps, instance: &Instance) -> Value {
    let app = apps.apps.get(&instance.app_id);
    let ports: Vec<u32> = app.into_iter().flat_map(app_ports).map(|port| port.service).collect();
    let mut object = object(instance, &ports);
    object.insert("healthCheckResults".to_owned(), results(instance, apps.health_of(&instance.id)));
    Value::Object(object)
}

/// Ports of the host; those that a task has only in its own network are left out.
pub(in crate::marathon) fn host_ports(instance: &Instance) -> Value {
    instance.ports.iter().filter(|port| **port != 0).map(|port| json!(port)).collect()
}

fn object(instance: &Instance, service_ports: &[u32]) -> Map<String, Value> {
    let mut object = Map::new();
    let mut put = |key: &str, value: Value| object.insert(key.to_owned(), value);
    let active = is_active(instance);
    put("id", json!(instance.task_id));
    put("appId", json!(instance.app_id));
    put("host", json!(instance.host));
    put("slaveId", json!(instance.agent_id));
    put("role", json!(instance.role));
    put("state", json!(state(instance)));
    if active {
        for (key, time) in [("stagedAt", instance.staged_at_ms), ("startedAt", instance.started_at_ms)] {
            if time > 0 {
                put(key, json!(timestamp(time)));
            }
        }
        put("version", json!(timestamp(instance.version_ms)));
    }
    put("ports", if active { host_ports(instance) } else { json!([]) });
    put("servicePorts", json!(service_ports));
    let addresses = instance.ip_addresses.iter();
    let address = |ip: &meshos_proto::meshos::apps::v1::IpAddress| json!({"ipAddress": ip.address, "protocol": ip.protocol});
    put("ipAddresses", addresses.map(address).collect());
    put("healthCheckResults", json!([]));
    put("localVolumes", json!([]));
    object
}

#[cfg(test)]
pub(in crate::marathon) mod tests {
    use super::*;

    /// A running task.
    pub(in crate::marathon) fn running(app: &str, unique: &str) -> Instance {
        let id = format!("{}.instance-{unique}", app.trim_start_matches('/').replace('/', "_"));
        Instance {
            task_id: format!("{id}._app.1"),
            id,
            app_id: app.to_owned(),
            version_ms: 1_767_225_600_123,
            condition: Condition::Running.into(),
            incarnation: 1,
            agent_id: "a-S0".to_owned(),
            host: "h".to_owned(),
            ports: vec![31_000],
            staged_at_ms: 1_767_225_601_000,
            started_at_ms: 1_767_225_602_000,
            mesos_state: "TASK_RUNNING".to_owned(),
            role: "*".to_owned(),
            ..Default::default()
        }
    }

    #[test]
    fn a_task_has_all_lists() {
        let wanted = json!({
            "id": "a.instance-1._app.1", "appId": "/a", "host": "h", "slaveId": "a-S0", "role": "*",
            "state": "TASK_RUNNING", "stagedAt": "2026-01-01T00:00:01.000Z",
            "startedAt": "2026-01-01T00:00:02.000Z", "version": "2026-01-01T00:00:00.123Z", "ports": [31000],
            "servicePorts": [], "ipAddresses": [], "healthCheckResults": [], "localVolumes": [],
        });
        assert_eq!(task(&running("/a", "1"), &[]), wanted);
    }

    #[test]
    fn marathon_c49_counts() {
        let waiting = Instance { condition: Condition::Scheduled.into(), ..Default::default() };
        let staged = Instance { mesos_state: String::new(), ..running("/a", "2") };
        let all = [running("/a", "1"), staged, waiting];
        assert_eq!(Counts::of(all.iter()), Counts { staged: 1, running: 1, healthy: 0, unhealthy: 0 });
    }
}
