//! The allocator's commands.

use meshos_proto::{
    meshos::allocator::v1::{AllocatorMessage, allocator_message::Body},
    mesos::v1 as pb,
};
use meshos_types::FrameworkId;
use tracing::{debug, info, warn};

use super::{Core, Effect, ExecutorKey, Now, TaskKey, record};
use crate::checkpoint::Change;

impl Core {
    /// Carries out a command unless a newer leader has been heard.
    pub(super) fn obey(&mut self, message: AllocatorMessage, now: Now) {
        if message.epoch < self.epoch {
            warn!(epoch = message.epoch, newest = self.epoch, "command of a deposed allocator dropped");
            return;
        }
        if message.epoch > self.epoch {
            self.epoch = message.epoch;
            self.effects.push(record(Change::Epoch(message.epoch)));
        }
        match message.body {
            Some(Body::Accepted(_)) => self.link_up(now),
            Some(Body::Launch(launch)) => self.launch(launch, now),
            Some(Body::Kill(kill)) => self.kill(&kill, now),
            Some(Body::Acknowledge(ack)) => {
                let framework_id = ack.framework_id.map(|id| id.value).unwrap_or_default();
                let task_id = ack.task_id.map(|id| id.value).unwrap_or_default();
                if let Some(key) = TaskKey::parse(&framework_id, &task_id) {
                    self.acknowledge(&key, &ack.uuid, now);
                }
            }
            Some(Body::ShutdownFramework(shutdown)) => {
                let id = shutdown.framework_id.map(|id| id.value).unwrap_or_default();
                self.shutdown_framework(&FrameworkId::new(id), now);
            }
            Some(Body::Refused(refused)) => self.effects.push(Effect::LinkRefused(refused.reason)),
            Some(Body::FrameworkMessage(message)) => {
                if let Some(key) = executor_key(message.framework_id, message.executor_id) {
                    self.message_to_executor(&key, message.data);
                }
            }
            Some(Body::ShutdownExecutor(shutdown)) => {
                if let Some(key) = executor_key(shutdown.framework_id, shutdown.executor_id) {
                    self.shutdown_executor(&key, now);
                }
            }
            Some(Body::ApplyOperation(apply)) => self.apply_operation(*apply),
            Some(Body::AcknowledgeOperation(acknowledge)) => self.acknowledge_operation(&acknowledge.uuid),
            None => debug!(epoch = message.epoch, "command of an unknown kind dropped"),
        }
    }

    fn link_up(&mut self, now: Now) {
        self.linked = true;
        info!(epoch = self.epoch, "linked to the allocator");
        for key in self.keys() {
            if let Some(task) = self.task_mut(&key) {
                task.updates.restart();
            }
            self.send_oldest(&key, now);
        }
        let ended = std::mem::take(&mut self.ended_unlinked);
        self.effects.extend(ended.into_iter().map(|ended| Effect::SendExecutorEnded(Box::new(ended))));
    }
}

fn executor_key(
    framework_id: Option<pb::FrameworkId>,
    executor_id: Option<pb::ExecutorId>,
) -> Option<ExecutorKey> {
    let framework_id = framework_id.map(|id| id.value).unwrap_or_default();
    ExecutorKey::parse(&framework_id, &executor_id.map(|id| id.value).unwrap_or_default())
}
