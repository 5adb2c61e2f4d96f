//! Beginning again: from the checkpoint and the containers that are there to a state, and back to records.

use std::{collections::BTreeMap, path::PathBuf};

use meshos_mesh::Rng;
use meshos_proto::mesos::v1::{self as pb, TaskState, task_status::Reason};
use meshos_types::{AgentId, ExecutorId, FrameworkId, TaskId};
use tracing::info;

use super::{
    Core, Effect, ExecutorKey, Now, Phase, Settings, TaskKey, Timer, container,
    kill::{SIGKILL, SIGTERM},
    launch::positive,
    status::News,
    task::{Framework, Home, Kill, Task},
};
use crate::{
    checkpoint::{self, Agent, Change, Launch, Record, Replay, ReplayedTask, Update},
    containerizer::Recovered,
};

/// Ends whose clean-up may not have been carried out when an agent dies: there are no more at a time.
const NEWEST: usize = 32;

impl Core {
    /// The state that the checkpoint tells, brought up to date with the containers that there are: tasks run
    /// on, or it is told how they ended. Containers that the checkpoint does not know are ended.
    #[must_use]
    pub fn recover(
        settings: Settings,
        rng: Rng,
        replay: Replay,
        containers: Vec<Recovered>,
        now: Now,
    ) -> (Self, Vec<Effect>) {
        let mut core = Self::new(settings, rng);
        if let Some(agent) = &replay.agent {
            core.agent_id = Some(AgentId::new(agent.id.as_str()));
            core.registered_at_ms = agent.registered_at_ms;
        }
        core.epoch = replay.epoch;
        core.counters.recovery_errors = replay.errors;
        core.recover_operations(replay.total, replay.operations);
        for (id, info) in replay.frameworks {
            core.frameworks.insert(FrameworkId::new(id), Framework::new(info));
        }
        for completed in replay.completed {
            let id = FrameworkId::new(completed.task.framework_id.value.as_str());
            if let Some(framework) = core.frameworks.get_mut(&id) {
                framework.completed.push_back(completed);
            }
        }
        for completed in replay.completed_executors {
            let id = completed.info.framework_id.as_ref().map(|id| FrameworkId::new(id.value.as_str()));
            if let Some(framework) = id.and_then(|id| core.frameworks.get_mut(&id)) {
                framework.completed_executors.push_back(completed);
            }
        }
        for (key, executor) in replay.executors {
            core.restore_executor(key, executor);
        }
        let mut there: BTreeMap<String, Recovered> =
            containers.into_iter().map(|container| (container.container_id.clone(), container)).collect();
        let (mut adopted, mut kills) = (0_usize, Vec::new());
        let mut compared = Vec::new();
        for ((framework_id, task_id), task) in replay.tasks {
            let key = TaskKey { framework_id: FrameworkId::new(framework_id), task_id: TaskId::new(task_id) };
            let has_container = task.launch.executor_id.is_empty() || task.launch.is_pod;
            if has_container {
                let container = there.remove(&task.launch.container_id);
                kills.extend(task.kill_grace_ms.map(|grace_ms| (key.clone(), grace_ms)));
                adopted += usize::from(container.is_some());
                compared.push((key.clone(), container));
            }
            core.restore(&key, task);
        }
        // All are there before the end of one may end others.
        for (key, container) in compared {
            core.compare(&key, container, now);
        }
        core.compare_executors(&mut there, now);
        core.restore_nested(replay.nested.into_values().collect(), &mut there);
        for (key, grace_ms) in kills {
            core.resume_kill(&key, grace_ms, now);
        }
        core.end_orphans(there);
        core.clean_the_newest_again();
        let idle = core.frameworks.iter().filter(|(_, framework)| framework.is_idle());
        core.idle = idle.map(|(id, _)| id.clone()).collect();
        info!(adopted, "recovered");
        let effects = std::mem::take(&mut core.effects);
        (core, effects)
    }

