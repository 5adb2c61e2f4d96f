//! Deployments.

use meshos_proto::meshos::apps::v1::{Action, ActionKind, Deployment, Step};
use serde_json::{Value, json};

use super::timestamp;

/// In `/v2/deployments`.
pub(in crate::marathon) fn deployment(deployment: &Deployment) -> Value {
    let current =
        (deployment.current_step as usize).checked_sub(1).and_then(|step| deployment.steps.get(step));
    let running = |action: &Action| json!({"action": name(action.kind()), "app": action.app_id, "readinessCheckResults": []});
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
        let shown = deployment(&plan);
        assert_eq!((&shown["currentStep"], &shown["currentActions"]), (&json!(0), &json!([])));
        assert_eq!(shown["steps"][0], json!({"actions": [{"action": "StartApplication", "app": "/a"}]}));
        assert_eq!(shown["totalSteps"], 2);
        plan.current_step = 2;
        let wanted = json!([{"action": "ScaleApplication", "app": "/a", "readinessCheckResults": []}]);
        assert_eq!(deployment(&plan)["currentActions"], wanted);
        plan.current_step = 99;
        assert_eq!(deployment(&plan)["currentActions"], json!([]));
    }
}
