//! What happened, as the events of `/v2/events`. Pure.

use meshos_proto::meshos::apps::v1::{
    Condition, DeploymentChanged, DeploymentPhase, Instance, Occurrence, SchedulerConnection,
    TaskStatusChanged, occurrence::What,
};
use serde_json::{Value, json};

use crate::marathon::render::{
    app::health_check,
    deployment::{current_step, plan},
    task::host_ports,
    timestamp,
};

/// Type of an event; none for what this version does not know.
pub(super) fn kind(occurrence: &Occurrence) -> Option<&'static str> {
    Some(match occurrence.what.as_ref()? {
        What::TaskStatus(_) => "status_update_event",
        What::Instance(_) => "instance_changed_event",
        What::Deployment(changed) => match changed.phase() {
            DeploymentPhase::Info => "deployment_info",
            DeploymentPhase::StepSuccess => "deployment_step_success",
            DeploymentPhase::StepFailure => "deployment_step_failure",
            DeploymentPhase::Success => "deployment_success",
            DeploymentPhase::Failed => "deployment_failed",
            DeploymentPhase::Unspecified => return None,
        },
        What::Group(group) if group.failure.is_empty() => "group_change_success",
        What::Group(_) => "group_change_failed",
        What::AppTerminated(_) => "app_terminated_event",
        What::UnknownInstanceTerminated(_) => "unknown_instance_terminated_event",
        What::HealthStatus(_) => "health_status_changed_event",
        What::InstanceHealth(_) => "instance_health_changed_event",
        What::FailedHealthCheck(_) => "failed_health_check_event",
        What::UnhealthyKill(_) => "unhealthy_instance_kill_event",
        What::HealthCheckAdded(_) => "add_health_check_event",
        What::HealthChecksRemoved(_) => "remove_health_check_event",
        What::FrameworkMessage(_) => "framework_message_event",
        What::Scheduler(connection) => match connection.event.as_str() {
            "registered" => "scheduler_registered_event",
            "reregistered" => "scheduler_reregistered_event",
            "disconnected" => "scheduler_disconnected_event",
            _ => return None,
        },
    })
}

/// Body of an event that has a type.
pub(super) fn body(occurrence: &Occurrence, master: &str) -> Option<Value> {
    let mut body = match occurrence.what.as_ref()? {
        What::TaskStatus(status) => status_update(status)?,
        What::Instance(changed) => instance_changed(changed.instance.as_ref()?),
        What::Deployment(changed) => deployment(changed)?,
        What::Group(group) => {
            let mut body = json!({"groupId": group.group_id, "version": timestamp(group.version_ms)});
            if !group.failure.is_empty() {
                body["reason"] = json!(group.failure);
            }
            body
        }
        What::AppTerminated(app_id) => json!({"appId": app_id}),
        What::UnknownInstanceTerminated(unknown) => json!({
            "instanceId": unknown.instance_id,
            "runSpecId": unknown.app_id,
            "condition": condition(unknown.condition()),
        }),
        What::HealthStatus(changed) => {
            let instance = changed.instance.as_ref()?;
            json!({
                "appId": instance.app_id,
                "instanceId": instance.id,
                "version": timestamp(instance.version_ms),
                "alive": changed.alive,
            })
        }
        What::InstanceHealth(instance) => json!({
            "instanceId": instance.id,
            "runSpecId": instance.app_id,
            "healthy": instance.healthy,
            "runSpecVersion": timestamp(instance.version_ms),
        }),
        What::FailedHealthCheck(failed) => {
            let instance = failed.instance.as_ref()?;
            let check = failed.check.as_ref().map(health_check);
            // The field named after the task holds the instance, as upstream.
            json!({"appId": instance.app_id, "taskId": instance.id, "healthCheck": check})
        }
        What::UnhealthyKill(kill) => {
            let instance = kill.instance.as_ref()?;
            json!({
                "appId": instance.app_id,
                "taskId": instance.task_id,
                "instanceId": instance.id,
                "version": timestamp(instance.version_ms),
                "reason": kill.reason,
                "host": instance.host,
                "slaveId": instance.agent_id,
            })
        }
        What::HealthCheckAdded(added) => {
            let check = added.check.as_ref().map(health_check);
            json!({"appId": added.app_id, "healthCheck": check, "version": timestamp(added.version_ms)})
        }
        What::HealthChecksRemoved(app_id) => json!({"appId": app_id}),
        What::FrameworkMessage(message) => {
            let bytes: Vec<u8> = message.message.to_vec();
            json!({"slaveId": message.agent_id, "executorId": message.executor_id, "message": bytes})
        }
        What::Scheduler(connection) => scheduler(connection, master),
    };
    stamp(&mut body, kind(occurrence)?, occurrence.timestamp_ms);
    Some(body)
}

/// What every event says.
pub(super) fn stamp(body: &mut Value, kind: &str, timestamp_ms: u64) {
    body["eventType"] = json!(kind);
    body["timestamp"] = json!(timestamp(timestamp_ms));
}

