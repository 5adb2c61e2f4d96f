//! Health checks: when to make those that the scheduler runs, and what results do to instances. Those that agents
//! run come with the states of tasks.

use meshos_proto::meshos::apps::v1::{
    App, Condition, FailedHealthCheck, HealthCheck, HealthCheckAdded, HealthStatusChanged, Instance,
    InstanceHealth, NetworkMode, TaskFailure, UnhealthyInstanceKill, occurrence::What,
};

use meshos_proto::mesos::v1::{self as pb, task_status::Reason};
use meshos_types::{app_port, network_mode, task_state};

use super::{Core, timers::Timer};
use crate::health::{self, CheckState, Outcome, Verdict};

/// The first probe comes after the interval, or after this if that is less.
const FIRST_MS: u64 = 5000;

/// One request to make. Its result comes back as [`super::Input::Probed`].
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    pub instance_id: String,
    pub incarnation: u32,
    /// Which of the app's checks.
    pub index: usize,
    pub check: HealthCheck,
    pub host: String,
    pub port: u16,
    /// When it was due.
    pub due_ms: u64,
}

/// The checks of one task.
#[derive(Debug, Default)]
pub(super) struct Watched {
    incarnation: u32,
    checks: Vec<CheckState>,
}

/// The message of a failure by a health check.
pub(super) fn killed(cause: &str) -> String {
    format!("Task was killed since health check failed. Reason: {cause}")
}

/// Whether the health of the app's tasks is checked, by whomever.
pub(super) fn is_checked(app: Option<&App>) -> bool {
    app.is_some_and(|app| !app.health_checks.is_empty())
}

impl Core {
    fn checks_of(&self, instance: &Instance) -> Vec<HealthCheck> {
        let definition = self.apps.get(&instance.app_id).and_then(|state| state.definition(instance));
        definition.map(|app| app.health_checks.clone()).unwrap_or_default()
    }

    /// A step that touches the app begins: readers hear of its checks once, and that a removed app has none.
    pub(super) fn tell_checks(&mut self, app_id: &str) {
        let Some(state) = self.apps.get_mut(app_id) else { return };
        let Some(spec) = state.spec.clone() else { return self.tell_checks_gone(app_id) };
        let config_ms = spec.last_config_change_at_ms;
        if spec.health_checks.is_empty()
            || std::mem::replace(&mut state.told_checks_ms, config_ms) == config_ms
        {
            return;
        }
        for check in &spec.health_checks {
            let (app_id, check) = (app_id.to_owned(), Some(check.clone()));
            let added = HealthCheckAdded { app_id, check, version_ms: spec.version_ms };
            self.occurred(What::HealthCheckAdded(added));
        }
    }

    /// The app has no checks any more.
    pub(super) fn tell_checks_gone(&mut self, app_id: &str) {
        let Some(state) = self.apps.get_mut(app_id) else { return };
        let checked = state.spec.as_ref().is_some_and(|spec| !spec.health_checks.is_empty());
        if !checked && std::mem::take(&mut state.told_checks_ms) > 0 {
            self.occurred(What::HealthChecksRemoved(app_id.to_owned()));
        }
    }

    /// A task runs: its checks begin.
    pub(super) fn watch_health(&mut self, id: &str) {
        let Some(instance) = self.instances.get(id) else { return };
        let (incarnation, checks) = (instance.incarnation, self.checks_of(instance));
        if checks.is_empty() || self.health.get(id).is_some_and(|known| known.incarnation == incarnation) {
            return;
        }
        for (index, check) in checks.iter().enumerate().filter(|(_, check)| !health::is_agent_run(check)) {
            let first = self.now.saturating_add(interval_ms(check).min(FIRST_MS));
            self.timers.set(first, Timer::Probe(id.to_owned(), incarnation, index));
        }
        let checks = vec![CheckState::default(); checks.len()];
        self.health.insert(id.to_owned(), Watched { incarnation, checks });
    }

    /// The task is over: what was known of it means nothing.
    pub(super) fn forget_health(&mut self, id: &str) {
        if self.health.remove(id).is_some() {
            let nothing = InstanceHealth { instance_id: id.to_owned(), results: Vec::new() };
            self.out.delta.health.push(nothing);
        }
    }

    pub(super) fn probe_due(&mut self, id: &str, incarnation: u32, index: usize) {
        let Some(instance) = self.instances.get(id) else { return };
        if self.health.get(id).is_none_or(|watched| watched.incarnation != incarnation) {
            return;
        }
        let Some(check) = self.checks_of(instance).into_iter().nth(index) else { return };
        let address = self.address_of(instance, &check);
        if instance.condition() == Condition::Running
            && let Some((host, port)) = address
        {
            self.out.probes.push(Probe {
                instance_id: id.to_owned(),
                incarnation,
                index,
                check,
                host,
                port,
                due_ms: self.now,
            });
        } else {
            let next = self.now.saturating_add(interval_ms(&check));
            self.timers.set(next, Timer::Probe(id.to_owned(), incarnation, index));
        }
    }

