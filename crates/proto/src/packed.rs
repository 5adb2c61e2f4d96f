//! Messages that hold tasks as bytes. A leader has hundreds of thousands of them, and looks at a few of their fields: what
//! it does not look at it need not take apart, and a task takes a tenth of the memory. On the wire all is as the `.proto`
//! files say.

use bytes::Bytes;
use prost::Message;

use crate::{
    generated::{
        meshos::allocator::v1 as allocator,
        meshos::allocator::v1::{ExecutorEnded, FrameworkMessage, OperationUpdate, StatusUpdate, TaskPlace},
        mesos::v1 as pb,
    },
    wire::{Fields, Raw, VARINT, put_bytes, put_tag, put_varint},
};

mod agent_link {
    include!(concat!(env!("OUT_DIR"), "/meshos.allocator.v1.AgentLink.rs"));
}

pub use agent_link::{agent_link_client, agent_link_server};

/// `meshos.allocator.v1.Task`.
#[derive(Clone, PartialEq, Message)]
pub struct Task {
    /// A `mesos.v1.Task`.
    #[prost(bytes = "bytes", tag = "1")]
    pub task: Bytes,
    #[prost(enumeration = "TaskPlace", tag = "2")]
    pub place: i32,
}

impl Task {
    /// A task in its place.
    #[must_use]
    pub fn new(task: &pb::Task, place: TaskPlace) -> Self {
        Self { task: task.encode_to_vec().into(), place: place.into() }
    }

    /// The task; none when it is none.
    #[must_use]
    pub fn unpack(&self) -> Option<pb::Task> {
        // Of a slice, so that bytes in it are copies: else each would keep the message that it came in.
        pb::Task::decode(&*self.task).ok()
    }
}

/// `meshos.allocator.v1.AgentMessage`, as the allocator reads it.
#[derive(Clone, PartialEq, Message)]
pub struct AgentMessage {
    #[prost(oneof = "Told", tags = "1, 2, 3, 4, 5")]
    pub body: Option<Told>,
}

/// What an agent says.
#[derive(Clone, PartialEq, prost::Oneof)]
#[allow(clippy::large_enum_variant, reason = "as it is generated elsewhere")]
pub enum Told {
    #[prost(message, tag = "1")]
    Reregister(Reregister),
    #[prost(message, tag = "2")]
    Update(StatusUpdate),
    #[prost(message, tag = "3")]
    OperationUpdate(OperationUpdate),
    #[prost(message, tag = "4")]
    FrameworkMessage(FrameworkMessage),
    #[prost(message, tag = "5")]
    ExecutorEnded(ExecutorEnded),
}

/// `meshos.allocator.v1.Reregister`, as the allocator reads it.
#[derive(Clone, PartialEq, Message)]
pub struct Reregister {
    #[prost(message, optional, tag = "1")]
    pub agent: Option<pb::AgentInfo>,
    #[prost(string, tag = "2")]
    pub version: String,
    #[prost(string, tag = "3")]
    pub endpoint: String,
    #[prost(message, repeated, tag = "4")]
    pub capabilities: Vec<pb::agent_info::Capability>,
    /// Each a `mesos.v1.FrameworkInfo`.
    #[prost(bytes = "bytes", repeated, tag = "5")]
    pub frameworks: Vec<Bytes>,
    /// Each a `mesos.v1.Task`.
    #[prost(bytes = "bytes", repeated, tag = "6")]
    pub tasks: Vec<Bytes>,
    #[prost(uint64, tag = "7")]
    pub highest_epoch: u64,
    #[prost(uint64, tag = "8")]
    pub registered_at_ms: u64,
    #[prost(message, repeated, tag = "9")]
    pub total: Vec<pb::Resource>,
    #[prost(message, repeated, tag = "10")]
    pub operations: Vec<OperationUpdate>,
    #[prost(message, repeated, tag = "11")]
    pub executors: Vec<pb::ExecutorInfo>,
}

impl From<allocator::Reregister> for Reregister {
    fn from(report: allocator::Reregister) -> Self {
        Self {
            agent: report.agent,
            version: report.version,
            endpoint: report.endpoint,
            capabilities: report.capabilities,
            frameworks: report.frameworks.iter().map(|info| info.encode_to_vec().into()).collect(),
            tasks: report.tasks.iter().map(|task| task.encode_to_vec().into()).collect(),
            highest_epoch: report.highest_epoch,
            registered_at_ms: report.registered_at_ms,
            total: report.total,
            operations: report.operations,
            executors: report.executors,
        }
    }
}

/// The id of an encoded `mesos.v1.FrameworkInfo`; none when there is none.
#[must_use]
pub fn framework_id(info: &[u8]) -> Option<&str> {
    const ID: u32 = 3;
    value_of(Fields::new(info).filter_map(|(number, raw)| bytes_of(raw).filter(|_| number == ID)).last()?)
}

