//! Tasks: instances that were placed.

use meshos_proto::meshos::apps::v1::{Condition, HealthResult, Instance, IpAddress, check_result::Found};
use meshos_types::app_ports;
use serde::Serialize;
use serde_json::{Value, json};

use super::Stamp;
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
    use Condition::{Killing, Provisioned, Running, Staging, Starting, Unreachable};
    matches!(instance.condition(), Provisioned | Staging | Starting | Running | Killing | Unreachable)
}

/// A task as it is shown. There may be very many, so they are written out without a tree of values in between.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::marathon) struct Shown<'a> {
    id: &'a str,
    app_id: &'a str,
    host: &'a str,
    slave_id: &'a str,
    role: &'a str,
    state: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    staged_at: Option<Stamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<Stamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<Stamp>,
    ports: Vec<u32>,
    service_ports: Vec<u32>,
    ip_addresses: Vec<ShownAddress<'a>>,
    health_check_results: Vec<ShownHealth<'a>>,
    local_volumes: [(); 0],
    #[serde(skip_serializing_if = "Option::is_none")]
    check_result: Option<Value>,
    #[serde(skip_serializing_if = "str::is_empty")]
    region: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    zone: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownAddress<'a> {
    ip_address: &'a str,
    protocol: &'a str,
}

/// What a check found, as far as it is known.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownHealth<'a> {
    alive: bool,
    consecutive_failures: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_success: Option<Stamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_failure: Option<Stamp>,
    #[serde(skip_serializing_if = "str::is_empty")]
    last_failure_cause: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_success: Option<Stamp>,
    instance_id: &'a str,
}

impl<'a> Shown<'a> {
    /// Within its app.
    pub(in crate::marathon) fn new(instance: &'a Instance, health: &'a [HealthResult]) -> Self {
        let active = is_active(instance);
        let address = |ip: &'a IpAddress| ShownAddress { ip_address: &ip.address, protocol: &ip.protocol };
        let check_result = instance.check_result.as_ref().and_then(|result| result.found.as_ref());
        Self {
            id: &instance.task_id,
            app_id: &instance.app_id,
            host: &instance.host,
            slave_id: &instance.agent_id,
            role: &instance.role,
            state: state(instance),
            staged_at: time(instance.staged_at_ms).filter(|_| active),
            started_at: time(instance.started_at_ms).filter(|_| active),
            version: active.then_some(Stamp(instance.version_ms)),
            ports: if active { own_ports(instance).collect() } else { Vec::new() },
            service_ports: Vec::new(),
            ip_addresses: instance.ip_addresses.iter().map(address).collect(),
            health_check_results: health.iter().map(|found| shown_health(&instance.id, found)).collect(),
            local_volumes: [],
            check_result: check_result.map(shown_check),
            region: &instance.region,
            zone: &instance.zone,
        }
    }

    /// In `/v2/tasks`, with the app's service ports.
    pub(in crate::marathon) fn with_service_ports(apps: &'a Apps, instance: &'a Instance) -> Self {
        let app = apps.apps.get(&instance.app_id);
        let service_ports = app.into_iter().flat_map(app_ports).map(|port| port.service).collect();
        Self { service_ports, ..Self::new(instance, apps.health_of(&instance.id)) }
    }
}

/// None for 0: it has not come yet.
fn time(unix_ms: u64) -> Option<Stamp> {
    (unix_ms > 0).then_some(Stamp(unix_ms))
}

fn shown_health<'a>(instance_id: &'a str, found: &'a HealthResult) -> ShownHealth<'a> {
    ShownHealth {
        alive: found.alive,
        consecutive_failures: found.consecutive_failures,
        first_success: time(found.first_success_ms),
        last_failure: time(found.last_failure_ms),
        last_failure_cause: &found.last_failure_cause,
        last_success: time(found.last_success_ms),
        instance_id,
    }
}

fn shown_check(found: &Found) -> Value {
    match found {
        Found::HttpStatus(status) => json!({"http": {"statusCode": status}}),
        Found::TcpSucceeded(succeeded) => json!({"tcp": {"succeeded": succeeded}}),
        Found::ExitCode(code) => json!({"command": {"exitCode": code}}),
    }
}

/// A task within its app.
pub(in crate::marathon) fn task(instance: &Instance, health: &[HealthResult]) -> Value {
    json!(Shown::new(instance, health))
}

/// Ports of the host; those that a task has only in its own network are left out.
fn own_ports(instance: &Instance) -> impl Iterator<Item = u32> {
    instance.ports.iter().copied().filter(|port| *port != 0)
}

/// The same as JSON.
pub(in crate::marathon) fn host_ports(instance: &Instance) -> Value {
    own_ports(instance).map(|port| json!(port)).collect()
}

#[cfg(test)]
pub(in crate::marathon) mod tests {
    use meshos_proto::meshos::apps::v1::CheckResult;

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
    fn one_that_has_a_replacement_shows_no_ports() {
        let mut lost = running("/a", "1");
        lost.set_condition(Condition::Unreachable);
        assert_eq!(task(&lost, &[])["ports"], json!([31_000]));
        lost.set_condition(Condition::UnreachableInactive);
        let shown = task(&lost, &[]);
        assert_eq!((&shown["ports"], shown.get("version")), (&json!([]), None));
    }

    #[test]
    fn marathon_c49_counts() {
        let waiting = Instance { condition: Condition::Scheduled.into(), ..Default::default() };
        let staged = Instance { mesos_state: String::new(), ..running("/a", "2") };
        let all = [running("/a", "1"), staged, waiting];
        assert_eq!(Counts::of(all.iter()), Counts { staged: 1, running: 1, healthy: 0, unhealthy: 0 });
    }

    #[test]
    fn what_is_known_of_a_task_is_shown() {
        let instance = Instance {
            check_result: Some(CheckResult { found: Some(Found::HttpStatus(503)) }),
            region: "r1".to_owned(),
            zone: "z1".to_owned(),
            ..running("/a", "1")
        };
        let shown = task(&instance, &[]);
        assert_eq!(shown["checkResult"], json!({"http": {"statusCode": 503}}));
        assert_eq!((&shown["region"], &shown["zone"]), (&json!("r1"), &json!("z1")));
        assert_eq!(shown_check(&Found::TcpSucceeded(true)), json!({"tcp": {"succeeded": true}}));
        assert_eq!(shown_check(&Found::ExitCode(-1)), json!({"command": {"exitCode": -1}}));
    }
}
