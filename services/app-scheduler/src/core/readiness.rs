//! Readiness checks: during a deployment a new task counts only once its check has succeeded.
//!
//! Whether it has is part of the instance's record, so that a new leader asks only those that were not ready yet.

use meshos_proto::meshos::apps::v1::{
    Condition, Instance, InstanceReadiness, ReadinessCheck, ReadinessResponse,
};
use meshos_types::{AppPort, app_port, app_ports};

use super::{AppState, Core, timers::Timer};

/// One request to make. Its result comes back as [`super::Input::ReadinessProbed`].
#[derive(Clone, Debug, PartialEq)]
pub struct ReadinessProbe {
    pub instance_id: String,
    pub incarnation: u32,
    pub check: ReadinessCheck,
    pub host: String,
    pub port: u16,
    /// When it was due.
    pub due_ms: u64,
}

impl AppState {
    /// The check that a task which comes up now has to pass before it counts.
    pub(super) fn readiness_check(&self, instance: &Instance) -> Option<ReadinessCheck> {
        let spec = self.spec.as_ref().filter(|_| self.deployment.is_some() && self.is_current(instance))?;
        spec.readiness_checks.first().cloned()
    }
}

impl Core {
    /// The instance's check, while it has to pass.
    fn awaited(&self, instance: &Instance) -> Option<ReadinessCheck> {
        if instance.ready != Some(false) || instance.condition() != Condition::Running {
            return None;
        }
        self.apps.get(&instance.app_id)?.readiness_check(instance)
    }

    /// Asks the task from now on, if it has to become ready.
    pub(super) fn watch_readiness(&mut self, id: &str) {
        let Some(incarnation) = self.instances.get(id).map(|instance| instance.incarnation) else { return };
        self.readiness_due(id, incarnation);
    }

    /// The same for all of an app whose deployment begins or goes on.
    pub(super) fn watch_readiness_of(&mut self, app_id: &str) {
        let Some(state) = self.apps.get(app_id) else { return };
        if state.spec.as_ref().is_none_or(|spec| spec.readiness_checks.is_empty()) {
            return;
        }
        for id in state.members.ids() {
            self.watch_readiness(&id);
            self.place(&id);
        }
    }

    /// The app's deployment is over: all that runs counts.
    pub(super) fn end_readiness_of(&mut self, app_id: &str) {
        let Some(state) = self.apps.get(app_id) else { return };
        if !state.spec.iter().chain(state.versions.values()).any(|app| !app.readiness_checks.is_empty()) {
            return;
        }
        for id in state.members.ids() {
            self.forget_readiness(&id);
            if self.instances.get(&id).is_some_and(|instance| instance.ready == Some(false)) {
                self.place(&id);
            }
        }
    }

    pub(super) fn forget_readiness(&mut self, id: &str) {
        if self.readiness.remove(id) {
            let removed =
                InstanceReadiness { instance_id: id.to_owned(), removed: true, ..Default::default() };
            self.out.delta.readiness.push(removed);
        }
    }

    pub(super) fn readiness_due(&mut self, id: &str, incarnation: u32) {
        let Some(instance) = self.instances.get(id).filter(|known| known.incarnation == incarnation) else {
            return;
        };
        let Some(check) = self.awaited(instance) else { return };
        let definition = self.apps.get(&instance.app_id).and_then(|state| state.spec.clone());
        let named = |port: AppPort<'_>| port.name == Some(check.port_name.as_str());
        let address = definition.as_deref().and_then(|app| {
            let place = app_ports(app).position(named)?;
            app_port::task_address(app, instance, place)
        });
        let Some((host, port)) = address else {
            // In a network of its own it may not have told its address yet.
            let next = self.now.saturating_add(check.interval_s.max(1).saturating_mul(1000));
            self.timers.set(next, Timer::Ready(id.to_owned(), incarnation));
            return;
        };
        let host = host.to_owned();
        self.out.readiness_probes.push(ReadinessProbe {
            instance_id: id.to_owned(),
            incarnation,
            check,
            host,
            port,
            due_ms: self.now,
        });
    }

    pub(super) fn readiness_probed(&mut self, probe: &ReadinessProbe, response: Option<ReadinessResponse>) {
        let id = probe.instance_id.as_str();
        let Some(instance) = self.instances.get(id).filter(|known| known.incarnation == probe.incarnation)
        else {
            return;
        };
        if self.awaited(instance).is_none() {
            return;
        }
        let ready = response.as_ref().is_some_and(|found| probe.check.ready_statuses.contains(&found.status));
        self.readiness.insert(id.to_owned());
        self.out.delta.readiness.push(InstanceReadiness {
            instance_id: id.to_owned(),
            name: probe.check.name.clone(),
            ready,
            last_response: response.filter(|_| probe.check.preserve_last_response),
            removed: false,
        });
        if ready {
            self.update_instance(id, |instance| instance.ready = Some(true));
        } else {
            let interval = probe.check.interval_s.max(1).saturating_mul(1000);
            let next = probe.due_ms.saturating_add(interval).max(self.now.saturating_add(1));
            self.timers.set(next, Timer::Ready(id.to_owned(), probe.incarnation));
        }
    }
}
