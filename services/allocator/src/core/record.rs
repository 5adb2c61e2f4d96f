//! A task as the leader keeps it. There are very many, and little is ever asked of one: what lasts stays in the bytes
//! that readers get.

use std::sync::Arc;

use bytes::Bytes;
use meshos_proto::{
    meshos::allocator::v1::TaskPlace,
    mesos::v1::{self as pb, TaskState},
    packed::{self, Changing, Parts},
};
use meshos_types::AgentId;
use prost::Message;

/// A task with its history.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// A `mesos.v1.Task` but for what follows.
    lasting: Arc<[u8]>,
    executor: Option<Arc<str>>,
    pub(crate) agent: AgentId,
    state: i32,
    /// What its framework was told last, and the update that told it.
    told: Option<i32>,
    uuid: Option<Box<[u8]>>,
    statuses: Vec<Status>,
}

/// A status in its history.
#[derive(Clone, Debug)]
struct Status {
    state: i32,
    /// A `mesos.v1.TaskStatus`.
    bytes: Arc<[u8]>,
}

impl Status {
    fn of(status: &pb::TaskStatus) -> Self {
        Self { state: status.state, bytes: status.encode_to_vec().into() }
    }

    fn unpack(&self) -> pb::TaskStatus {
        pb::TaskStatus::decode(&*self.bytes).unwrap_or_default()
    }
}

impl Record {
    /// A task that is launched; it has no history.
    pub(crate) fn new(task: &pb::Task, agent: AgentId) -> Self {
        let encoded = task.encode_to_vec();
        let lasting = Parts::of(&encoded).map(|parts| parts.lasting.into()).unwrap_or_default();
        let executor = task.executor_id.as_ref().map(|id| id.value.as_str().into());
        Self { lasting, executor, agent, state: task.state, told: None, uuid: None, statuses: Vec::new() }
    }

    /// A task as its agent reports it.
    pub(crate) fn reported(parts: &Parts<'_>, agent: AgentId) -> Self {
        let mut record = Self {
            lasting: parts.lasting.as_slice().into(),
            executor: parts.executor_id.map(Into::into),
            agent,
            state: parts.state,
            told: None,
            uuid: None,
            statuses: Vec::new(),
        };
        record.correct(parts);
        record
    }

    pub(crate) fn state(&self) -> TaskState {
        state_of(self.state)
    }

    /// What its framework was told last.
    pub(crate) fn told(&self) -> Option<TaskState> {
        self.told.map(state_of)
    }

    pub(crate) fn uuid(&self) -> Option<&[u8]> {
        self.uuid.as_deref()
    }

    pub(crate) fn executor(&self) -> Option<&str> {
        self.executor.as_deref()
    }

    /// An update says that this is its state, while the newest is another, perhaps.
    pub(crate) fn tell(&mut self, newest: TaskState, told: i32, uuid: Option<&[u8]>) {
        self.state = newest.into();
        self.told = Some(told);
        self.uuid = uuid.map(Into::into);
    }

    /// Appends a status to the history: one entry for each run of equal states, the newest of the run.
    pub(crate) fn add_status(&mut self, status: &pb::TaskStatus) {
        let status = match status.data {
            Some(_) => Status::of(&pb::TaskStatus { data: None, ..status.clone() }),
            None => Status::of(status),
        };
        match self.statuses.last_mut() {
            Some(last) if last.state == status.state => *last = status,
            _ => {
                self.statuses.reserve_exact(1);
                self.statuses.push(status);
            }
        }
    }

    /// The newest status of this state.
    pub(crate) fn last_of(&self, state: TaskState) -> Option<pb::TaskStatus> {
        let state = i32::from(state);
        self.statuses.iter().rev().find(|status| status.state == state).map(Status::unpack)
    }

    /// Whether an agent's report says the same.
    pub(crate) fn agrees(&self, reported: &Parts<'_>) -> bool {
        self.state == reported.state
            && self.uuid() == reported.status_update_uuid
            && self.statuses.len() == reported.statuses.len()
    }

    /// The agent knows best.
    pub(crate) fn correct(&mut self, reported: &Parts<'_>) {
        self.state = reported.state;
        self.told = reported.status_update_state;
        self.uuid = reported.status_update_uuid.map(Into::into);
        if !reported.statuses.is_empty() {
            let status = |bytes: &&[u8]| Status { state: state_in(bytes), bytes: (*bytes).into() };
            self.statuses = reported.statuses.iter().map(status).collect();
        }
    }

