//! How executors end: by themselves, when they are told to, when they stay silent.

use std::time::Duration;

use meshos_proto::{
    meshos::allocator::v1::ExecutorEnded,
    mesos::v1::{
        self as pb, TaskState, executor::event, framework_info::capability::Type as Capability,
        task_status::Reason,
    },
};
use meshos_types::FrameworkId;
use tracing::{info, warn};

use super::{ExecutorKey, ExecutorState, event_of};
use crate::{
    checkpoint::{self, Change},
    containerizer::{Exit, ExitStatus},
    core::{
        Core, Effect, Now, Phase, TaskKey,
        kill::SIGKILL,
        launch::positive,
        status::{News, exit_text},
    },
};

/// SIGKILL is sent again until the process is gone.
const REPEAT: Duration = Duration::from_secs(1);

/// Why the agent ends an executor, and what its tasks are told.
#[derive(Clone, Debug)]
pub(in crate::core) struct Verdict {
    pub(in crate::core) state: TaskState,
    pub(in crate::core) reason: Reason,
    pub(in crate::core) message: String,
}

impl Core {
    pub(in crate::core) fn fire_executors(&mut self, now: Now) {
        while let Some((at, key)) = self.executor_timers.first().cloned() {
            if at > now.elapsed {
                return;
            }
            self.executor_timers.pop_first();
            let Some(executor) = self.executor(&key).filter(|executor| executor.due == Some(at)) else {
                continue;
            };
            match executor.state {
                ExecutorState::Registering => self.registration_over(&key, now),
                ExecutorState::Terminating => self.kill_executor(&key, now),
                ExecutorState::Launching | ExecutorState::Running => {}
            }
        }
    }

    fn registration_over(&mut self, key: &ExecutorKey, now: Now) {
        let aware = self.frameworks.get(&key.framework_id).is_some_and(|f| f.can(Capability::PartitionAware));
        let Some(executor) = self.executor_mut(key) else { return };
        let verdict = match executor.subscribed {
            false => Verdict {
                state: TaskState::TaskFailed,
                reason: Reason::ExecutorRegistrationTimeout,
                message: "Executor did not register within the allotted time".to_owned(),
            },
            true => Verdict {
                state: if aware { TaskState::TaskGone } else { TaskState::TaskLost },
                reason: Reason::ExecutorReregistrationTimeout,
                message: "Executor did not reregister within the allotted time".to_owned(),
            },
        };
        warn!(executor_id = %key.executor_id, framework_id = %key.framework_id, reason = verdict.message, "executor is ended");
        executor.verdict = Some(verdict);
        self.terminate(key, now.elapsed);
        self.kill_executor(key, now);
    }

    /// It shall end from now on, also for an agent process that comes after this one.
    fn terminate(&mut self, key: &ExecutorKey, kill_at: Duration) {
        let Some(executor) = self.executor_mut(key) else { return };
        executor.state = ExecutorState::Terminating;
        self.record_executor(key, Change::ExecutorTerminating(key.to_record()));
        self.executor_timer(key, kill_at);
    }

    /// SIGKILL, now and again until the process is gone.
    pub(super) fn kill_executor(&mut self, key: &ExecutorKey, now: Now) {
        let Some(executor) = self.executor(key) else { return };
        let container_id = executor.container_id.clone();
        self.effects.push(match executor.pid {
            Some(_) => Effect::Signal { container_id, signal: SIGKILL },
            // Without a process there is nothing to signal yet; it is killed when it is there.
            None => Effect::Abandon { container_id },
        });
        self.executor_timer(key, now.elapsed + REPEAT);
    }

    /// Asks an executor to end, and sees to it when the grace period is over.
    pub(in crate::core) fn shutdown_executor(&mut self, key: &ExecutorKey, now: Now) {
        let Some(executor) = self.executor(key) else { return };
        if executor.is_pod() {
            return self.shutdown_pod(key, now);
        }
        if executor.state == ExecutorState::Terminating {
            return;
        }
        let own = executor.info.shutdown_grace_period.as_ref().and_then(positive);
        let grace = own.unwrap_or(self.settings.shutdown_grace);
        if executor.state == ExecutorState::Launching {
            let container_id = executor.container_id.clone();
            self.effects.push(Effect::Abandon { container_id });
        }
        info!(executor_id = %key.executor_id, framework_id = %key.framework_id, "executor is shut down");
        self.terminate(key, now.elapsed + grace);
        self.tell_executor(key, event_of(event::Type::Shutdown));
    }

    /// Ends the executors of a framework that is gone.
    pub(in crate::core) fn shutdown_executors(&mut self, framework_id: &FrameworkId, now: Now) {
        for key in self.executor_keys().into_iter().filter(|key| key.framework_id == *framework_id) {
            self.shutdown_executor(&key, now);
        }
    }

