//! Deployments.

use meshos_proto::meshos::apps::v1::{
    Action, ActionKind, Deployment, DeploymentMoment, DeploymentPhase, FinishedDeployment, Step,
};
use serde_json::{Value, json};

use super::{app::readiness_results, timestamp};
use crate::views::Apps;

/// In `/v2/deployments`.
pub(in crate::marathon) fn deployment(apps: &Apps, deployment: &Deployment) -> Value {
    shown(deployment, |app_id| readiness_results(apps, app_id))
}

/// `readiness` gives the results of an app.
fn shown(deployment: &Deployment, readiness: impl Fn(&str) -> Value) -> Value {
    let current =
        (deployment.current_step as usize).checked_sub(1).and_then(|step| deployment.steps.get(step));
    let running = |action: &Action| {
        json!({
            "action": name(action.kind()),
            "app": action.app_id,
            "readinessCheckResults": readiness(&action.app_id),
        })
    };
    let current: Value = current.into_iter().flat_map(|step| &step.actions).map(running).collect();
    json!({
        "id": deployment.id,
        "version": timestamp(deployment.version_ms),
        "affectedApps": deployment.affected_apps,
        "affectedPods": [],
        "steps": deployment.steps.iter().map(step).collect::<Value>(),
        "currentActions": current,
        "currentStep": deployment.current_step,
        "totalSteps": deployment.steps.len(),
    })
}

/// With what has happened to it, its limits, and what it undoes (beyond Marathon).
pub(in crate::marathon) fn details(apps: &Apps, found: &Deployment) -> Value {
    with_course(found, deployment(apps, found))
}

fn with_course(found: &Deployment, mut shown: Value) -> Value {
    shown["startedAt"] = json!(timestamp(found.started_at_ms));
    shown["history"] = found.history.iter().map(moment).collect();
    shown["failures"] = json!(found.failures);
    if found.deadline_ms > 0 {
        shown["deadline"] = json!(timestamp(found.deadline_ms));
    }
    if let Some(most) = found.max_failures {
        shown["maxFailures"] = json!(most);
    }
    if !found.rolls_back.is_empty() {
        shown["rollsBack"] = json!(found.rolls_back);
    }
    shown
}

/// One that ended (beyond Marathon).
pub(in crate::marathon) fn finished(finished: &FinishedDeployment) -> Value {
    let found = finished.deployment.clone().unwrap_or_default();
    let mut shown = with_course(&found, shown(&found, |_| json!([])));
    shown["currentActions"] = json!([]);
    shown["endedAt"] = json!(timestamp(finished.ended_at_ms));
    shown["outcome"] = json!(phase(finished.phase()));
    for (key, text) in [("reason", &finished.reason), ("rolledBackBy", &finished.rolled_back_by)] {
        if !text.is_empty() {
            shown[key] = json!(text);
        }
    }
    shown
}

fn moment(moment: &DeploymentMoment) -> Value {
    let mut shown = json!({
        "timestamp": timestamp(moment.timestamp_ms), "event": phase(moment.phase()), "step": moment.step,
    });
    if !moment.reason.is_empty() {
        shown["reason"] = json!(moment.reason);
    }
    shown
}

/// The name of its event without the part that all have.
fn phase(phase: DeploymentPhase) -> &'static str {
    match phase {
        DeploymentPhase::Info | DeploymentPhase::Unspecified => "step_started",
        DeploymentPhase::StepSuccess => "step_success",
        DeploymentPhase::StepFailure => "step_failure",
        DeploymentPhase::Success => "success",
        DeploymentPhase::Failed => "failed",
    }
}

/// What events tell of a deployment.
pub(in crate::marathon) fn plan(deployment: &Deployment) -> Value {
    json!({
        "id": deployment.id,
        "steps": steps(&deployment.steps),
        "version": timestamp(deployment.version_ms),
    })
}

/// The step that is under way.
pub(in crate::marathon) fn current_step(deployment: &Deployment) -> Value {
    let at = (deployment.current_step as usize).checked_sub(1);
    at.and_then(|at| deployment.steps.get(at)).map_or_else(|| json!({"actions": []}), step)
}

/// Steps of a plan.
pub(in crate::marathon) fn steps(steps: &[Step]) -> Value {
    steps.iter().map(step).collect()
}

fn step(step: &Step) -> Value {
    let action = |action: &Action| json!({"action": name(action.kind()), "app": action.app_id});
    json!({"actions": step.actions.iter().map(action).collect::<Value>()})
}

fn name(kind: ActionKind) -> &'static str {
    match kind {
        ActionKind::StartApplication => "StartApplication",
        ActionKind::StopApplication => "StopApplication",
        ActionKind::RestartApplication => "RestartApplication",
        ActionKind::ScaleApplication | ActionKind::Unspecified => "ScaleApplication",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_current_step_counts_from_one() {
        let action =
            |kind: ActionKind| Action { kind: kind.into(), app_id: "/a".into(), ..Default::default() };
        let steps = vec![
            Step { actions: vec![action(ActionKind::StartApplication)] },
            Step { actions: vec![action(ActionKind::ScaleApplication)] },
        ];
        let mut plan =
            Deployment { id: "d".into(), affected_apps: vec!["/a".into()], steps, ..Default::default() };
        let none = Apps::default();
        let shown = deployment(&none, &plan);
        assert_eq!((&shown["currentStep"], &shown["currentActions"]), (&json!(0), &json!([])));
        assert_eq!(shown["steps"][0], json!({"actions": [{"action": "StartApplication", "app": "/a"}]}));
        assert_eq!(shown["totalSteps"], 2);
        plan.current_step = 2;
        let wanted = json!([{"action": "ScaleApplication", "app": "/a", "readinessCheckResults": []}]);
        assert_eq!(deployment(&none, &plan)["currentActions"], wanted);
        plan.current_step = 99;
        assert_eq!(deployment(&none, &plan)["currentActions"], json!([]));
    }
}