    /// The whole task as a message, for readers.
    pub(crate) fn packed(&self, place: TaskPlace) -> packed::Task {
        packed::Task { task: self.encoded(), place: place.into() }
    }

    /// What it runs in.
    pub(crate) fn container(&self) -> Option<pb::ContainerInfo> {
        pb::Task::decode(&*self.lasting).ok()?.container
    }

    fn encoded(&self) -> Bytes {
        let changing = Changing {
            agent_id: self.agent.as_str(),
            state: self.state,
            status_update_state: self.told,
            status_update_uuid: self.uuid(),
        };
        packed::join(&self.lasting, &changing, self.statuses.iter().map(|status| &*status.bytes))
    }
}

/// One that nobody knows is what a message without a state has.
fn state_of(state: i32) -> TaskState {
    TaskState::try_from(state).unwrap_or_default()
}

/// The state in an encoded status.
fn state_in(status: &[u8]) -> i32 {
    /// The rest is passed over.
    #[derive(Clone, PartialEq, Message)]
    struct Thin {
        #[prost(int32, tag = "2")]
        state: i32,
    }
    Thin::decode(status).map_or(0, |thin| thin.state)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task() -> pb::Task {
        pb::Task {
            name: "n".to_owned(),
            task_id: pb::TaskId { value: "t".to_owned() },
            framework_id: pb::FrameworkId { value: "f".to_owned() },
            agent_id: pb::AgentId { value: "a".to_owned() },
            executor_id: Some(pb::ExecutorId { value: "e".to_owned() }),
            state: TaskState::TaskStaging.into(),
            container: Some(pb::ContainerInfo {
                hostname: Some("h".to_owned()),
                ..pb::ContainerInfo::default()
            }),
            user: Some("u".to_owned()),
            ..pb::Task::default()
        }
    }

    fn status(state: TaskState, message: &str) -> pb::TaskStatus {
        pb::TaskStatus {
            state: state.into(),
            message: Some(message.to_owned()),
            data: Some(Bytes::from_static(b"d")),
            ..pb::TaskStatus::default()
        }
    }

    #[test]
    fn a_record_shows_the_task_with_its_history() {
        let mut record = Record::new(&task(), AgentId::new("a"));
        assert_eq!(record.packed(TaskPlace::Live).unpack(), Some(task()));
        assert_eq!((record.executor(), record.told(), record.uuid()), (Some("e"), None, None));
        assert_eq!(record.container(), task().container);
        let running = TaskState::TaskRunning;
        record.tell(TaskState::TaskFailed, running.into(), Some(&[7; 16]));
        for (state, message) in [(TaskState::TaskStarting, "1"), (running, "2"), (running, "3")] {
            record.add_status(&status(state, message));
        }
        let shown = record.packed(TaskPlace::Live).unpack().unwrap();
        let texts: Vec<_> = shown.statuses.iter().map(pb::TaskStatus::message).collect();
        assert_eq!(texts, ["1", "3"]);
        assert!(shown.statuses.iter().all(|status| status.data.is_none()));
        assert_eq!((shown.state(), shown.status_update_state()), (TaskState::TaskFailed, running));
        assert_eq!(shown.status_update_uuid(), [7; 16]);
        assert_eq!(record.last_of(running).unwrap().message(), "3");
        assert_eq!(record.last_of(TaskState::TaskLost), None);
    }

    #[test]
    fn what_an_agent_reports_is_shown_as_it_was() {
        let reported = pb::Task {
            statuses: vec![status(TaskState::TaskStarting, "1"), status(TaskState::TaskRunning, "2")],
            state: TaskState::TaskRunning.into(),
            status_update_state: Some(TaskState::TaskStarting.into()),
            status_update_uuid: Some(Bytes::from_static(b"u")),
            ..task()
        };
        let encoded = reported.encode_to_vec();
        let parts = Parts::of(&encoded).unwrap();
        let record = Record::reported(&parts, AgentId::new("a"));
        assert!(record.agrees(&parts));
        assert_eq!(record.packed(TaskPlace::Live).unpack(), Some(reported));
        assert_eq!((record.state(), record.told()), (TaskState::TaskRunning, Some(TaskState::TaskStarting)));
        assert_eq!(record.last_of(TaskState::TaskRunning).unwrap().message(), "2");
    }
}