    /// It could not be started.
    pub(in crate::core) fn executor_launch_failed(&mut self, key: &ExecutorKey, reason: &str, now: Now) {
        let Some(executor) = self.executor_mut(key) else { return };
        executor.verdict.get_or_insert(Verdict {
            state: TaskState::TaskFailed,
            reason: Reason::ContainerLaunchFailed,
            message: reason.to_owned(),
        });
        self.counters.launch_errors += 1;
        self.executor_ended(key, None, now);
    }

    /// Its process is no more.
    pub(in crate::core) fn executor_exited(&mut self, key: &ExecutorKey, exit: Exit, now: Now) {
        self.executor_ended(key, Some(exit), now);
    }

    /// An executor is no more: its tasks ended with it.
    pub(in crate::core) fn executor_ended(&mut self, key: &ExecutorKey, exit: Option<Exit>, now: Now) {
        let Some(news) = self.executor(key).map(|executor| news_for_tasks(executor, exit)) else { return };
        for task_key in self.tasks_of(key) {
            let Some(task) = self.task_mut(&task_key).filter(|task| task.phase != Phase::Ended) else {
                continue;
            };
            task.phase = Phase::Ended;
            self.finish_in_executor(&task_key, news.clone(), now);
        }
        self.forget_executor(key, exit);
    }

    /// Tells the end of a task that had no container of its own.
    pub(super) fn finish_in_executor(&mut self, key: &TaskKey, news: News, now: Now) {
        match self.task(key).is_some_and(|task| task.silent) {
            true => self.remove(key),
            false => self.report(key, news, now),
        }
    }

    /// Takes an ended executor out of the state, into the history.
    pub(in crate::core) fn forget_executor(&mut self, key: &ExecutorKey, exit: Option<Exit>) {
        let limit = self.settings.max_completed_executors;
        let Some(framework) = self.frameworks.get_mut(&key.framework_id) else { return };
        let Some(executor) = framework.executors.remove(&key.executor_id) else { return };
        info!(executor_id = %key.executor_id, framework_id = %key.framework_id, "executor ended");
        let completed = checkpoint::Executor {
            info: executor.info.clone(),
            container_id: executor.container_id.clone(),
            directory: executor.directory.display().to_string(),
        };
        framework.completed_executors.push_back(completed.clone());
        let mut forgotten = Vec::new();
        while framework.completed_executors.len() > limit {
            forgotten.extend(framework.completed_executors.pop_front());
        }
        self.record_executor(key, Change::ExecutorEnded(completed));
        if let Some(stream) = executor.stream {
            self.effects.push(Effect::CloseExecutor { stream });
        }
        let detach = |completed: checkpoint::Executor| Effect::Detach(completed.directory.into());
        self.effects.extend(forgotten.into_iter().map(detach));
        self.effects.push(Effect::Collect(executor.directory.clone()));
        let ended = ExecutorEnded {
            framework_id: Some((&key.framework_id).into()),
            executor_id: Some((&key.executor_id).into()),
            wait_status: exit.map_or(0, |exit| wait_status(exit.status)),
        };
        self.tell_executor_ended(ended);
        self.end_nested_below(&executor.container_id);
        self.effects.push(Effect::ContainerEnded { path: executor.container_id.clone(), exit });
        if !executor.is_pod() {
            self.executor_containers.remove(&executor.container_id);
            self.effects.push(Effect::Cleanup { container_id: executor.container_id });
        }
        self.forget_frameworks(&key.framework_id);
    }

    /// Tells the leader; one that has not accepted the link yet is told then.
    pub(super) fn tell_executor_ended(&mut self, ended: ExecutorEnded) {
        if self.linked {
            self.effects.push(Effect::SendExecutorEnded(Box::new(ended)));
        } else {
            self.ended_unlinked.push(ended);
        }
    }
}

/// What the tasks of an ended executor are told.
fn news_for_tasks(executor: &super::Executor, exit: Option<Exit>) -> News {
    if let Some(verdict) = &executor.verdict {
        return News::agent(verdict.state, verdict.reason, verdict.message.clone());
    }
    if exit.is_some_and(|exit| exit.out_of_memory) {
        let memory: Vec<_> = executor.info.resources.iter().filter(|r| r.name == "mem").cloned().collect();
        let text = "Memory limit exceeded: the kernel ended the executor at its limit";
        return News {
            limitation: Some(pb::TaskResourceLimitation { resources: memory }),
            ..News::agent(TaskState::TaskFailed, Reason::ContainerLimitationMemory, text)
        };
    }
    let text = exit.map_or("Executor is gone".to_owned(), |exit| exit_text("Executor", exit.status));
    News::agent(TaskState::TaskFailed, Reason::ExecutorTerminated, text)
}

/// As `waitpid` gives it; -1: nobody knows.
fn wait_status(status: ExitStatus) -> i32 {
    match status {
        ExitStatus::Code(code) => code << 8,
        ExitStatus::Signal(signal) => signal,
        ExitStatus::Unknown => -1,
    }
}
