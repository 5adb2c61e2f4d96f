//! What the states of tasks mean for instances.

mod meaning;
mod unreachable;

use meshos_proto::{
    meshos::apps::v1::{Condition, Goal, Instance, TaskFailure},
    mesos::v1::{
        self as pb, TaskState,
        scheduler::{
            Call,
            call::{self, reconcile},
        },
        task_status::{Reason, Source},
    },
};
use meshos_types::{TaskId, TaskName, task_state};

use super::{
    After, Core,
    health::{self, is_checked},
    output::CameUp,
    store_framework,
    timers::Timer,
};
pub(super) use meaning::is_terminal;
use meaning::{addresses, app_of, check_result, condition, counts_as_failed, state_name};

/// Longest message of a failure that is kept.
const LONGEST_MESSAGE: usize = 10_000;
/// Tasks in one RECONCILE call.
const RECONCILE_CHUNK: usize = 1000;

impl Core {
    /// A new event stream: offers begin to come, what was sent before may be lost.
    pub(super) fn subscribed(&mut self, framework_id: String) {
        self.connected = true;
        self.asking.restart();
        let known = self.framework_id.as_ref() == Some(&framework_id);
        store_framework(self, framework_id);
        self.update_framework();
        self.tell_scheduler(if known { "reregistered" } else { "registered" });
        self.reconcile_tasks();
        self.repeat_kills(self.now);
    }

    /// The stream of events ended.
    pub(super) fn disconnected(&mut self) {
        if std::mem::take(&mut self.connected) {
            self.tell_scheduler("disconnected");
        }
    }

    /// Asks for the states of all tasks: of those we know, then of all that the allocator knows.
    pub(super) fn reconcile_tasks(&mut self) {
        self.timers
            .set(self.now.saturating_add(self.settings.args.reconciliation_interval_ms), Timer::Reconcile);
        if !self.connected {
            return;
        }
        let task = |instance: &Instance| reconcile::Task {
            task_id: pb::TaskId { value: instance.task_id.clone() },
            agent_id: Some(pb::AgentId { value: instance.agent_id.clone() }),
        };
        let placed = self.instances.values().filter(|instance| !instance.task_id.is_empty());
        let tasks: Vec<_> = placed.map(task).collect();
        let explicit: Vec<Vec<_>> = tasks.chunks(RECONCILE_CHUNK).map(<[_]>::to_vec).collect();
        for tasks in explicit.into_iter().chain([Vec::new()]) {
            let call = self.call(call::Type::Reconcile);
            // After launches that still wait to be stored: else they would be reported as unknown.
            self.out.after.push(After::Call(Call { reconcile: Some(call::Reconcile { tasks }), ..call }));
        }
    }

    pub(super) fn launch_refused(&mut self, task_ids: &[String], message: &str) {
        for task_id in task_ids {
            let status = task_state::new_status(
                &TaskId::new(task_id.as_str()),
                TaskState::TaskDropped,
                Source::Master,
            );
            self.status(&task_state::with_reason(status, Reason::InvalidOffers, message));
        }
    }

    pub(super) fn status(&mut self, status: &pb::TaskStatus) {
        if task_state::needs_acknowledgement(status) {
            self.acknowledge(status);
        }
        let Some(state) = task_state::state_of(status) else { return };
        let Some(condition) = condition(state, task_state::reason_of(status)) else { return };
        let task_id = &status.task_id.value;
        let name = TaskName::of(&TaskId::new(task_id.as_str()));
        let known = name.and_then(|name| self.instances.get(name.instance.as_str()));
        let Some(instance) = known.filter(|instance| instance.task_id == *task_id) else {
            self.unknown_task(status, condition);
            return;
        };
        let id = instance.id.clone();
        if is_terminal(condition) {
            self.ended(&id, status, condition);
        } else if matches!(condition, Condition::Unreachable) {
            self.became_unreachable(&id, status);
        } else {
            self.progressed(&id, status, condition);
            self.agent_judged(&id, status);
        }
    }

    fn acknowledge(&mut self, status: &pb::TaskStatus) {
        let (Some(agent_id), Some(uuid)) = (status.agent_id.clone(), status.uuid.clone()) else { return };
        if !self.connected {
            return;
        }
        let mut call = self.call(call::Type::Acknowledge);
        call.acknowledge = Some(call::Acknowledge { agent_id, task_id: status.task_id.clone(), uuid });
        // Once it is acknowledged it does not come again: what it says has to be stored by then.
        self.out.after.push(After::Call(call));
    }

    /// A task that we do not know, or an older launch: whatever still runs is ended.
    fn unknown_task(&mut self, status: &pb::TaskStatus, condition: Condition) {
        let task_id = &status.task_id.value;
        let runs = matches!(condition, Condition::Staging | Condition::Starting | Condition::Running);
        if runs {
            tracing::warn!(task_id, "killing a task that is not known");
            let agent_id = status.agent_id.as_ref().map(|id| id.value.clone());
            self.kill_task(task_id, agent_id.as_deref());
        } else if is_terminal(condition)
            && let Some(name) = TaskName::of(&TaskId::new(task_id.as_str()))
        {
            let instance_id = name.instance.as_str();
            self.tell_unknown(instance_id, &app_of(instance_id), condition);
        }
    }

