//! Deployments that ended: kept for a while with what happened to them. And limits of those that run: past them a
//! deployment is rolled back by itself.

use std::collections::BTreeMap;

use meshos_proto::meshos::apps::v1::{
    Deployment, DeploymentLimits, DeploymentMoment, DeploymentPhase as Phase, FinishedDeployment,
};
use tracing::{info, warn};

use super::{Core, apps::reverting, change::Batch, timers::Timer};

/// Moments of one deployment that are kept.
const MOMENTS: usize = 200;
/// Apps, and actions, of an ended deployment that are kept.
const MOST_APPS: usize = 1000;
/// How long an ended deployment is kept, at most.
const KEEP_MS: u64 = 24 * 3_600_000;

/// Ended deployments by id, and the order in which they ended.
#[derive(Debug, Default)]
pub(super) struct Finished {
    by_id: BTreeMap<String, FinishedDeployment>,
    by_end: BTreeMap<(u64, String), ()>,
}

impl Finished {
    pub(super) fn insert(&mut self, finished: FinishedDeployment) {
        let id = finished.deployment.as_ref().map(|one| one.id.clone()).unwrap_or_default();
        self.by_end.insert((finished.ended_at_ms, id.clone()), ());
        self.by_id.insert(id, finished);
    }

    /// The oldest, when there are more than `most`, or when it ended before `before_ms`.
    fn pop(&mut self, most: usize, before_ms: u64) -> Option<String> {
        let ((ended, _), ()) = self.by_end.first_key_value()?;
        if self.by_id.len() <= most && *ended >= before_ms {
            return None;
        }
        let ((_, id), ()) = self.by_end.pop_first()?;
        self.by_id.remove(&id);
        Some(id)
    }
}

/// Adds what happened now; the oldest gives way, but not the first.
pub(super) fn note(record: &mut Deployment, now_ms: u64, phase: Phase, reason: &str) {
    let (step, reason) = (record.current_step, reason.to_owned());
    record.history.push(DeploymentMoment { timestamp_ms: now_ms, phase: phase.into(), step, reason });
    if record.history.len() > MOMENTS {
        record.history.remove(1);
    }
}

impl Core {
    /// Keeps what remains of a deployment that ended.
    pub(super) fn keep_finished(&mut self, record: &Deployment, phase: Phase, reason: &str, by: &str) {
        let mut deployment = record.clone();
        note(&mut deployment, self.now, phase, reason);
        deployment.originals.clear();
        deployment.targets.clear();
        deployment.affected_apps.truncate(MOST_APPS);
        let mut room = MOST_APPS;
        deployment.steps.retain_mut(|step| {
            step.actions.truncate(room);
            room -= step.actions.len();
            !step.actions.is_empty()
        });
        let finished = FinishedDeployment {
            format: 1,
            deployment: Some(deployment),
            phase: phase.into(),
            reason: reason.to_owned(),
            ended_at_ms: self.now,
            rolled_back_by: by.to_owned(),
        };
        self.out.put_finished(&finished);
        self.finished.insert(finished);
        self.drop_finished();
    }

    fn drop_finished(&mut self) {
        let most = self.settings.args.finished_deployments;
        let before_ms = self.now.saturating_sub(KEEP_MS);
        while let Some(id) = self.finished.pop(most, before_ms) {
            self.out.remove_finished(&id);
        }
    }

    /// Sets the limits that the request names.
    pub(super) fn limit(&self, record: &mut Deployment, limits: Option<&DeploymentLimits>) {
        record.started_at_ms = self.now;
        let Some(limits) = limits else { return };
        let deadline = limits.deadline_s.map(|s| self.now.saturating_add(s.saturating_mul(1000)));
        record.deadline_ms = deadline.unwrap_or_default();
        record.max_failures = limits.max_failures;
    }

    pub(super) fn watch_deadline(&mut self, record: &Deployment) {
        if record.deadline_ms > 0 {
            self.timers.set(record.deadline_ms, Timer::Deadline(record.id.clone()));
        }
    }

    pub(super) fn deadline_passed(&mut self, id: &str) {
        let late = |record: &Deployment| record.deadline_ms > 0 && record.deadline_ms <= self.now;
        if self.deployments.get(id).is_some_and(|running| late(&running.record)) {
            self.roll_back_by_itself(id, "The deadline of the deployment has passed");
        }
    }

    /// A task of the app failed, or was unhealthy, while it was deployed.
    pub(super) fn count_failure(&mut self, app_id: &str) {
        let Some(id) = self.apps.get(app_id).and_then(|state| state.deployment.clone()) else { return };
        let Some(running) = self.deployments.get_mut(&id) else { return };
        let Some(most) = running.record.max_failures else { return };
        running.record.failures = running.record.failures.saturating_add(1);
        let (failures, record) = (running.record.failures, running.record.clone());
        self.out.update_deployment(&record);
        if failures > most {
            let reason = format!("{failures} tasks failed, and the deployment may have {most} failures");
            self.roll_back_by_itself(&id, &reason);
        }
    }

    fn roll_back_by_itself(&mut self, id: &str, reason: &str) {
        let Some(running) = self.deployments.get(id) else { return };
        info!(deployment_id = id, reason, "deployment is rolled back");
        let record = running.record.clone();
        self.tell_deployment(&record, Phase::StepFailure, reason);
        let by = self.rng.uuid().to_string();
        self.fail_deployment(id, reason, &by);
        let batch = Batch {
            deployment_id: Some(by),
            rolls_back: id.to_owned(),
            ..Batch::of(reverting(&record), true)
        };
        if let Err(refusal) = self.change(batch, &record.traceparent) {
            warn!(deployment_id = id, %refusal, "deployment cannot be rolled back");
        }
    }
}
