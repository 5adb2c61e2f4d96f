//! What follows from a task's or operation's state, and the parts of a status update.

use meshos_proto::mesos::v1::{
    OperationState, TaskState, TaskStatus,
    task_status::{Reason, Source},
};

use crate::ids::TaskId;

/// Whether the task counts as over: it runs no more, and its resources are free. LOST is among them, though a task
/// may come back from it.
pub fn is_terminal(state: TaskState) -> bool {
    use TaskState::*;
    match state {
        TaskFinished | TaskFailed | TaskKilled | TaskError | TaskLost | TaskDropped | TaskGone
        | TaskGoneByOperator => true,
        TaskStaging | TaskStarting | TaskRunning | TaskKilling | TaskUnreachable | TaskUnknown => false,
    }
}

/// Whether the resources of the task are free for others: it is over, or its agent is out of contact.
pub fn frees_resources(state: TaskState) -> bool {
    is_terminal(state) || state == TaskState::TaskUnreachable
}

/// Whether an executor may report the state; STAGING and the states that only a master or agent can know it may not.
pub fn is_reportable_by_executor(state: TaskState) -> bool {
    use TaskState::*;
    matches!(
        state,
        TaskStarting
            | TaskRunning
            | TaskKilling
            | TaskFinished
            | TaskFailed
            | TaskKilled
            | TaskError
            | TaskLost
    )
}

/// Whether the state is sent only to frameworks with PARTITION_AWARE.
pub fn needs_partition_aware(state: TaskState) -> bool {
    use TaskState::*;
    matches!(state, TaskDropped | TaskUnreachable | TaskGone | TaskGoneByOperator | TaskUnknown)
}

/// The state as a framework gets it: LOST in place of what it does not know.
pub fn compatible_state(state: TaskState, partition_aware: bool) -> TaskState {
    if partition_aware || !needs_partition_aware(state) { state } else { TaskState::TaskLost }
}

/// Whether the operation is over.
pub fn is_terminal_operation(state: OperationState) -> bool {
    use OperationState::*;
    matches!(
        state,
        OperationFinished | OperationFailed | OperationError | OperationDropped | OperationGoneByOperator
    )
}

/// The state of an update; none for a number that this version does not know.
pub fn state_of(status: &TaskStatus) -> Option<TaskState> {
    TaskState::try_from(status.state).ok()
}

/// The reason of an update; none when absent or unknown (the generated accessor would give the first reason).
pub fn reason_of(status: &TaskStatus) -> Option<Reason> {
    status.reason.and_then(|reason| Reason::try_from(reason).ok())
}

/// The source of an update; none when absent or unknown.
pub fn source_of(status: &TaskStatus) -> Option<Source> {
    status.source.and_then(|source| Source::try_from(source).ok())
}

/// Whether the framework must acknowledge the update: those of agents and executors have a uuid.
pub fn needs_acknowledgement(status: &TaskStatus) -> bool {
    status.uuid.as_ref().is_some_and(|uuid| !uuid.is_empty())
}

/// An update of that state and source, all else unset.
pub fn new_status(task: &TaskId, state: TaskState, source: Source) -> TaskStatus {
    TaskStatus {
        task_id: task.into(),
        state: state.into(),
        source: Some(source.into()),
        ..Default::default()
    }
}

/// Sets reason and message.
pub fn with_reason(mut status: TaskStatus, reason: Reason, message: impl Into<String>) -> TaskStatus {
    status.reason = Some(reason.into());
    status.message = Some(message.into());
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> impl Iterator<Item = TaskState> {
        (0..=13).map(|number| TaskState::try_from(number).unwrap())
    }

    #[test]
    fn eight_states_are_terminal_and_five_need_partition_awareness() {
        assert_eq!(all().filter(|s| is_terminal(*s)).count(), 8);
        assert_eq!(all().filter(|s| frees_resources(*s)).count(), 9);
        assert_eq!(all().filter(|s| needs_partition_aware(*s)).count(), 5);
    }

    #[test]
    fn a_framework_that_is_not_partition_aware_gets_lost() {
        for state in all() {
            assert_eq!(compatible_state(state, true), state);
            let coarse = compatible_state(state, false);
            assert_eq!(coarse, if needs_partition_aware(state) { TaskState::TaskLost } else { state });
            // Only what may not run any more is reported as lost.
            assert!(coarse == state || coarse == TaskState::TaskLost);
        }
    }

    #[test]
    fn an_absent_reason_is_not_the_first_one() {
        let status = new_status(&TaskId::new("t"), TaskState::TaskLost, Source::Master);
        assert_eq!((reason_of(&status), source_of(&status)), (None, Some(Source::Master)));
        assert!(!needs_acknowledgement(&status));
        let status = with_reason(status, Reason::AgentRemoved, "gone");
        assert_eq!(
            (state_of(&status), reason_of(&status)),
            (Some(TaskState::TaskLost), Some(Reason::AgentRemoved))
        );
    }

    #[test]
    fn five_operation_states_are_terminal() {
        let all = (0..=9).map(|number| OperationState::try_from(number).unwrap());
        assert_eq!(all.filter(|s| is_terminal_operation(*s)).count(), 5);
    }
}
