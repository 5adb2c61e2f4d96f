//! Instances: made, changed, removed, counted.

use meshos_proto::meshos::apps::v1::{Condition, Goal, Instance, Queue};
use meshos_types::{AppId, InstanceId};

use super::{
    AppState, Core,
    health::is_checked,
    members::{Class, Slot},
    occurrences,
    timers::Timer,
};

impl Core {
    /// One more copy of the app, waiting for an offer.
    pub(super) fn create_instance(&mut self, app_id: &str) {
        let Some(state) = self.apps.get(app_id) else { return };
        let Some(spec) = state.spec.clone() else { return };
        let Ok(path) = AppId::parse(app_id) else { return };
        let traceparent = state.deployment.as_ref().and_then(|id| self.deployments.get(id));
        let instance = Instance {
            format: 1,
            id: InstanceId::for_app(&path, &self.rng.uuid().to_string()).as_str().to_owned(),
            app_id: app_id.to_owned(),
            version_ms: spec.version_ms,
            condition: Condition::Scheduled.into(),
            goal: Goal::Running.into(),
            scheduled_at_ms: self.now,
            role: spec.role.clone(),
            traceparent: traceparent.map(|running| running.record.traceparent.clone()).unwrap_or_default(),
            ..Default::default()
        };
        self.asking.fresh = true;
        let id = instance.id.clone();
        self.tell_instance(&instance);
        // Not stored: a new leader makes what is missing.
        self.out.show_instance(&instance);
        self.instances.insert(id.clone(), instance);
        self.changed(&id);
    }

    /// Changes an instance; everything that depends on it follows.
    pub(super) fn update_instance(&mut self, id: &str, change: impl FnOnce(&mut Instance)) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let before = (instance.condition(), instance.goal());
        change(instance);
        let after = (instance.condition(), instance.goal());
        let told = (before != after).then(|| occurrences::changed(instance));
        if let Some(told) = told {
            self.occurred(told);
        }
        let Some(instance) = self.instances.get(id) else { return };
        if is_on_its_way(before) && is_on_its_way(after) && after.0 != Condition::Provisioned {
            // That it was launched is stored, and a new leader is told the rest.
            self.out.show_instance(instance);
        } else {
            self.out.put_instance(instance);
        }
        self.changed(id);
    }

    fn changed(&mut self, id: &str) {
        let Some(instance) = self.instances.get(id) else { return };
        self.dirty.insert(instance.app_id.clone());
        self.place(id);
    }

    /// Files the instance under what it does.
    pub(super) fn place(&mut self, id: &str) {
        let Some(instance) = self.instances.get(id) else { return };
        let app_id = instance.app_id.clone();
        let state = self.apps.entry(app_id.clone()).or_default();
        let checked = is_checked(state.definition(instance).as_deref());
        let slot = Slot::of(instance, state.is_current(instance), checked, state.deployment.is_some());
        state.members.place(id, slot);
        self.refresh_launchable(&app_id);
    }

    /// Files all instances of an app again, after its definition changed.
    pub(super) fn place_all(&mut self, app_id: &str) {
        let ids = self.apps.get(app_id).map(|state| state.members.ids()).unwrap_or_default();
        for id in ids {
            self.place(&id);
        }
        self.refresh_launchable(app_id);
    }

    /// Forgets an instance. Readers see its last condition first.
    pub(super) fn forget_instance(&mut self, id: &str) {
        let Some(instance) = self.instances.swap_remove(id) else { return };
        self.kills.remove(id);
        self.forget_health(id);
        self.forget_readiness(id);
        self.out.remove_instance(&instance);
        if let Some(state) = self.apps.get_mut(&instance.app_id) {
            state.members.remove(id);
        }
        self.refresh_launchable(&instance.app_id);
        self.dirty.insert(instance.app_id);
    }

    /// Ends an instance for good: its task is killed, then it is forgotten.
    pub(super) fn decommission(&mut self, id: &str) {
        let Some(instance) = self.instances.get(id) else { return };
        match instance.condition() {
            Condition::Scheduled => self.forget_instance(id),
            // Its end may never be heard of. Should it come back, it is an unknown task and is killed then.
            Condition::Unreachable | Condition::UnreachableInactive => {
                self.kill(id);
                self.forget_instance(id);
            }
            _ if instance.goal() == Goal::Decommissioned => {}
            _ => {
                self.update_instance(id, |instance| instance.set_goal(Goal::Decommissioned));
                self.kill(id);
            }
        }
    }

    /// Whether the app can launch something now, and what its place in the queue is.
    pub(super) fn refresh_launchable(&mut self, app_id: &str) {
        self.queue_dirty.insert(app_id.to_owned());
        let now = self.now;
        let Some(state) = self.apps.get_mut(app_id) else {
            self.launchable.remove(app_id);
            return;
        };
        let waiting = state.members.count(Class::Waiting);
        if waiting == 0 {
            state.waiting_since_ms = 0;
            state.tally = super::Tally::default();
            self.launchable.remove(app_id);
            return;
        }
        if state.waiting_since_ms == 0 {
            state.waiting_since_ms = now;
        }
        match state.backoff.until(now) {
            Some(until) => {
                self.launchable.remove(app_id);
                self.timers.set(until, Timer::App(app_id.to_owned()));
            }
            None => {
                if self.launchable.insert(app_id.to_owned()) {
                    self.asking.again = true;
                }
            }
        }
    }

    /// Publishes what changed in the queue.
    pub(super) fn publish_queue(&mut self) {
        for app_id in std::mem::take(&mut self.queue_dirty) {
            let entry = self.apps.get(&app_id).and_then(|state| self.queue_entry(&app_id, state));
            match entry {
                Some(entry) => {
                    if self.queue.get(&app_id) != Some(&entry) {
                        self.out.delta.queue.push(entry.clone());
                        self.queue.insert(app_id, entry);
                    }
                }
                None => {
                    if self.queue.remove(&app_id).is_some() {
                        self.out.delta.removed_queue.push(app_id);
                    }
                }
            }
        }
    }

    fn queue_entry(&self, app_id: &str, state: &AppState) -> Option<Queue> {
        let count = state.members.count(Class::Waiting);
        if count == 0 {
            return None;
        }
        let (refusals, last_refusals) = state.tally.named();
        Some(Queue {
            app_id: app_id.to_owned(),
            count: u32::try_from(count).unwrap_or(u32::MAX),
            since_ms: state.waiting_since_ms,
            delayed_until_ms: state.backoff.until(self.now).unwrap_or(0),
            role: state.spec.as_ref().map(|spec| spec.role.clone()).unwrap_or_default(),
            refusals,
            processed_offers: state.tally.processed,
            unused_offers: state.tally.unused,
            last_used_offer_ms: state.tally.last_used_ms,
            last_unused_offer_ms: state.tally.last_unused_ms,
            last_refusals,
        })
    }
}

/// Whether a task was launched and does not run yet.
fn is_on_its_way((condition, goal): (Condition, Goal)) -> bool {
    let launched = matches!(condition, Condition::Provisioned | Condition::Staging | Condition::Starting);
    launched && goal == Goal::Running
}
