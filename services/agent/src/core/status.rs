//! Status updates: made, sent, sent again, acknowledged.

use std::time::Duration;

use bytes::Bytes;
use meshos_proto::{
    meshos::allocator::v1::StatusUpdate,
    mesos::v1::{
        self as pb, TaskState,
        task_status::{Reason, Source},
    },
};
use meshos_types::{FrameworkId, task_state::is_terminal};
use tracing::{debug, info};

use super::{
    Core, Effect, Limitation, Now, TaskKey, Timer, container,
    task::{Framework, Home, Task},
};
use crate::{
    checkpoint::{Acknowledged, Change, Completed, Update},
    containerizer::{Exit, ExitStatus},
};

/// Completed tasks that the history keeps for a framework.
const MAX_COMPLETED: usize = 200;

/// Frameworks without tasks that the history keeps.
const MAX_IDLE: usize = 50;

/// What is new about a task.
#[derive(Clone, Debug)]
pub(super) struct News {
    pub(super) state: TaskState,
    pub(super) source: Source,
    pub(super) reason: Option<Reason>,
    pub(super) message: Option<String>,
    pub(super) limitation: Option<pb::TaskResourceLimitation>,
}

impl News {
    /// What the process itself did.
    pub(super) fn executor(state: TaskState) -> Self {
        Self { state, source: Source::Executor, reason: None, message: None, limitation: None }
    }

    /// What the agent did or found.
    pub(super) fn agent(state: TaskState, reason: Reason, message: impl Into<String>) -> Self {
        Self {
            state,
            source: Source::Agent,
            reason: Some(reason),
            message: Some(message.into()),
            limitation: None,
        }
    }

    /// A limit that the agent itself watches over.
    fn limited(limitation: &Limitation) -> Self {
        Self {
            limitation: Some(pb::TaskResourceLimitation { resources: limitation.resources.clone() }),
            ..Self::agent(TaskState::TaskFailed, limitation.reason, limitation.message.clone())
        }
    }

    fn with(self, message: impl Into<String>) -> Self {
        Self { message: Some(message.into()), ..self }
    }

    /// How a task ended, from how its process ended.
    pub(super) fn ended(task: &Task, exit: Exit) -> Self {
        let is_docker = container::is_docker(task.info.container.as_ref());
        let text = exit_text(if is_docker { "Container" } else { "Command" }, exit.status);
        if let Some(kill) = task.kill {
            let killed = Self::executor(TaskState::TaskKilled).with(text);
            if kill.during_launch {
                return Self::agent(
                    TaskState::TaskKilled,
                    Reason::TaskKilledDuringLaunch,
                    "Killed before it started",
                );
            }
            if task.overdue {
                let reason = Some(Reason::MaxCompletionTimeReached);
                return Self { state: TaskState::TaskFailed, reason, ..killed };
            }
            return killed;
        }
        if let Some(limitation) = &task.limitation {
            return Self::limited(limitation);
        }
        if exit.out_of_memory {
            return out_of_memory(task);
        }
        match exit.status {
            ExitStatus::Code(0) => Self::executor(TaskState::TaskFinished).with(text),
            ExitStatus::Unknown => Self::agent(TaskState::TaskFailed, Reason::ExecutorTerminated, text),
            _ => Self::executor(TaskState::TaskFailed).with(text),
        }
    }
}

fn out_of_memory(task: &Task) -> News {
    let memory: Vec<_> =
        task.info.resources.iter().filter(|resource| resource.name == "mem").cloned().collect();
    let limit =
        task.info.limits.get("mem").map_or_else(|| super::scalar(&memory, "mem"), |limit| limit.value);
    let message = format!("Memory limit exceeded: the kernel ended the task at its limit of {limit} MB");
    News {
        limitation: Some(pb::TaskResourceLimitation { resources: memory }),
        ..News::agent(TaskState::TaskFailed, Reason::ContainerLimitationMemory, message)
    }
}

/// The words of Mesos's executors, of which one runs a command, one a container.
pub(super) fn exit_text(what: &str, status: ExitStatus) -> String {
    match status {
        ExitStatus::Code(code) => format!("{what} exited with status {code}"),
        ExitStatus::Signal(signal) => format!("{what} terminated with signal {}", signal_text(signal)),
        ExitStatus::Unknown => {
            format!("{what} ended while nobody watched it: its exit status is not known")
        }
    }
}

/// `strsignal` of the C library.
fn signal_text(signal: i32) -> String {
    let text = match signal {
        1 => "Hangup",
        2 => "Interrupt",
        3 => "Quit",
        4 => "Illegal instruction",
        5 => "Trace/breakpoint trap",
        6 => "Aborted",
        7 => "Bus error",
        8 => "Floating point exception",
        9 => "Killed",
        10 => "User defined signal 1",
        11 => "Segmentation fault",
        12 => "User defined signal 2",
        13 => "Broken pipe",
        14 => "Alarm clock",
        15 => "Terminated",
        24 => "CPU time limit exceeded",
        25 => "File size limit exceeded",
        31 => "Bad system call",
        other => return format!("Unknown signal {other}"),
    };
    text.to_owned()
}

impl Core {
    /// Tells the framework something about a task.
    pub(super) fn report(&mut self, key: &TaskKey, news: News, now: Now) {
        let Some(task) = self.task(key) else { return };
        let status = self.status(task, news, now);
        self.tell_status(key, status, now);
    }