fn status_update(status: &TaskStatusChanged) -> Option<Value> {
    let instance = status.instance.as_ref()?;
    let addresses = instance.ip_addresses.iter();
    let addresses: Value =
        addresses.map(|ip| json!({"ipAddress": ip.address, "protocol": ip.protocol})).collect();
    Some(json!({
        "slaveId": instance.agent_id,
        "taskId": instance.task_id,
        "taskStatus": status.state,
        "message": status.message,
        "appId": instance.app_id,
        "host": instance.host,
        "ipAddresses": addresses,
        "ports": host_ports(instance),
        "version": timestamp(instance.version_ms),
    }))
}

fn instance_changed(instance: &Instance) -> Value {
    let mut body = json!({
        "instanceId": instance.id,
        "condition": condition(instance.condition()),
        "runSpecId": instance.app_id,
        "runSpecVersion": timestamp(instance.version_ms),
    });
    for (key, value) in [("agentId", &instance.agent_id), ("host", &instance.host)] {
        if !value.is_empty() {
            body[key] = json!(value);
        }
    }
    body
}

fn deployment(changed: &DeploymentChanged) -> Option<Value> {
    let deployment = changed.deployment.as_ref()?;
    Some(match changed.phase() {
        DeploymentPhase::Success => json!({"id": deployment.id, "plan": plan(deployment)}),
        DeploymentPhase::Failed => {
            json!({"id": deployment.id, "plan": plan(deployment), "reason": changed.reason})
        }
        _ => json!({"plan": plan(deployment), "currentStep": current_step(deployment)}),
    })
}

fn scheduler(connection: &SchedulerConnection, master: &str) -> Value {
    let master = if connection.master.is_empty() { master } else { &connection.master };
    match connection.event.as_str() {
        "registered" => json!({"frameworkId": connection.framework_id, "master": master}),
        "reregistered" => json!({"master": master}),
        _ => json!({}),
    }
}

fn condition(condition: Condition) -> &'static str {
    match condition {
        Condition::Scheduled => "Scheduled",
        Condition::Provisioned => "Provisioned",
        Condition::Staging => "Staging",
        Condition::Starting => "Starting",
        Condition::Running => "Running",
        Condition::Killing => "Killing",
        Condition::Unreachable => "Unreachable",
        Condition::UnreachableInactive => "UnreachableInactive",
        Condition::Error => "Error",
        Condition::Failed => "Failed",
        Condition::Finished => "Finished",
        Condition::Killed => "Killed",
        Condition::Gone => "Gone",
        Condition::Dropped => "Dropped",
        Condition::Unknown | Condition::Unspecified => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use meshos_proto::meshos::apps::v1::{Deployment, GroupChanged, InstanceChanged};

    use super::*;
    use crate::marathon::render::task::tests::running;

    fn shown(what: What) -> (&'static str, Value) {
        let occurrence = Occurrence { timestamp_ms: 1_767_225_600_123, what: Some(what) };
        (kind(&occurrence).unwrap(), body(&occurrence, "http://m:5050").unwrap())
    }

    #[test]
    fn every_event_has_its_type_and_time() {
        let (kind, body) = shown(What::AppTerminated("/a".into()));
        let wanted = json!({
            "appId": "/a", "eventType": "app_terminated_event", "timestamp": "2026-01-01T00:00:00.123Z",
        });
        assert_eq!((kind, body), ("app_terminated_event", wanted));
        assert_eq!(super::kind(&Occurrence::default()), None);
    }

    #[test]
    fn tasks_and_instances() {
        let status = TaskStatusChanged {
            instance: Some(running("/a", "1")),
            state: "TASK_RUNNING".into(),
            message: "m".into(),
        };
        let (_, body) = shown(What::TaskStatus(status));
        assert_eq!((&body["taskStatus"], &body["ports"]), (&json!("TASK_RUNNING"), &json!([31_000])));
        let (_, body) = shown(What::Instance(InstanceChanged { instance: Some(running("/a", "1")) }));
        assert_eq!((&body["condition"], &body["host"]), (&json!("Running"), &json!("h")));
        let waiting = Instance { condition: Condition::Scheduled.into(), ..Default::default() };
        let (_, body) = shown(What::Instance(InstanceChanged { instance: Some(waiting) }));
        assert!(body.get("host").is_none());
    }

    #[test]
    fn groups_deployments_and_the_scheduler() {
        let failed = GroupChanged { group_id: "/".into(), version_ms: 1, failure: "no".into() };
        assert_eq!(shown(What::Group(failed)).1["reason"], "no");
        let mut changed = DeploymentChanged {
            deployment: Some(Deployment { id: "d".into(), ..Default::default() }),
            reason: "why".into(),
            ..Default::default()
        };
        changed.set_phase(DeploymentPhase::Failed);
        let (kind, body) = shown(What::Deployment(changed));
        assert_eq!(
            (kind, &body["plan"]["id"], &body["reason"]),
            ("deployment_failed", &json!("d"), &json!("why"))
        );
        let connection = SchedulerConnection { event: "registered".into(), ..Default::default() };
        assert_eq!(shown(What::Scheduler(connection)).1["master"], "http://m:5050");
    }
}
