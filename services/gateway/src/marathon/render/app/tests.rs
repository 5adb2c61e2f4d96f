use super::*;
use crate::marathon::read;
use meshos_proto::meshos::apps::v1::{
    ExecutorResources, HealthCheck, HealthProtocol, HttpTaskCheck, ReadinessCheck, TaskCheck,
    UpgradeStrategy, task_check::Kind,
};

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
        upgrade_strategy: Some(UpgradeStrategy { minimum_health_capacity: 1.0, maximum_over_capacity: 1.0 }),
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
        constraints: vec![Constraint { field: "hostname".into(), operator: "UNIQUE".into(), value: None }],
        fetch: vec![Fetch { uri: "http://h/x".into(), extract: true, ..Default::default() }],
        dependencies: vec!["/b".to_owned()],
        accepted_resource_roles: vec!["*".to_owned()],
        kill_grace_period_s: Some(3),
        user: Some("u".to_owned()),
        executor_resources: Some(ExecutorResources { cpus: 0.5, mem: 64.0, disk: 10.0 }),
        check: Some(TaskCheck {
            kind: Some(Kind::Http(HttpTaskCheck { port: Some(80), https: true, ..Default::default() })),
            interval_s: 1,
            timeout_s: 2,
            delay_s: 3,
        }),
        ..minimal("/a")
    };
    let update = read::app(&Value::Object(definition(&app))).unwrap();
    assert_eq!(update.args.unwrap().items, app.args);
    assert_eq!(update.env.unwrap().items, app.env);
    assert_eq!(update.env_secrets.unwrap().items, app.env_secrets);
    assert_eq!(update.secrets.unwrap().items, app.secrets);
    assert_eq!((update.executor_resources, &update.check), (app.executor_resources, &app.check));
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
