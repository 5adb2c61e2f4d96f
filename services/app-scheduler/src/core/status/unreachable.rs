//! Tasks that nothing is heard of.

use meshos_proto::{
    meshos::apps::v1::{Condition, Goal, Instance, UnreachableStrategy},
    mesos::v1 as pb,
};

use super::meaning::state_name;
use crate::core::{Core, timers::Timer};

impl Core {
    pub(super) fn became_unreachable(&mut self, id: &str, status: &pb::TaskStatus) {
        let now = self.now;
        let Some(instance) = self.instances.get(id) else { return };
        if matches!(instance.condition(), Condition::Unreachable | Condition::UnreachableInactive) {
            return;
        }
        let mut seen = instance.clone();
        seen.set_condition(Condition::Unreachable);
        state_name(status).clone_into(&mut seen.mesos_state);
        self.tell_status(&seen, status);
        if seen.goal() != Goal::Running {
            self.tell_instance(&seen);
            self.out.show_instance(&seen);
            self.forget_instance(id);
            return;
        }
        let since = status.unreachable_time.as_ref().and_then(|time| u64::try_from(time.nanoseconds).ok());
        let since = since.map_or(now, |nanoseconds| (nanoseconds / 1_000_000).min(now));
        self.update_instance(id, |instance| {
            instance.set_condition(Condition::Unreachable);
            instance.unreachable_since_ms = since;
            state_name(status).clone_into(&mut instance.mesos_state);
        });
        self.unreachable_due(id);
    }

    /// Moves an unreachable instance on when its time has come.
    pub(in crate::core) fn unreachable_due(&mut self, id: &str) {
        let Some(instance) = self.instances.get(id) else { return };
        let condition = instance.condition();
        if !matches!(condition, Condition::Unreachable | Condition::UnreachableInactive) {
            return;
        }
        let since = instance.unreachable_since_ms;
        let strategy = self.unreachable_strategy(instance);
        if strategy.disabled {
            return;
        }
        let inactive_at = since.saturating_add(strategy.inactive_after_s.saturating_mul(1000));
        let expunge_at = since.saturating_add(strategy.expunge_after_s.saturating_mul(1000));
        if expunge_at <= self.now {
            self.forget_instance(id);
            return;
        }
        if inactive_at <= self.now && condition == Condition::Unreachable {
            self.update_instance(id, |instance| instance.set_condition(Condition::UnreachableInactive));
        }
        let next = if inactive_at > self.now { inactive_at } else { expunge_at };
        self.timers.set(next, Timer::Unreachable(id.to_owned()));
    }

    fn unreachable_strategy(&self, instance: &Instance) -> UnreachableStrategy {
        let state = self.apps.get(&instance.app_id);
        state.and_then(|state| state.spec.as_ref()?.unreachable_strategy).unwrap_or_default()
    }
}
