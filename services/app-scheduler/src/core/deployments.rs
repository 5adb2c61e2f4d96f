//! Carrying deployments out. Each action is a function of what is there now, so a new leader just goes on.

use std::collections::{BTreeMap, BTreeSet};

use meshos_proto::meshos::apps::v1::{ActionKind, Deployment, DeploymentPhase as Phase, Instance};
use tracing::info;

use super::{Core, finished, members::Class, timers::Timer};
use crate::deployment::{
    kill_selection::{self, Rule},
    upgrade::{self, Counts, Limits},
};

/// Instances of one app that one input makes or ends: a large change takes many, and others come in between.
const AT_ONCE: usize = 1000;
/// Launches of one app that no agent has said anything of yet, before more are made. Fewer would cost more: then each
/// agent gets one task at a time.
const MOST_SENT: usize = 10 * AT_ONCE;
/// Instances of one app that are on their way out, before the next ones go more slowly: calls to kill wait in a queue
/// that has an end.
const MOST_DYING: usize = 10 * AT_ONCE;
/// Until the next ones then. Not until those before are gone: a task may take as long as it likes to end.
const LONG_PAUSE_MS: u64 = 1000;
/// Until the next ones: about as fast as they can be launched or killed, so that no more calls wait than there is room for.
const PAUSE_MS: u64 = 40;
/// Of those that exist, the classes that are not ready.
const UNREADY: [Class; 4] = [Class::Waiting, Class::Sent, Class::Launched, Class::Unreachable];

/// A deployment that is under way.
#[derive(Debug)]
pub(super) struct Running {
    pub record: Deployment,
    /// Apps whose action of the current step is not done.
    pub pending: BTreeMap<String, ActionKind>,
}

impl Running {
    /// The actions of the current step.
    fn step_actions(record: &Deployment) -> BTreeMap<String, ActionKind> {
        let at = (record.current_step as usize).checked_sub(1);
        let actions = at.and_then(|at| record.steps.get(at)).into_iter().flat_map(|step| &step.actions);
        actions.map(|action| (action.app_id.clone(), action.kind())).collect()
    }

    /// As it was stored.
    pub(super) fn restored(record: Deployment) -> Self {
        Self { pending: Self::step_actions(&record), record }
    }

    pub(super) fn action(&self, app_id: &str) -> Option<ActionKind> {
        self.pending.get(app_id).copied()
    }
}

impl Core {
    pub(super) fn start_deployment(&mut self, record: Deployment) {
        self.out.deployments_started += 1;
        let id = record.id.clone();
        if record.steps.is_empty() {
            self.tell_deployment(&record, Phase::Success, "");
            self.keep_finished(&record, Phase::Success, "", "");
            self.out.delta.deployments.push(record);
            self.out.delta.removed_deployments.push(id);
            return;
        }
        for app_id in &record.affected_apps {
            self.apps.entry(app_id.clone()).or_default().deployment = Some(id.clone());
        }
        info!(deployment_id = id, steps = record.steps.len(), "deployment started");
        self.watch_deadline(&record);
        let affected = record.affected_apps.clone();
        self.deployments.insert(id.clone(), Running { record, pending: BTreeMap::new() });
        affected.iter().for_each(|app_id| self.watch_readiness_of(app_id));
        self.next_step(&id);
    }

    /// Begins the next step, or ends the deployment after the last.
    pub(super) fn next_step(&mut self, id: &str) {
        let Some(running) = self.deployments.get_mut(id) else { return };
        if running.record.current_step as usize >= running.record.steps.len() {
            info!(deployment_id = id, "deployment done");
            let record = running.record.clone();
            self.tell_deployment(&record, Phase::Success, "");
            self.keep_finished(&record, Phase::Success, "", "");
            self.end_deployment(id);
            return;
        }
        running.record.current_step += 1;
        finished::note(&mut running.record, self.now, Phase::Info, "");
        running.pending = Running::step_actions(&running.record);
        let pending: Vec<String> = running.pending.keys().cloned().collect();
        let record = running.record.clone();
        if record.current_step == 1 {
            self.out.put_deployment(&record);
        } else {
            self.out.update_deployment(&record);
        }
        self.tell_deployment(&record, Phase::Info, "");
        pending.iter().for_each(|app_id| self.tell_checks(app_id));
        self.dirty.extend(pending);
    }