    /// Where the check goes; none: nowhere yet.
    fn address_of(&self, instance: &Instance, check: &HealthCheck) -> Option<(String, u16)> {
        let app = self.apps.get(&instance.app_id)?.definition(instance)?;
        if let Some(port) = check.port {
            let host = match network_mode(&app) {
                NetworkMode::Container => app_port::own_address(instance)?,
                _ => &instance.host,
            };
            return Some((host.to_owned(), u16::try_from(port).ok()?));
        }
        let (host, port) = app_port::task_address(&app, instance, check.port_index? as usize)?;
        Some((host.to_owned(), port))
    }

    pub(super) fn probed(&mut self, probe: &Probe, outcome: &Outcome) {
        let (id, now) = (probe.instance_id.as_str(), self.now);
        let Some(instance) = self.instances.get(id).cloned() else { return };
        let Some(watched) = self.health.get_mut(id).filter(|known| known.incarnation == probe.incarnation)
        else {
            return;
        };
        let next = probe.due_ms.saturating_add(interval_ms(&probe.check)).max(now.saturating_add(1));
        self.timers.set(next, Timer::Probe(id.to_owned(), probe.incarnation, probe.index));
        let Some(state) = watched.checks.get_mut(probe.index) else { return };
        if instance.condition() != Condition::Running {
            return;
        }
        let verdict = state.take(&probe.check, outcome, instance.started_at_ms, now);
        self.judged(&instance, &probe.check, verdict);
        if verdict.kill
            && let Outcome::Failed(cause) = outcome
        {
            self.kill_unhealthy(&instance, cause);
        }
    }

    /// What the agent's check found, as the task's status says. The agent itself ends what fails too often.
    pub(super) fn agent_judged(&mut self, id: &str, status: &pb::TaskStatus) {
        let (now, Some(healthy)) = (self.now, status.healthy) else { return };
        let Some(instance) = self.instances.get(id).filter(|i| i.condition() == Condition::Running).cloned()
        else {
            return;
        };
        let checks = self.checks_of(&instance);
        let Some(index) = checks.iter().position(health::is_agent_run) else { return };
        let Some(state) = self.health.get_mut(id).and_then(|watched| watched.checks.get_mut(index)) else {
            return;
        };
        let again = task_state::reason_of(status) == Some(Reason::Reconciliation);
        if again && state.result().is_some_and(|known| known.alive == healthy) {
            return;
        }
        // Its grace period is over when the agent says so.
        let check = HealthCheck { grace_period_s: 0, max_consecutive_failures: 0, ..checks[index].clone() };
        let cause = status.message.clone().unwrap_or_default();
        let outcome = if healthy { Outcome::Alive } else { Outcome::Failed(cause) };
        let verdict = state.take(&check, &outcome, instance.started_at_ms, now);
        self.judged(&instance, &checks[index], verdict);
    }

    /// Tells readers of a result, and lets the instance follow from it.
    fn judged(&mut self, instance: &Instance, check: &HealthCheck, verdict: Verdict) {
        let id = instance.id.as_str();
        let Some(watched) = self.health.get(id).filter(|_| verdict.changed) else { return };
        let results = watched.checks.iter().filter_map(CheckState::result).collect();
        let healthy = health::aggregate(&watched.checks).or(instance.healthy);
        self.out.delta.health.push(InstanceHealth { instance_id: id.to_owned(), results });
        if verdict.failed {
            let failed = FailedHealthCheck { instance: Some(instance.clone()), check: Some(check.clone()) };
            self.occurred(What::FailedHealthCheck(failed));
        }
        if let Some(alive) = verdict.flipped {
            let changed = HealthStatusChanged { instance: Some(instance.clone()), alive };
            self.occurred(What::HealthStatus(changed));
        }
        if healthy != instance.healthy {
            self.update_instance(id, |instance| instance.healthy = healthy);
            let seen = Instance { healthy, ..instance.clone() };
            self.occurred(What::InstanceHealth(seen));
        }
    }

    /// The task is killed and launched again, without a delay.
    fn kill_unhealthy(&mut self, instance: &Instance, cause: &str) {
        tracing::info!(
            app_id = instance.app_id,
            task_id = instance.task_id,
            cause,
            "task is unhealthy, killing it"
        );
        let kill = UnhealthyInstanceKill { instance: Some(instance.clone()), reason: cause.to_owned() };
        self.occurred(What::UnhealthyKill(kill));
        let failure = TaskFailure {
            app_id: instance.app_id.clone(),
            host: instance.host.clone(),
            message: killed(cause),
            agent_id: instance.agent_id.clone(),
            state: "TASK_KILLED".to_owned(),
            task_id: instance.task_id.clone(),
            timestamp_ms: self.now,
            version_ms: instance.version_ms,
        };
        if let Some(state) = self.apps.get_mut(&instance.app_id).filter(|state| state.spec.is_some()) {
            self.out.put_failure(&failure);
            state.failure = Some(failure);
        }
        self.forget_health(&instance.id);
        self.kill(&instance.id);
        self.count_failure(&instance.app_id);
    }
}

fn interval_ms(check: &HealthCheck) -> u64 {
    check.interval_s.max(1).saturating_mul(1000)
}