    fn restore(&mut self, key: &TaskKey, replayed: ReplayedTask) {
        let home = self.home(key, &replayed.launch);
        let Launch { task: info, container_id, directory, traceparent, .. } = replayed.launch;
        let mut task = Task::new(info, container_id.clone(), PathBuf::from(directory), traceparent);
        task.home = home;
        let is_contained = self.runtime_of(&key.framework_id, &task).is_some();
        for (index, status) in replayed.updates.into_iter().enumerate() {
            task.remember(&status);
            let pid = status.container_status.as_ref().and_then(|container| container.executor_pid);
            task.pid = pid.or(task.pid);
            let container = status.container_status.as_ref().filter(|_| is_contained);
            task.networks = container.map_or(task.networks, |container| container.network_infos.clone());
            if index >= replayed.acknowledged {
                task.updates.push(status);
            }
        }
        let never_started = matches!(task.state(), TaskState::TaskStaging | TaskState::TaskStarting);
        task.phase = match task.is_over() {
            true => Phase::Ended,
            false if never_started => Phase::Launching,
            false => Phase::Running,
        };
        if replayed.kill_grace_ms.is_some() {
            let during_launch = task.phase == Phase::Launching;
            task.kill = Some(Kill { deadline: std::time::Duration::MAX, during_launch });
        }
        let framework = self.frameworks.entry(key.framework_id.clone());
        let framework = framework.or_insert_with(|| Framework::unknown(&key.framework_id));
        if task.home.has_container() {
            self.containers.insert(container_id, key.clone());
        }
        framework.tasks.insert(key.task_id.clone(), task);
    }

    fn home(&self, key: &TaskKey, launch: &Launch) -> Home {
        let id = ExecutorId::new(launch.executor_id.as_str());
        let group = launch.group_id.clone();
        if launch.executor_id.is_empty() {
            return Home::Own;
        }
        if !launch.is_pod {
            return Home::Executor { id, group: (!group.is_empty()).then_some(group) };
        }
        let executor = ExecutorKey { framework_id: key.framework_id.clone(), executor_id: id.clone() };
        let parent =
            self.executor(&executor).map(|executor| executor.container_id.clone()).unwrap_or_default();
        Home::Pod { id, group, parent }
    }

    /// What became of a task's container while no agent ran.
    fn compare(&mut self, key: &TaskKey, container: Option<Recovered>, now: Now) {
        let Some(phase) = self.task(key).map(|task| task.phase) else { return };
        match (phase, container) {
            (Phase::Ended, Some(container)) => self.end_container(container),
            (Phase::Ended, None) => {
                let unfinished =
                    self.task(key).filter(|task| self.runtime_of(&key.framework_id, task).is_none());
                if let Some(container_id) = unfinished.map(|task| task.container_id.clone()) {
                    self.effects.push(Effect::Cleanup { container_id });
                }
            }
            (_, Some(Recovered { container_id, exit: Some(exit), .. })) => {
                self.exited(&container_id, exit, now)
            }
            (Phase::Launching, Some(Recovered { container_id, pid, .. })) => {
                self.launched(&container_id, pid, now)
            }
            (Phase::Running, Some(_)) => {
                self.resume_completion_time(key, now);
                self.resume_checks(key, now);
            }
            (Phase::Launching, None) => {
                let news = News::agent(
                    self.dropped_state(key),
                    Reason::AgentRestarted,
                    "Agent restarted before the task was started",
                );
                self.lost(key, news, now);
            }
            (Phase::Running, None) => {
                let news = News::agent(
                    TaskState::TaskFailed,
                    Reason::ExecutorTerminated,
                    "The task's process is gone; the node may have been restarted",
                );
                self.lost(key, news, now);
            }
        }
    }

    fn lost(&mut self, key: &TaskKey, news: News, now: Now) {
        if let Some(task) = self.task_mut(key) {
            task.phase = Phase::Ended;
        }
        self.finish(key, news, now);
    }

    fn resume_completion_time(&mut self, key: &TaskKey, now: Now) {
        let Some(task) = self.task(key) else { return };
        let Some(limit) = task.info.max_completion_time.as_ref().and_then(positive) else { return };
        let running = task.statuses.iter().find(|status| status.state == TaskState::TaskRunning as i32);
        let since = running.and_then(|status| status.timestamp).unwrap_or_default();
        let ran = std::time::Duration::try_from_secs_f64(now.unix.as_secs_f64() - since).unwrap_or_default();
        self.set_timer(now.elapsed + limit.saturating_sub(ran), Timer::Completion, key);
    }