    /// As [`Core::report`], with the whole status.
    pub(super) fn tell_status(&mut self, key: &TaskKey, status: pb::TaskStatus, now: Now) {
        info!(task_id = %key.task_id, framework_id = %key.framework_id, state = status.state().as_str_name(), "task");
        self.counters.count(status.state());
        self.record(key, Change::Update(Update { key: key.to_record(), status: status.clone() }));
        let Some(task) = self.task_mut(key) else { return };
        task.remember(&status);
        let first = task.updates.push(status);
        self.effects.push(Effect::Changed(key.clone()));
        if first {
            self.send_oldest(key, now);
        }
    }

    fn status(&self, task: &Task, news: News, now: Now) -> pb::TaskStatus {
        let container = pb::ContainerStatus {
            container_id: Some(task.container()),
            network_infos: self.networks_of(task),
            cgroup_info: None,
            executor_pid: task.pid,
        };
        let (healthy, check_status) = task.checks.told(news.state);
        pb::TaskStatus {
            task_id: task.info.task_id.clone(),
            healthy,
            check_status,
            state: news.state as i32,
            message: news.message,
            source: Some(news.source as i32),
            reason: news.reason.map(|reason| reason as i32),
            agent_id: self.agent_id.as_ref().map(Into::into),
            executor_id: Some(pb::ExecutorId { value: task.executor_id().to_owned() }),
            timestamp: Some(now.unix.as_secs_f64()),
            uuid: Some(Bytes::copy_from_slice(self.rng.uuid().as_bytes())),
            container_status: Some(container),
            limitation: news.limitation,
            ..pb::TaskStatus::default()
        }
    }

    /// Sends the oldest update of a task, if there is a link, and sets the time to do so again.
    pub(super) fn send_oldest(&mut self, key: &TaskKey, now: Now) {
        if !self.linked {
            return;
        }
        let Some(task) = self.task_mut(key) else { return };
        let (latest, traceparent) = (task.state(), task.traceparent.clone());
        let Some(status) = task.updates.oldest().cloned() else { return };
        let due = task.updates.sent(now.elapsed);
        self.set_timer(due, Timer::Retry, key);
        self.counters.sent_updates += 1;
        self.effects.push(Effect::Send(Box::new(StatusUpdate {
            framework_id: Some((&key.framework_id).into()),
            status: Some(status),
            latest_state: latest as i32,
            traceparent,
        })));
    }

    pub(super) fn retry(&mut self, key: &TaskKey, at: Duration, now: Now) {
        if self.task(key).is_some_and(|task| task.updates.is_due(at)) {
            debug!(task_id = %key.task_id, framework_id = %key.framework_id, "sending an update again");
            self.send_oldest(key, now);
        }
    }

    pub(super) fn acknowledge(&mut self, key: &TaskKey, uuid: &Bytes, now: Now) {
        let Some(status) = self.task_mut(key).and_then(|task| task.updates.acknowledge(uuid)) else {
            debug!(task_id = %key.task_id, framework_id = %key.framework_id, "acknowledgement of nothing that waits");
            return;
        };
        self.record(key, Change::Acknowledged(Acknowledged { key: key.to_record(), uuid: uuid.clone() }));
        if is_terminal(status.state()) {
            self.remove(key);
        } else {
            self.send_oldest(key, now);
        }
    }

    /// The task is history.
    pub(super) fn remove(&mut self, key: &TaskKey) {
        self.record(key, Change::Removed(key.to_record()));
        let Some(framework) = self.frameworks.get_mut(&key.framework_id) else { return };
        let Some(task) = framework.tasks.remove(&key.task_id) else { return };
        self.containers.remove(&task.container_id);
        let below = task.home.has_container() && self.settings.collect_nested;
        let (own, directory) = (task.home == Home::Own, task.directory.clone());
        let completed = Completed {
            task: task.to_proto(key.framework_id.as_str()),
            container_id: task.container_id,
            directory: task.directory.display().to_string(),
        };
        framework.completed.push_back(completed.clone());
        let forgotten =
            if framework.completed.len() > MAX_COMPLETED { framework.completed.pop_front() } else { None };
        self.record(key, Change::Completed(completed));
        // The sandbox of a task with an executor is the executor's.
        if let Some(forgotten) = forgotten.filter(|forgotten| forgotten.task.executor_id.is_none()) {
            self.effects.push(Effect::Detach(forgotten.directory.into()));
        }
        if own || below {
            self.effects.push(Effect::Collect(directory));
        }
        self.effects.push(Effect::Removed(key.clone()));
        self.forget_frameworks(&key.framework_id);
    }

    /// A framework's last task is history: the frameworks that were idle for longest are forgotten.
    pub(super) fn forget_frameworks(&mut self, framework_id: &FrameworkId) {
        if self.frameworks.get(framework_id).is_some_and(Framework::is_idle) {
            self.idle.push_back(framework_id.clone());
        }
        while self.idle.len() > MAX_IDLE {
            let Some(oldest) = self.idle.pop_front() else { return };
            // It may be busy again, or be idle anew and stand later in the list as well.
            let forgotten = self.frameworks.get(&oldest).is_some_and(Framework::is_idle);
            if forgotten && !self.idle.contains(&oldest) {
                let directories = self.frameworks.remove(&oldest).map(|framework| framework.past_sandboxes());
                self.effects.extend(directories.into_iter().flatten().map(Effect::Detach));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_in_the_words_of_mesos() {
        assert_eq!(exit_text("Command", ExitStatus::Code(3)), "Command exited with status 3");
        assert_eq!(exit_text("Command", ExitStatus::Signal(15)), "Command terminated with signal Terminated");
        assert_eq!(exit_text("Command", ExitStatus::Signal(9)), "Command terminated with signal Killed");
    }
}
