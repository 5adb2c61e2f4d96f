//! Executors of an agent process before this one.

use std::{collections::BTreeMap, path::PathBuf};

use meshos_types::{ExecutorId, FrameworkId};
use tracing::info;

use super::{Executor, ExecutorKey, ExecutorState, Queued};
use crate::{
    checkpoint::{self, Change, ReplayedExecutor},
    containerizer::Recovered,
    core::{Core, Now, Phase, task::Framework},
};

impl Core {
    pub(in crate::core) fn restore_executor(
        &mut self,
        (framework_id, executor_id): (String, String),
        replayed: ReplayedExecutor,
    ) {
        let key = ExecutorKey {
            framework_id: FrameworkId::new(framework_id),
            executor_id: ExecutorId::new(executor_id),
        };
        let checkpoint::Executor { info, container_id, directory } = replayed.executor;
        let mut executor = Executor::new(info, container_id.clone(), PathBuf::from(directory));
        executor.subscribed = replayed.subscribed;
        if replayed.terminating {
            executor.state = ExecutorState::Terminating;
        }
        let is_pod = executor.is_pod();
        let framework = self.frameworks.entry(key.framework_id.clone());
        let framework = framework.or_insert_with(|| Framework::unknown(&key.framework_id));
        framework.executors.insert(key.executor_id.clone(), executor);
        if !is_pod {
            self.executor_containers.insert(container_id, key);
        }
    }

    /// What became of the executors' processes while no agent ran. After the tasks were restored.
    pub(in crate::core) fn compare_executors(&mut self, there: &mut BTreeMap<String, Recovered>, now: Now) {
        for key in self.executor_keys() {
            let Some(executor) = self.executor(&key) else { continue };
            if executor.is_pod() {
                self.resume_pod(&key, now);
                continue;
            }
            let (container_id, subscribed) = (executor.container_id.clone(), executor.subscribed);
            match there.remove(&container_id) {
                None => self.executor_ended(&key, None, now),
                Some(Recovered { exit: Some(exit), .. }) => self.executor_exited(&key, exit, now),
                Some(Recovered { pid, .. }) => {
                    // Nothing was told to one that never subscribed.
                    self.requeue(&key, !subscribed);
                    self.wait_for(&key, pid, now);
                }
            }
        }
    }

    fn requeue(&mut self, key: &ExecutorKey, untold: bool) {
        let mut queued: Vec<Queued> = Vec::new();
        let mut groups = BTreeMap::new();
        for task_key in self.tasks_of(key) {
            let Some(task) = self.task_mut(&task_key).filter(|task| task.phase == Phase::Launching) else {
                continue;
            };
            if !untold {
                // Whether it was told is for the executor to say.
                task.phase = Phase::Running;
                continue;
            }
            let group = task.home.group().map(str::to_owned);
            match group
                .as_ref()
                .and_then(|group| groups.get(group))
                .copied()
                .and_then(|at: usize| queued.get_mut(at))
            {
                Some(queued) => queued.tasks.push(task_key.task_id),
                None => {
                    let is_group = group.is_some();
                    groups.extend(group.map(|group| (group, queued.len())));
                    queued.push(Queued { tasks: vec![task_key.task_id], is_group, waits_for: None });
                }
            }
        }
        for queued in &mut queued {
            // An agent that was killed may not have come to it.
            let volumes = self.volumes_of(key, queued);
            queued.waits_for = self.provide(key, volumes);
        }
        if let Some(executor) = self.executor_mut(key) {
            executor.queued = queued.into();
        }
    }

    /// A running executor must subscribe again, or end if it was told to.
    fn wait_for(&mut self, key: &ExecutorKey, pid: u32, now: Now) {
        let (first, again) =
            (self.settings.executor_registration_timeout, self.settings.executor_reregistration_timeout);
        let grace = self.settings.shutdown_grace;
        let Some(executor) = self.executor_mut(key) else { return };
        executor.pid = Some(pid);
        let patience = match (executor.state, executor.subscribed) {
            (ExecutorState::Terminating, _) => grace,
            (_, true) => again,
            (_, false) => first,
        };
        if executor.state != ExecutorState::Terminating {
            executor.state = ExecutorState::Registering;
        }
        info!(executor_id = %key.executor_id, framework_id = %key.framework_id, "executor runs on");
        self.executor_timer(key, now.elapsed + patience);
    }

    /// The fewest records that give the executors of a framework.
    pub(in crate::core) fn executor_changes(
        &self,
        framework_id: &FrameworkId,
        framework: &Framework,
    ) -> Vec<Change> {
        let mut changes: Vec<_> =
            framework.completed_executors.iter().cloned().map(Change::ExecutorCompleted).collect();
        for (executor_id, executor) in &framework.executors {
            let key = ExecutorKey { framework_id: framework_id.clone(), executor_id: executor_id.clone() };
            changes.push(Change::Executor(checkpoint::Executor {
                info: executor.info.clone(),
                container_id: executor.container_id.clone(),
                directory: executor.directory.display().to_string(),
            }));
            if executor.subscribed {
                changes.push(Change::ExecutorSubscribed(key.to_record()));
            }
            if executor.state == ExecutorState::Terminating {
                changes.push(Change::ExecutorTerminating(key.to_record()));
            }
        }
        changes
    }
}