    /// Ends a deployment early; tasks and definitions stay as they are. With `hold` surplus tasks stay a while. `by`
    /// is the deployment that undoes it, or empty.
    pub(super) fn stop_deployment(&mut self, id: &str, hold: bool, by: &str) {
        let Some(running) = self.deployments.get(id) else { return };
        info!(deployment_id = id, "deployment stopped");
        let affected = running.record.affected_apps.clone();
        self.fail_deployment(id, "The upgrade has been cancelled", by);
        let until = self.now.saturating_add(self.settings.args.scale_apps_interval_ms);
        for app_id in affected.iter().filter(|_| hold) {
            if let Some(state) = self.apps.get_mut(app_id) {
                state.hold_surplus_until_ms = until;
            }
        }
    }

    /// Ends a deployment that did not succeed.
    pub(super) fn fail_deployment(&mut self, id: &str, reason: &str, by: &str) {
        let Some(running) = self.deployments.get(id) else { return };
        let record = running.record.clone();
        self.tell_deployment(&record, Phase::Failed, reason);
        self.keep_finished(&record, Phase::Failed, reason, by);
        self.end_deployment(id);
    }

    fn end_deployment(&mut self, id: &str) {
        let Some(running) = self.deployments.remove(id) else { return };
        self.out.remove_deployment(&running.record);
        for app_id in running.record.affected_apps {
            if let Some(state) = self.apps.get_mut(&app_id) {
                state.deployment.take_if(|lock| lock == id);
            }
            self.end_readiness_of(&app_id);
            self.dirty.insert(app_id);
        }
    }

    /// Brings one app nearer to what is wanted: by its deployment, or to its number of instances without one.
    pub(super) fn reconcile_app(&mut self, app_id: &str) {
        let Some(state) = self.apps.get(app_id) else { return };
        let instances = state.spec.as_ref().map(|spec| spec.instances as usize);
        match (state.deployment.clone(), instances) {
            (Some(id), _) => {
                let action = self.deployments.get(&id).and_then(|running| running.action(app_id));
                if let Some(kind) = action
                    && self.act(kind, app_id)
                {
                    if kind == ActionKind::StopApplication {
                        self.tell_app_terminated(app_id);
                    }
                    self.action_done(&id, app_id);
                }
            }
            (None, Some(instances)) => {
                self.scale(app_id, instances);
            }
            (None, None) => {
                self.stop(app_id);
            }
        }
        let gone = |state: &super::AppState| {
            state.spec.is_none() && state.members.is_empty() && state.deployment.is_none()
        };
        if self.apps.get(app_id).is_some_and(gone) {
            self.apps.remove(app_id);
            self.refresh_launchable(app_id);
        }
    }

    fn action_done(&mut self, id: &str, app_id: &str) {
        self.tell_checks_gone(app_id);
        if let Some(running) = self.deployments.get_mut(id) {
            running.pending.remove(app_id);
            if running.pending.is_empty() {
                finished::note(&mut running.record, self.now, Phase::StepSuccess, "");
                let record = running.record.clone();
                self.tell_deployment(&record, Phase::StepSuccess, "");
                self.next_step(id);
            }
        }
    }

    /// One move of an action; whether it is done.
    fn act(&mut self, kind: ActionKind, app_id: &str) -> bool {
        let instances = self.spec(app_id).map_or(0, |spec| spec.instances as usize);
        match kind {
            ActionKind::StopApplication => self.stop(app_id),
            ActionKind::ScaleApplication => self.scale(app_id, instances),
            ActionKind::RestartApplication => self.roll(app_id, instances),
            ActionKind::StartApplication | ActionKind::Unspecified => true,
        }
    }

    fn stop(&mut self, app_id: &str) -> bool {
        self.end_some(app_id);
        self.apps.get(app_id).is_none_or(|state| state.members.is_empty())
    }

    /// Ends instances, whichever, until none is left.
    fn end_some(&mut self, app_id: &str) {
        let Some(state) = self.may_end(app_id) else { return };
        let ids = state.members.staying(AT_ONCE);
        self.end_more_if(ids.len() == AT_ONCE, app_id);
        for id in ids {
            self.decommission(&id);
        }
    }

    /// The app is looked at again before long; no more of its instances are made until then.
    fn go_on_if(&mut self, more: bool, app_id: &str) {
        if let Some(state) = self.apps.get_mut(app_id).filter(|_| more) {
            state.paused_until_ms = self.now.saturating_add(PAUSE_MS);
            self.timers.set(state.paused_until_ms, Timer::App(app_id.to_owned()));
        }
    }

