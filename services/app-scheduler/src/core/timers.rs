//! What is due at a later time.

use std::collections::BTreeSet;

use meshos_proto::meshos::apps::v1::{Condition, Instance};

use super::Core;

/// What to look at when the time has come. Each is checked again then: it may be of no use any more.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A launch without status, or a task that does not come up. Holds the incarnation.
    Launch(String, u32),
    /// A kill without effect, or one that is to be repeated. The time is also in `Core::kills`.
    Kill(String),
    /// An unreachable instance becomes inactive, or is forgotten.
    Unreachable(String),
    /// A health check of a task. Holds the incarnation and which check.
    Probe(String, u32, usize),
    /// A readiness check of a task. Holds the incarnation.
    Ready(String, u32),
    /// An app's launch delay ends, or its surplus may go.
    App(String),
    /// A deployment's time is up.
    Deadline(String),
    /// An app no longer waits for groups that have no room.
    Relax(String),
    /// It is time to ask for offers again.
    Ask,
    Reconcile,
}

#[derive(Debug, Default)]
pub(super) struct Timers(BTreeSet<(u64, Timer)>);

impl Timers {
    pub(super) fn set(&mut self, at_ms: u64, timer: Timer) {
        self.0.insert((at_ms, timer));
    }

    pub(super) fn next(&self) -> Option<u64> {
        self.0.first().map(|(at, _)| *at)
    }

    fn pop_due(&mut self, now_ms: u64) -> Option<Timer> {
        if self.next()? > now_ms {
            return None;
        }
        self.0.pop_first().map(|(_, timer)| timer)
    }
}

impl Core {
    pub(super) fn fire_timers(&mut self) {
        // Only what is due now: a timer that sets itself again for now waits for the next input.
        let mut due = Vec::new();
        while let Some(timer) = self.timers.pop_due(self.now) {
            due.push(timer);
        }
        for timer in due {
            self.fire(timer);
        }
    }

    fn fire(&mut self, timer: Timer) {
        match timer {
            Timer::Launch(id, incarnation) => self.launch_overdue(&id, incarnation),
            Timer::Kill(id) => self.kill_due(&id),
            Timer::Unreachable(id) => self.unreachable_due(&id),
            Timer::App(app_id) => {
                self.refresh_launchable(&app_id);
                self.dirty.insert(app_id);
            }
            Timer::Probe(id, incarnation, index) => self.probe_due(&id, incarnation, index),
            Timer::Ready(id, incarnation) => self.readiness_due(&id, incarnation),
            Timer::Deadline(id) => self.deadline_passed(&id),
            Timer::Relax(app_id) => self.relax(&app_id),
            Timer::Ask => {}
            Timer::Reconcile => self.reconcile_tasks(),
        }
    }

    fn launch_overdue(&mut self, id: &str, incarnation: u32) {
        let Some(instance) = self.instances.get(id) else { return };
        let stuck =
            matches!(instance.condition(), Condition::Provisioned | Condition::Staging | Condition::Starting);
        if instance.incarnation != incarnation || !stuck {
            return;
        }
        let due = self.launch_deadline(instance);
        if due <= self.now {
            tracing::warn!(
                app_id = instance.app_id,
                task_id = instance.task_id,
                "task does not come up, killing it"
            );
            self.kill(id);
        } else {
            self.timers.set(due, Timer::Launch(id.to_owned(), incarnation));
        }
    }

    /// When a launch that is under way is given up.
    pub(super) fn launch_deadline(&self, instance: &Instance) -> u64 {
        let args = &self.settings.args;
        let after = match instance.condition() {
            Condition::Provisioned => args.task_launch_confirm_timeout_ms,
            _ => args.task_launch_timeout_ms,
        };
        instance.staged_at_ms.saturating_add(after)
    }
}