    fn progressed(&mut self, id: &str, status: &pb::TaskStatus, condition: Condition) {
        let now = self.now;
        let Some(before) = self.instances.get(id) else { return };
        let state = self.apps.get(&before.app_id);
        let checked = is_checked(state.and_then(|state| state.definition(before)).as_deref());
        let mut after = before.clone();
        after.set_condition(condition);
        state_name(status).clone_into(&mut after.mesos_state);
        after.unreachable_since_ms = 0;
        if condition == Condition::Running {
            if !checked {
                after.healthy = status.healthy;
            }
            if after.started_at_ms == 0 {
                after.started_at_ms = now;
            }
            if before.condition() != Condition::Running
                && after.ready.is_none()
                && state.is_some_and(|state| state.readiness_check(before).is_some())
            {
                after.ready = Some(false);
            }
        }
        let addresses = addresses(status);
        if !addresses.is_empty() {
            after.ip_addresses = addresses;
        }
        if let Some(result) = check_result(status) {
            after.check_result = Some(result);
        }
        if after == *before {
            return;
        }
        let came_up = condition == Condition::Running && before.condition() != Condition::Running;
        let app_id = after.app_id.clone();
        if came_up {
            self.out.came_up.push(CameUp {
                app_id: app_id.clone(),
                task_id: after.task_id.clone(),
                traceparent: after.traceparent.clone(),
            });
        }
        let timer = Timer::Launch(id.to_owned(), after.incarnation);
        let changed = before.condition() != condition;
        if matches!(condition, Condition::Staging | Condition::Starting) {
            self.timers.set(self.launch_deadline(&after), timer);
        }
        self.tell_status(&after, status);
        self.update_instance(id, |instance| *instance = after);
        if came_up {
            self.watch_health(id);
            self.watch_readiness(id);
        }
        if changed && let Some(state) = self.apps.get_mut(&app_id) {
            let policy = state.policy();
            state.backoff.advanced(policy, now);
            self.refresh_launchable(&app_id);
        }
    }

    /// The task is over: the instance is launched again, or forgotten.
    fn ended(&mut self, id: &str, status: &pb::TaskStatus, condition: Condition) {
        let now = self.now;
        self.kills.remove(id);
        self.forget_health(id);
        self.forget_readiness(id);
        let Some(instance) = self.instances.get_mut(id) else { return };
        instance.set_condition(condition);
        state_name(status).clone_into(&mut instance.mesos_state);
        let seen = instance.clone();
        self.tell_status(&seen, status);
        self.tell_instance(&seen);
        self.out.show_instance(&seen);
        self.record_failure(&seen, status, condition);
        if counts_as_failed(condition) && seen.goal() == Goal::Running {
            self.count_failure(&seen.app_id);
        }
        let Some(seen) = self.instances.get(id).cloned() else { return };
        if seen.goal() != Goal::Running {
            self.forget_instance(id);
            return;
        }
        let counted = counts_as_failed(condition) || condition == Condition::Finished;
        if let Some(state) = self.apps.get_mut(&seen.app_id)
            && counted
            && state.is_current(&seen)
        {
            let policy = state.policy();
            state.backoff.failed(policy, now);
        }
        if !counted {
            self.asking.fresh = true;
        }
        self.update_instance(id, |instance| {
            *instance = Instance {
                format: instance.format,
                id: instance.id.clone(),
                app_id: instance.app_id.clone(),
                version_ms: instance.version_ms,
                condition: Condition::Scheduled.into(),
                goal: instance.goal,
                incarnation: instance.incarnation,
                scheduled_at_ms: now,
                role: instance.role.clone(),
                traceparent: instance.traceparent.clone(),
                ..Default::default()
            };
        });
    }

    fn record_failure(&mut self, instance: &Instance, status: &pb::TaskStatus, condition: Condition) {
        // The agent ends what its checks find unhealthy.
        let unhealthy = condition == Condition::Killed && status.healthy == Some(false);
        let counted = unhealthy
            || matches!(
                condition,
                Condition::Failed
                    | Condition::Error
                    | Condition::Dropped
                    | Condition::Gone
                    | Condition::Unknown
            );
        let Some(state) = self.apps.get_mut(&instance.app_id).filter(|state| counted && state.spec.is_some())
        else {
            return;
        };
        let said = status.message.as_deref().unwrap_or_default();
        let message = if unhealthy { health::killed(said) } else { said.to_owned() };
        let failure = TaskFailure {
            app_id: instance.app_id.clone(),
            host: instance.host.clone(),
            message: message.chars().take(LONGEST_MESSAGE).collect(),
            agent_id: instance.agent_id.clone(),
            state: instance.mesos_state.clone(),
            task_id: instance.task_id.clone(),
            timestamp_ms: self.now,
            version_ms: instance.version_ms,
        };
        self.out.put_failure(&failure);
        state.failure = Some(failure);
    }
}