    /// As [`Self::go_on_if`], for those that end: what is to be made need not wait for them.
    fn end_more_if(&mut self, more: bool, app_id: &str) {
        if let Some(state) = self.apps.get_mut(app_id).filter(|_| more) {
            let many = state.members.count(Class::Dying) > MOST_DYING;
            let pause_ms = if many { LONG_PAUSE_MS } else { PAUSE_MS };
            state.kills_paused_until_ms = self.now.saturating_add(pause_ms);
            self.timers.set(state.kills_paused_until_ms, Timer::App(app_id.to_owned()));
        }
    }

    /// The app, unless its next instances to end have to wait.
    fn may_end(&self, app_id: &str) -> Option<&super::AppState> {
        self.apps.get(app_id).filter(|state| state.kills_paused_until_ms <= self.now)
    }

    /// Makes instances, some of them at once.
    fn create_instances(&mut self, app_id: &str, count: usize) {
        let Some(state) = self.apps.get(app_id).filter(|state| state.paused_until_ms <= self.now) else {
            return;
        };
        // Agents have to keep up: else what a user says next comes behind launches that are on their way.
        if count > 0 && state.members.count(Class::Sent) > MOST_SENT {
            return self.go_on_if(true, app_id);
        }
        self.go_on_if(count > AT_ONCE, app_id);
        for _ in 0..count.min(AT_ONCE) {
            self.create_instance(app_id);
        }
    }

    fn scale(&mut self, app_id: &str, target: usize) -> bool {
        let Some(state) = self.apps.get(app_id) else { return true };
        let existing = state.members.existing();
        let hold = state.hold_surplus_until_ms;
        if existing > target && hold > self.now {
            self.timers.set(hold, Timer::App(app_id.to_owned()));
        } else if existing > target && target == 0 {
            self.end_some(app_id);
        } else if existing > target {
            self.shrink(app_id, existing - target, None);
        } else {
            self.create_instances(app_id, target - existing);
        }
        let Some(state) = self.apps.get(app_id) else { return true };
        let members = &state.members;
        members.existing() == target
            && members.count(Class::Ready) == target
            && members.count(Class::Dying) == 0
    }

    /// Ends `count` instances, of one configuration only where that is given.
    fn shrink(&mut self, app_id: &str, count: usize, current: Option<bool>) {
        let Some(state) = self.may_end(app_id) else { return };
        let Some(spec) = state.spec.clone() else { return };
        let ids = state.members.existing_ids(current);
        let instances: Vec<&Instance> = ids.iter().filter_map(|id| self.instances.get(id)).collect();
        let grouped = spec.constraints.iter().filter(|constraint| constraint.operator == "GROUP_BY");
        let group_by: Vec<String> = grouped.map(|constraint| constraint.field.clone()).collect();
        let rule = Rule { named: &BTreeSet::new(), selection: spec.kill_selection(), group_by: &group_by };
        // The choice looks at all of them: fewer rounds than elsewhere.
        let chosen = kill_selection::select(&instances, count.min(5 * AT_ONCE), rule);
        self.end_more_if(count > chosen.len(), app_id);
        for id in chosen {
            self.decommission(&id);
        }
    }

    /// One move of a rolling restart.
    fn roll(&mut self, app_id: &str, target: usize) -> bool {
        let Some(state) = self.apps.get(app_id) else { return true };
        let Some(spec) = state.spec.clone() else { return true };
        let members = &state.members;
        let unready =
            |current| UNREADY.map(|class| members.count_config(class, current)).iter().sum::<usize>();
        let counts = Counts {
            old_ready: members.count_config(Class::Ready, false),
            old_unready: unready(false) + members.count_config(Class::Inactive, false),
            new_ready: members.count_config(Class::Ready, true),
            new_unready: unready(true),
            dying: members.count(Class::Dying),
        };
        let strategy = spec.upgrade_strategy.unwrap_or_default();
        let limits = Limits::new(target, strategy.minimum_health_capacity, strategy.maximum_over_capacity);
        let moves = upgrade::next(target, limits, counts);
        self.end_old(app_id, moves.kill_ready_old);
        if moves.kill_new > 0 {
            self.shrink(app_id, moves.kill_new, Some(true));
        }
        self.create_instances(app_id, moves.start);
        moves.done
    }

    /// Ends instances of former configurations: those that are not ready, and up to `ready` of the others.
    fn end_old(&mut self, app_id: &str, ready: usize) {
        let Some(state) = self.may_end(app_id) else { return };
        let mut old = state.members.some(Class::Ready, false, ready.min(AT_ONCE));
        for class in UNREADY.into_iter().chain([Class::Inactive]) {
            old.extend(state.members.some(class, false, AT_ONCE));
        }
        self.end_more_if(old.len() >= AT_ONCE, app_id);
        for id in old {
            self.decommission(&id);
        }
    }
}
