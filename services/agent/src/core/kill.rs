//! Ending tasks: TERM, a grace period, KILL.

use std::time::Duration;

use meshos_proto::{
    meshos::allocator::v1,
    mesos::v1::{self as pb, TaskState, framework_info::capability::Type as Capability},
};
use meshos_types::FrameworkId;
use tracing::{info, warn};

use super::{
    Core, Effect, Now, Phase, TaskKey, Timer, container,
    launch::positive,
    status::News,
    task::{Kill, Task},
};
use crate::checkpoint::{self, Change};

pub(super) const SIGTERM: i32 = 15;
pub(super) const SIGKILL: i32 = 9;

/// For a task without a kill policy, as for Mesos's command executor.
pub(super) const DEFAULT_GRACE: Duration = Duration::from_secs(3);
/// SIGKILL is sent again until the process is gone.
const REPEAT: Duration = Duration::from_secs(1);

impl Core {
    pub(super) fn kill(&mut self, kill: &v1::Kill, now: Now) {
        let framework_id = kill.framework_id.as_ref().map(|id| id.value.as_str()).unwrap_or_default();
        let task_id = kill.task_id.as_ref().map(|id| id.value.as_str()).unwrap_or_default();
        let Some(key) = TaskKey::parse(framework_id, task_id) else { return };
        let Some(task) = self.task(&key) else {
            // The allocator knows what we run: it learns the truth when it reconciles.
            warn!(%key, "kill of a task that is not here ignored");
            return;
        };
        if !task.home.has_container() {
            return self.kill_in_executor(&key, kill.kill_policy, now);
        }
        let policy = kill.kill_policy.as_ref().or(task.info.kill_policy.as_ref());
        let grace = policy.and_then(grace).unwrap_or_else(|| self.default_grace(task));
        self.end(&key, grace, now);
    }

    /// For a task without a kill policy.
    pub(super) fn default_grace(&self, task: &Task) -> Duration {
        match container::is_docker(task.info.container.as_ref()) {
            true => self.settings.docker_grace,
            false => DEFAULT_GRACE,
        }
    }

    /// Asks a task to end, and sees to it when the grace period is over.
    pub(super) fn end(&mut self, key: &TaskKey, grace: Duration, now: Now) {
        let deadline = now.elapsed + grace;
        // What an executor runs ends with it.
        let Some(task) = self.task_mut(key).filter(|task| task.home.has_container()) else { return };
        match (&mut task.kill, task.phase) {
            (_, Phase::Ended) => return,
            (Some(kill), _) => {
                // Again: it may only become stricter.
                if deadline < kill.deadline {
                    kill.deadline = deadline;
                    self.set_timer(deadline, Timer::Kill, key);
                }
                return;
            }
            (none, phase) => *none = Some(Kill { deadline, during_launch: phase == Phase::Launching }),
        }
        let launching = task.phase == Phase::Launching;
        let (silent, overdue, container_id) = (task.silent, task.overdue, task.container_id.clone());
        let grace_ms = millis(grace);
        self.record(key, Change::Kill(checkpoint::Kill { key: key.to_record(), grace_ms }));
        let killing_state =
            self.frameworks.get(&key.framework_id).is_some_and(|f| f.can(Capability::TaskKillingState));
        if killing_state && !launching && !silent && !overdue {
            self.report(key, News::executor(TaskState::TaskKilling), now);
        }
        if launching {
            self.effects.push(Effect::Abandon { container_id });
        } else {
            self.signal(key, if grace.is_zero() { SIGKILL } else { SIGTERM });
            self.set_timer(deadline, Timer::Kill, key);
        }
    }

    /// Sends a signal to a task's container.
    pub(super) fn signal(&mut self, key: &TaskKey, signal: i32) {
        if let Some(task) = self.task(key) {
            info!(task_id = %key.task_id, framework_id = %key.framework_id, signal, "signal");
            let container_id = task.container_id.clone();
            self.effects.push(Effect::Signal { container_id, signal });
        }
    }

    pub(super) fn grace_over(&mut self, key: &TaskKey, at: Duration, now: Now) {
        let Some(task) = self.task(key) else { return };
        if task.phase == Phase::Running && task.kill.is_some_and(|kill| kill.deadline == at) {
            self.kill_at_once(key, now);
        }
    }

    /// SIGKILL, now and again until the process is gone.
    pub(super) fn kill_at_once(&mut self, key: &TaskKey, now: Now) {
        let again = now.elapsed + REPEAT;
        let Some(kill) = self.task_mut(key).and_then(|task| task.kill.as_mut()) else { return };
        kill.deadline = again;
        self.signal(key, SIGKILL);
        self.set_timer(again, Timer::Kill, key);
    }

    /// The task ran longer than `max_completion_time`.
    pub(super) fn completion_time_over(&mut self, key: &TaskKey, now: Now) {
        let Some(task) = self.task_mut(key) else { return };
        if task.phase != Phase::Running || task.kill.is_some() {
            return;
        }
        task.overdue = true;
        let Some(task) = self.task(key) else { return };
        let own = task.info.kill_policy.as_ref().and_then(grace);
        let grace = own.unwrap_or_else(|| self.default_grace(task));
        self.end(key, grace, now);
    }

    /// The framework is gone: its tasks end, and nobody is told.
    pub(super) fn shutdown_framework(&mut self, framework_id: &FrameworkId, now: Now) {
        let grace = self.settings.shutdown_grace;
        let keys: Vec<_> = self.keys().into_iter().filter(|key| key.framework_id == *framework_id).collect();
        info!(%framework_id, tasks = keys.len(), "framework is shut down");
        self.forget_operations(framework_id.as_str());
        for key in keys {
            let Some(task) = self.task_mut(&key) else { continue };
            task.silent = true;
            if task.phase == Phase::Ended {
                self.remove(&key);
            } else {
                self.end(&key, grace, now);
            }
        }
        self.shutdown_executors(framework_id, now);
    }

    /// All tasks end: the node stops.
    pub(super) fn kill_all(&mut self, now: Now) {
        self.stopping = true;
        for key in self.keys() {
            let Some(task) = self.task(&key) else { continue };
            let own = task.info.kill_policy.as_ref().and_then(grace);
            let grace = own.unwrap_or_else(|| self.default_grace(task));
            self.end(&key, grace, now);
        }
        for key in self.executor_keys() {
            self.shutdown_executor(&key, now);
        }
        self.end_all_nested();
    }

    /// How many containers there are.
    #[must_use]
    pub fn live(&self) -> usize {
        let live = |task: &&Task| task.phase != Phase::Ended && task.home.has_container();
        let tasks = self.frameworks.values().flat_map(|framework| framework.tasks.values());
        tasks.filter(live).count() + self.executor_containers.len() + self.live_nested()
    }
}

pub(super) fn grace(policy: &pb::KillPolicy) -> Option<Duration> {
    positive(policy.grace_period.as_ref()?)
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
