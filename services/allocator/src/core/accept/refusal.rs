//! What becomes of operations that are not carried out.

use meshos_proto::mesos::v1::{
    self as pb, OperationState,
    offer::{Operation, operation},
};
use meshos_types::{AgentId, FrameworkId, TaskId};

use crate::core::{
    Core,
    events::{self, Verdict},
};

impl Core {
    pub(super) fn fail_operations(
        &mut self,
        id: &FrameworkId,
        operations: Vec<Operation>,
        verdict: &Verdict,
    ) {
        for operation in operations {
            self.fail_operation(id, operation, verdict);
        }
    }

    /// Tasks get the verdict; another operation is dropped, and its framework told if it asked to be.
    pub(crate) fn fail_operation(&mut self, id: &FrameworkId, operation: Operation, verdict: &Verdict) {
        let tasks = match operation.r#type() {
            operation::Type::Launch => operation.launch.unwrap_or_default().task_infos,
            operation::Type::LaunchGroup => {
                operation.launch_group.map(|group| group.task_group.tasks).unwrap_or_default()
            }
            _ => {
                self.counters.operation_state(operation.r#type(), OperationState::OperationError);
                if operation.id.is_some() {
                    let status = pb::OperationStatus {
                        operation_id: operation.id,
                        state: OperationState::OperationError.into(),
                        message: Some(verdict.message.clone()),
                        ..pb::OperationStatus::default()
                    };
                    self.send(id, events::operation(status));
                }
                return;
            }
        };
        for task in &tasks {
            self.refuse_task(id, task, verdict);
        }
    }

    /// A task that was not accepted: no entry in the ledger.
    pub(super) fn refuse_task(&mut self, id: &FrameworkId, task: &pb::TaskInfo, verdict: &Verdict) {
        let agent = AgentId::from(&task.agent_id);
        let status = events::status(&TaskId::from(&task.task_id), Some(&agent), verdict, self.now);
        self.count_status(id, &status);
        self.send(id, events::update(status));
    }
}
