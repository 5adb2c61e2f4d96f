//! What executors say: SUBSCRIBE, UPDATE, MESSAGE.

use std::collections::BTreeSet;

use bytes::Bytes;
use meshos_proto::{
    meshos::allocator::v1::FrameworkMessage,
    mesos::v1::{
        self as pb,
        executor::{Call, call, event},
        task_status::Reason,
    },
};
use meshos_types::task_state::is_terminal;
use tracing::{debug, info, warn};

use super::{ExecutorKey, ExecutorState, event_of};
use crate::{
    core::{Core, Effect, Now, Phase, TaskKey, status::News},
    token::Claims,
};

/// Why a call is refused; the texts are those of Mesos.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    #[error("Framework cannot be found")]
    NoFramework,
    #[error("Executor cannot be found")]
    NoExecutor,
    #[error("Executor is not subscribed")]
    NotSubscribed,
    #[error(
        "The token is that of another executor: its claims do not match the call's framework, executor and container"
    )]
    OtherClaims,
}

impl Core {
    /// Carries out a call that is well formed. `stream`: where a SUBSCRIBE wants its events; `claims`: what the
    /// caller proved to be, when that is asked for.
    ///
    /// # Errors
    /// [`CallError`] when it is not this executor's turn.
    pub fn executor_call(
        &mut self,
        call: Call,
        stream: Option<u64>,
        claims: Option<&Claims>,
        now: Now,
    ) -> Result<Vec<Effect>, CallError> {
        let is_update = call.r#type() == call::Type::Update;
        let done = self.executor_call_of(call, stream, claims, now);
        self.counters.invalid_updates += u64::from(is_update && done.is_err());
        done.map(|()| std::mem::take(&mut self.effects))
    }