    /// The agent died between asking a task to end and its end.
    fn resume_kill(&mut self, key: &TaskKey, grace_ms: u64, now: Now) {
        let Some(task) = self.task_mut(key) else { return };
        let Some(kill) = task.kill.as_mut().filter(|_| task.phase == Phase::Running) else { return };
        kill.deadline = now.elapsed + std::time::Duration::from_millis(grace_ms);
        let deadline = kill.deadline;
        self.signal(key, if grace_ms == 0 { SIGKILL } else { SIGTERM });
        self.set_timer(deadline, Timer::Kill, key);
    }

    /// The agent may have died between the acknowledgement of an end and the clean-up. What never ran is known to nobody
    /// but the history, and may have a cgroup all the same.
    fn clean_the_newest_again(&mut self) {
        for framework in self.frameworks.values() {
            let newest = framework.completed.iter().rev().take(NEWEST);
            let plain = newest.filter(|ended| container::runtime(ended.task.container.as_ref()).is_none());
            let again = plain.map(|ended| Effect::Cleanup { container_id: ended.container_id.clone() });
            self.effects.extend(again);
        }
    }

    fn end_orphans(&mut self, containers: BTreeMap<String, Recovered>) {
        for (container_id, container) in containers {
            info!(container_id, "ending a container that belongs to no task");
            self.end_container(container);
        }
    }

    /// A container that should not be there.
    fn end_container(&mut self, Recovered { container_id, exit, .. }: Recovered) {
        self.effects.push(match exit {
            Some(_) => Effect::Cleanup { container_id },
            None => Effect::Signal { container_id, signal: SIGKILL },
        });
    }

    /// The fewest records that give this state.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        let mut changes = Vec::new();
        if let Some(id) = &self.agent_id {
            changes
                .push(Change::Agent(Agent { id: id.to_string(), registered_at_ms: self.registered_at_ms }));
        }
        changes.push(Change::Epoch(self.epoch));
        changes.push(Change::Info(self.settings.agent_info.clone()));
        changes.extend(self.operation_changes());
        for (id, framework) in self.frameworks.iter().filter(|(_, framework)| framework.checkpoints()) {
            changes.push(Change::Framework(framework.info.clone()));
            changes.extend(framework.completed.iter().cloned().map(Change::Completed));
            changes.extend(self.executor_changes(id, framework));
            for task in framework.tasks.values() {
                task_changes(id, task, &mut changes);
            }
        }
        changes.extend(self.nested_changes());
        changes.into_iter().map(Record::from).collect()
    }
}

fn task_changes(framework_id: &FrameworkId, task: &Task, changes: &mut Vec<Change>) {
    let key =
        checkpoint::Key { framework_id: framework_id.to_string(), task_id: task.info.task_id.value.clone() };
    changes.push(Change::Launch(task.record(framework_id)));
    if task.kill.is_some() {
        // How much of the grace period is left does not survive: it begins again.
        let grace = task.info.kill_policy.as_ref().and_then(|policy| positive(policy.grace_period.as_ref()?));
        let grace_ms = grace.map_or(3000, |grace| u64::try_from(grace.as_millis()).unwrap_or(u64::MAX));
        changes.push(Change::Kill(checkpoint::Kill { key: key.clone(), grace_ms }));
    }
    // Acknowledged ones only as history: the newest of each state.
    let waits = |status: &pb::TaskStatus| task.updates.iter().any(|waiting| waiting.uuid == status.uuid);
    for status in task.statuses.iter().filter(|status| !waits(status)) {
        changes.push(Change::Update(Update { key: key.clone(), status: status.clone() }));
        let uuid = status.uuid.clone().unwrap_or_default();
        changes.push(Change::Acknowledged(checkpoint::Acknowledged { key: key.clone(), uuid }));
    }
    for status in task.updates.iter() {
        changes.push(Change::Update(Update { key: key.clone(), status: status.clone() }));
    }
}