/// A `mesos.v1.Task` taken apart at its top.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts<'a> {
    pub task_id: &'a str,
    pub framework_id: &'a str,
    pub executor_id: Option<&'a str>,
    pub agent_id: &'a str,
    pub state: i32,
    /// Each a `mesos.v1.Resource`.
    pub resources: Vec<&'a [u8]>,
    /// Each a `mesos.v1.TaskStatus`.
    pub statuses: Vec<&'a [u8]>,
    pub status_update_state: Option<i32>,
    pub status_update_uuid: Option<&'a [u8]>,
    /// The whole task but for its state, its statuses and the agent.
    pub lasting: Vec<u8>,
}

/// What changes of a task, to be put together with what lasts.
#[derive(Clone, Copy, Debug)]
pub struct Changing<'a> {
    pub agent_id: &'a str,
    pub state: i32,
    pub status_update_state: Option<i32>,
    pub status_update_uuid: Option<&'a [u8]>,
}

/// A `mesos.v1.Task`, encoded: what lasts, what changes, and its statuses (each a `mesos.v1.TaskStatus`).
#[must_use]
pub fn join<'a>(
    lasting: &[u8],
    changing: &Changing<'_>,
    statuses: impl Iterator<Item = &'a [u8]> + Clone,
) -> Bytes {
    /// Of a field besides what it holds, at most.
    const FIELD: usize = 12;
    let Changing { agent_id, state, status_update_state, status_update_uuid } = changing;
    let history: usize = statuses.clone().map(|status| FIELD + status.len()).sum();
    let uuid = status_update_uuid.map_or(0, |uuid| FIELD + uuid.len());
    let mut task = Vec::with_capacity(lasting.len() + history + uuid + agent_id.len() + 4 * FIELD);
    task.extend_from_slice(lasting);
    // A message in a message: the id is its field 1.
    let mut id = Vec::with_capacity(agent_id.len() + FIELD);
    put_bytes(&mut id, 1, agent_id.as_bytes());
    put_bytes(&mut task, field::AGENT_ID, &id);
    put_number(&mut task, field::STATE, *state);
    for status in statuses {
        put_bytes(&mut task, field::STATUSES, status);
    }
    if let Some(state) = status_update_state {
        put_number(&mut task, field::STATUS_UPDATE_STATE, *state);
    }
    if let Some(uuid) = status_update_uuid {
        put_bytes(&mut task, field::STATUS_UPDATE_UUID, uuid);
    }
    task.into()
}

fn put_number(out: &mut Vec<u8>, number: u32, value: i32) {
    put_tag(out, number, VARINT);
    // Below zero as 64 bits, as everybody writes it.
    put_varint(out, i64::from(value).cast_unsigned());
}

/// Numbers of the fields of `mesos.v1.Task`.
mod field {
    pub(super) const TASK_ID: u32 = 2;
    pub(super) const FRAMEWORK_ID: u32 = 3;
    pub(super) const EXECUTOR_ID: u32 = 4;
    pub(super) const AGENT_ID: u32 = 5;
    pub(super) const STATE: u32 = 6;
    pub(super) const RESOURCES: u32 = 7;
    pub(super) const STATUSES: u32 = 8;
    pub(super) const STATUS_UPDATE_STATE: u32 = 9;
    pub(super) const STATUS_UPDATE_UUID: u32 = 10;
}

impl<'a> Parts<'a> {
    /// Takes a task apart; none when it is not one.
    #[must_use]
    pub fn of(task: &'a [u8]) -> Option<Self> {
        let mut parts = Self {
            lasting: Vec::with_capacity(task.len()),
            state: pb::TaskState::default().into(),
            ..Self::default()
        };
        let mut fields = Fields::new(task);
        loop {
            let begin = fields.position;
            if begin == task.len() {
                break;
            }
            let (number, raw) = fields.next()?;
            let lasts = parts.note(number, raw)?;
            if lasts {
                parts.lasting.extend_from_slice(&task[begin..fields.position]);
            }
        }
        (!parts.task_id.is_empty() && !parts.framework_id.is_empty()).then_some(parts)
    }