    fn executor_call_of(
        &mut self,
        call: Call,
        stream: Option<u64>,
        claims: Option<&Claims>,
        now: Now,
    ) -> Result<(), CallError> {
        let id = &call.framework_id.value;
        let key = ExecutorKey::parse(id, &call.executor_id.value).ok_or(CallError::NoExecutor)?;
        let framework = self.frameworks.get(&key.framework_id).ok_or(CallError::NoFramework)?;
        let executor = framework.executors.get(&key.executor_id).filter(|executor| !executor.is_pod());
        let executor = executor.ok_or(CallError::NoExecutor)?;
        if claims.is_some_and(|claims| *claims != Claims::new(&key, &executor.container_id)) {
            return Err(CallError::OtherClaims);
        }
        let early = matches!(executor.state, ExecutorState::Launching | ExecutorState::Registering);
        if early && call.r#type() != call::Type::Subscribe {
            return Err(CallError::NotSubscribed);
        }
        match call.r#type() {
            call::Type::Subscribe => self.subscribe(&key, call.subscribe.unwrap_or_default(), stream, now),
            call::Type::Update => {
                if let Some(update) = call.update {
                    self.update_from_executor(&key, update.status, now);
                }
            }
            call::Type::Message => {
                let message = FrameworkMessage {
                    framework_id: Some((&key.framework_id).into()),
                    executor_id: Some((&key.executor_id).into()),
                    data: call.message.map(|message| message.data).unwrap_or_default(),
                };
                self.effects.push(Effect::SendMessage(Box::new(message)));
            }
            call::Type::Heartbeat | call::Type::Unknown => {}
        }
        Ok(())
    }

    /// The reader of this stream is gone.
    pub fn executor_gone(&mut self, stream: u64) {
        for key in self.executor_keys() {
            if let Some(executor) = self.executor_mut(&key).filter(|executor| executor.stream == Some(stream))
            {
                executor.stream = None;
                info!(executor_id = %key.executor_id, framework_id = %key.framework_id, "executor's event stream is closed");
            }
        }
    }

    fn subscribe(&mut self, key: &ExecutorKey, subscribe: call::Subscribe, stream: Option<u64>, now: Now) {
        let Some(executor) = self.executor_mut(key) else { return };
        if let Some(old) = std::mem::replace(&mut executor.stream, stream) {
            self.effects.push(Effect::CloseExecutor { stream: old });
        }
        self.greet(key);
        let Some(executor) = self.executor_mut(key) else { return };
        let again = std::mem::replace(&mut executor.subscribed, true);
        if executor.state == ExecutorState::Terminating {
            return self.tell_executor(key, event_of(event::Type::Shutdown));
        }
        executor.state = ExecutorState::Running;
        executor.due = None;
        info!(executor_id = %key.executor_id, framework_id = %key.framework_id, again, "executor subscribed");
        if !again {
            self.record_executor(key, crate::checkpoint::Change::ExecutorSubscribed(key.to_record()));
        }
        for update in subscribe.unacknowledged_updates {
            self.update_from_executor(key, update.status, now);
        }
        let known = subscribe.unacknowledged_tasks.into_iter().map(|task| task.task_id.value);
        self.drop_unheard(key, &known.collect(), now);
        self.repeat_kills(key);
        let idle = self.tasks_of(key).is_empty();
        if idle && !again {
            return self.shutdown_executor(key, now);
        }
        self.deliver(key);
    }

    fn greet(&mut self, key: &ExecutorKey) {
        let Some(framework) = self.frameworks.get(&key.framework_id) else { return };
        let Some(executor) = framework.executors.get(&key.executor_id) else { return };
        let subscribed = event::Subscribed {
            executor_info: executor.info.clone(),
            framework_info: framework.info.clone(),
            agent_info: pb::AgentInfo {
                id: self.agent_id.as_ref().map(Into::into),
                ..self.settings.agent_info.clone()
            },
            container_id: Some(pb::ContainerId { value: executor.container_id.clone(), parent: None }),
        };
        let mut event = event_of(event::Type::Subscribed);
        event.subscribed = Some(subscribed);
        self.tell_executor(key, event);
    }

    /// Tasks that were told to the executor and that it knows nothing of: the telling was lost on the way.
    fn drop_unheard(&mut self, key: &ExecutorKey, known: &BTreeSet<String>, now: Now) {
        for task_key in self.tasks_of(key) {
            let Some(task) = self.task_mut(&task_key) else { continue };
            let told = task.phase == Phase::Running && task.statuses.is_empty();
            if told && !known.contains(task_key.task_id.as_str()) {
                task.phase = Phase::Ended;
                let text = "The executor subscribed without having heard of the task";
                let news = News::agent(self.dropped_state(&task_key), Reason::AgentRestarted, text);
                self.finish_in_executor(&task_key, news, now);
            }
        }
    }

    /// Kills that the executor may not have heard.
    fn repeat_kills(&mut self, key: &ExecutorKey) {
        for task_key in self.tasks_of(key) {
            let wanted =
                |task: &&crate::core::task::Task| task.phase == Phase::Running && task.kill.is_some();
            let Some(policy) = self.task(&task_key).filter(wanted).map(|task| task.info.kill_policy) else {
                continue;
            };
            let mut event = event_of(event::Type::Kill);
            event.kill = Some(event::Kill { task_id: (&task_key.task_id).into(), kill_policy: policy });
            self.tell_executor(key, event);
        }
    }

    /// A status update of an executor: written down, then acknowledged to it.
    fn update_from_executor(&mut self, key: &ExecutorKey, mut status: pb::TaskStatus, now: Now) {
        let Some(task_key) = TaskKey::parse(key.framework_id.as_str(), &status.task_id.value) else {
            self.counters.invalid_updates += 1;
            return;
        };
        let uuid = status.uuid.clone().unwrap_or_default();
        let mine = self.task(&task_key).filter(|task| task.home.executor() == Some(&key.executor_id));
        match mine {
            // It is history: its terminal update reached the framework.
            None => {
                debug!(task_id = %task_key.task_id, "update of a task that is not here");
                self.counters.invalid_updates += 1;
            }
            Some(task) if task.knows_update(&uuid) => {
                debug!(task_id = %task_key.task_id, "update told twice")
            }
            Some(task) if task.is_over() => {
                warn!(task_id = %task_key.task_id, framework_id = %key.framework_id, "update of a task that has ended dropped");
                self.counters.invalid_updates += 1;
            }
            // Its framework is gone: nobody is told.
            Some(task) if task.silent => {
                if is_terminal(status.state()) {
                    self.remove(&task_key);
                }
            }
            Some(task) if task.updates.is_full() && !is_terminal(status.state()) => {
                warn!(task_id = %task_key.task_id, framework_id = %key.framework_id, "too many updates wait, one not taken");
                // Not acknowledged: the executor may tell it again.
                return;
            }
            Some(_) => {
                self.complete(key, &mut status, now);
                let over = is_terminal(status.state());
                if let Some(task) = self.task_mut(&task_key) {
                    // It speaks of it, so it knows it.
                    task.phase = if over { Phase::Ended } else { Phase::Running };
                }
                self.tell_status(&task_key, status, now);
                if over {
                    self.resize_executor(key);
                }
            }
        }
        self.acknowledge_to_executor(key, &task_key, uuid);
    }

    fn acknowledge_to_executor(&mut self, key: &ExecutorKey, task_key: &TaskKey, uuid: Bytes) {
        let mut event = event_of(event::Type::Acknowledged);
        event.acknowledged = Some(event::Acknowledged { task_id: (&task_key.task_id).into(), uuid });
        self.tell_executor(key, event);
    }

    /// Adds what the agent knows better than the executor.
    fn complete(&self, key: &ExecutorKey, status: &mut pb::TaskStatus, now: Now) {
        status.executor_id = Some((&key.executor_id).into());
        status.agent_id = self.agent_id.as_ref().map(Into::into);
        status.timestamp.get_or_insert(now.unix.as_secs_f64());
        let Some(executor) = self.executor(key) else { return };
        let container = status.container_status.get_or_insert_default();
        container.container_id = Some(pb::ContainerId { value: executor.container_id.clone(), parent: None });
        container.executor_pid = executor.pid;
        if container.network_infos.is_empty() {
            container.network_infos = match executor.networks.is_empty() {
                true => vec![self.network()],
                false => executor.networks.clone(),
            };
        }
    }
}