    /// Whether the field is of what lasts; none when it is not what it should be.
    fn note(&mut self, number: u32, raw: Raw<'a>) -> Option<bool> {
        match number {
            field::TASK_ID => self.task_id = value_of(bytes_of(raw)?)?,
            field::FRAMEWORK_ID => self.framework_id = value_of(bytes_of(raw)?)?,
            field::EXECUTOR_ID => self.executor_id = Some(value_of(bytes_of(raw)?)?),
            field::RESOURCES => self.resources.push(bytes_of(raw)?),
            field::AGENT_ID => {
                self.agent_id = value_of(bytes_of(raw)?)?;
                return Some(false);
            }
            field::STATE => {
                self.state = number_of(raw)?;
                return Some(false);
            }
            field::STATUSES => {
                self.statuses.push(bytes_of(raw)?);
                return Some(false);
            }
            field::STATUS_UPDATE_STATE => {
                self.status_update_state = Some(number_of(raw)?);
                return Some(false);
            }
            field::STATUS_UPDATE_UUID => {
                self.status_update_uuid = Some(bytes_of(raw)?);
                return Some(false);
            }
            _ => {}
        }
        Some(true)
    }
}

fn bytes_of(raw: Raw<'_>) -> Option<&[u8]> {
    match raw {
        Raw::Len(bytes) => Some(bytes),
        _ => None,
    }
}

fn number_of(raw: Raw<'_>) -> Option<i32> {
    match raw {
        Raw::Varint(value) => i32::try_from(value.cast_signed()).ok(),
        _ => None,
    }
}

/// The text in a message that holds an id: its field 1.
fn value_of(id: &[u8]) -> Option<&str> {
    let value = Fields::new(id).filter_map(|(number, raw)| bytes_of(raw).filter(|_| number == 1)).last();
    std::str::from_utf8(value.unwrap_or_default()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task() -> pb::Task {
        let id = |value: &str| value.to_owned();
        pb::Task {
            name: id("n"),
            task_id: pb::TaskId { value: id("t") },
            framework_id: pb::FrameworkId { value: id("f") },
            executor_id: Some(pb::ExecutorId { value: id("e") }),
            agent_id: pb::AgentId { value: id("a") },
            state: pb::TaskState::TaskRunning.into(),
            resources: vec![pb::Resource { name: id("cpus"), ..pb::Resource::default() }],
            statuses: vec![pb::TaskStatus { message: Some(id("m")), ..pb::TaskStatus::default() }],
            status_update_state: Some(pb::TaskState::TaskStarting.into()),
            status_update_uuid: Some(Bytes::from_static(b"0123456789abcdef")),
            user: Some(id("u")),
            ..pb::Task::default()
        }
    }

    #[test]
    fn a_task_taken_apart_is_the_same_task() {
        let whole = task();
        let encoded = whole.encode_to_vec();
        let parts = Parts::of(&encoded).unwrap();
        let ids = (parts.task_id, parts.framework_id, parts.executor_id, parts.agent_id);
        assert_eq!(ids, ("t", "f", Some("e"), "a"));
        assert_eq!((parts.state, parts.status_update_state), (1, Some(0)));
        assert_eq!(parts.status_update_uuid, Some(&b"0123456789abcdef"[..]));
        assert_eq!(pb::TaskStatus::decode(parts.statuses[0]).unwrap(), whole.statuses[0]);
        assert_eq!(pb::Resource::decode(parts.resources[0]).unwrap(), whole.resources[0]);
        let Parts { agent_id, state, status_update_state, status_update_uuid, .. } = parts;
        let changing = Changing { agent_id, state, status_update_state, status_update_uuid };
        let joined = join(&parts.lasting, &changing, parts.statuses.iter().copied());
        assert_eq!(pb::Task::decode(joined).unwrap(), whole);
        assert_eq!(join(&parts.lasting, &Changing { state: -1, ..changing }, std::iter::empty()).len(), {
            let negative = pb::Task { state: -1, statuses: Vec::new(), ..whole };
            negative.encoded_len()
        });
    }

    #[test]
    fn what_is_cut_off_or_no_task_is_none_or_a_shorter_task() {
        let encoded = task().encode_to_vec();
        for end in 0..encoded.len() {
            // Whatever comes of it, nothing is read that is not there.
            let _ = Parts::of(&encoded[..end]);
        }
        assert_eq!(Parts::of(b""), None);
        assert_eq!(Parts::of(b"\x12\x80"), None);
    }

    #[test]
    fn a_report_reads_the_same_both_ways() {
        let info = pb::FrameworkInfo {
            id: Some(pb::FrameworkId { value: "f".to_owned() }),
            name: "n".to_owned(),
            ..pb::FrameworkInfo::default()
        };
        let report = allocator::Reregister {
            frameworks: vec![info],
            tasks: vec![task()],
            highest_epoch: 7,
            ..allocator::Reregister::default()
        };
        let encoded = allocator::AgentMessage {
            body: Some(allocator::agent_message::Body::Reregister(report.clone())),
        };
        let read = AgentMessage::decode(encoded.encode_to_vec().as_slice()).unwrap();
        let Some(Told::Reregister(packed)) = read.body else { panic!("{read:?}") };
        assert_eq!(packed, Reregister::from(report));
        assert_eq!(framework_id(&packed.frameworks[0]), Some("f"));
    }
}
