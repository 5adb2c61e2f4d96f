//! What an agent must know again after a restart, as records of a [journal](crate::journal).
//!
//! Replaying the records in order gives the state ([`Replay`]); on start the journal is written anew with as
//! few records as give the same state. Records carry a format version; only what the frameworks want
//! checkpointed is written.

use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use meshos_proto::{meshos::allocator::v1::OperationUpdate, mesos::v1 as pb};
use prost::{Message, Oneof};

use crate::{
    error::Error,
    journal::{Contents, Journal},
    procfs::boot_id,
};

/// Version of the records.
pub const FORMAT: u32 = 1;

/// One change.
#[derive(Clone, PartialEq, Message)]
pub struct Record {
    #[prost(
        oneof = "Change",
        tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20"
    )]
    pub change: Option<Change>,
}

/// What changed.
#[derive(Clone, PartialEq, Oneof)]
#[allow(clippy::large_enum_variant, reason = "made, encoded, dropped")]
pub enum Change {
    #[prost(message, tag = "1")]
    Header(Header),
    #[prost(message, tag = "2")]
    Agent(Agent),
    /// The newest epoch of an allocator that was obeyed.
    #[prost(uint64, tag = "3")]
    Epoch(u64),
    #[prost(message, tag = "4")]
    Framework(pb::FrameworkInfo),
    #[prost(message, tag = "5")]
    Launch(Launch),
    #[prost(message, tag = "6")]
    Kill(Kill),
    #[prost(message, tag = "7")]
    Update(Update),
    #[prost(message, tag = "8")]
    Acknowledged(Acknowledged),
    /// The task's last update was acknowledged, or nobody wants it.
    #[prost(message, tag = "9")]
    Removed(Key),
    /// A removed task, for the agent's history.
    #[prost(message, tag = "10")]
    Completed(Completed),
    /// An operation changed the agent's resources.
    #[prost(message, tag = "11")]
    Operation(Operation),
    /// The agent as its flags made it.
    #[prost(message, tag = "20")]
    Info(pb::AgentInfo),
    /// The framework knows what became of the operation with this id.
    #[prost(bytes = "bytes", tag = "12")]
    OperationAcknowledged(bytes::Bytes),
    /// An executor was accepted; its framework's id stands in its info.
    #[prost(message, tag = "13")]
    Executor(Executor),
    /// It subscribed for the first time.
    #[prost(message, tag = "14")]
    ExecutorSubscribed(ExecutorKey),
    /// It shall end.
    #[prost(message, tag = "15")]
    ExecutorTerminating(ExecutorKey),
    /// It ended, and is history.
    #[prost(message, tag = "16")]
    ExecutorEnded(Executor),
    /// An executor of the past, for the agent's history.
    #[prost(message, tag = "17")]
    ExecutorCompleted(Executor),
    /// A container of the API was accepted.
    #[prost(message, tag = "18")]
    Nested(Nested),
    /// It ended and was removed; its path.
    #[prost(string, tag = "19")]
    NestedRemoved(String),
}

/// The first record.
#[derive(Clone, PartialEq, Message)]
pub struct Header {
    #[prost(uint32, tag = "1")]
    pub format: u32,
    #[prost(string, tag = "2")]
    pub boot_id: String,
}

/// The agent as the registry admitted it.
#[derive(Clone, PartialEq, Message)]
pub struct Agent {
    #[prost(string, tag = "1")]
    pub id: String,
    /// Unix time, milliseconds.
    #[prost(uint64, tag = "2")]
    pub registered_at_ms: u64,
}

/// Names a task.
#[derive(Clone, PartialEq, Message)]
pub struct Key {
    #[prost(string, tag = "1")]
    pub framework_id: String,
    #[prost(string, tag = "2")]
    pub task_id: String,
}

/// A task was accepted.
#[derive(Clone, PartialEq, Message)]
pub struct Launch {
    #[prost(string, tag = "1")]
    pub framework_id: String,
    #[prost(message, required, tag = "2")]
    pub task: pb::TaskInfo,
    #[prost(string, tag = "3")]
    pub container_id: String,
    #[prost(string, tag = "4")]
    pub directory: String,
    #[prost(string, tag = "5")]
    pub traceparent: String,
    /// Empty: the task is its own executor.
    #[prost(string, tag = "6")]
    pub executor_id: String,
    /// Empty: it came alone.
    #[prost(string, tag = "7")]
    pub group_id: String,
    /// It has a container of its own all the same.
    #[prost(bool, tag = "8")]
    pub is_pod: bool,
}

/// A container that the API launched.
#[derive(Clone, PartialEq, Message)]
pub struct Nested {
    #[prost(message, required, tag = "1")]
    pub container_id: pb::ContainerId,
    #[prost(string, tag = "2")]
    pub directory: String,
}

/// Names an executor.
#[derive(Clone, PartialEq, Message)]
pub struct ExecutorKey {
    #[prost(string, tag = "1")]
    pub framework_id: String,
    #[prost(string, tag = "2")]
    pub executor_id: String,
}

/// An executor that a framework gave.
#[derive(Clone, PartialEq, Message)]
pub struct Executor {
    /// With its framework's id.
    #[prost(message, required, tag = "1")]
    pub info: pb::ExecutorInfo,
    #[prost(string, tag = "2")]
    pub container_id: String,
    #[prost(string, tag = "3")]
    pub directory: String,
}

impl Executor {
    fn key(&self) -> (String, String) {
        let framework_id = self.info.framework_id.as_ref().map(|id| id.value.clone()).unwrap_or_default();
        (framework_id, self.info.executor_id.value.clone())
    }
}

/// A task shall end.
#[derive(Clone, PartialEq, Message)]
pub struct Kill {
    #[prost(message, required, tag = "1")]
    pub key: Key,
    #[prost(uint64, tag = "2")]
    pub grace_ms: u64,
}

/// A status update that must reach the framework.
#[derive(Clone, PartialEq, Message)]
pub struct Update {
    #[prost(message, required, tag = "1")]
    pub key: Key,
    #[prost(message, required, tag = "2")]
    pub status: pb::TaskStatus,
}

/// The oldest update of a task reached the framework.
#[derive(Clone, PartialEq, Message)]
pub struct Acknowledged {
    #[prost(message, required, tag = "1")]
    pub key: Key,
    #[prost(bytes = "bytes", tag = "2")]
    pub uuid: bytes::Bytes,
}

/// What an operation led to. It is safe from the end of the machine, too.
#[derive(Clone, PartialEq, Message)]
pub struct Operation {
    #[prost(bytes = "bytes", tag = "1")]
    pub uuid: bytes::Bytes,
    /// All resources of the agent after it.
    #[prost(message, repeated, tag = "2")]
    pub total: Vec<pb::Resource>,
    /// What the framework must be told; absent: nobody asked for it.
    #[prost(message, optional, tag = "3")]
    pub update: Option<OperationUpdate>,
}

/// A task of the past.
#[derive(Clone, PartialEq, Message)]
pub struct Completed {
    #[prost(message, required, tag = "1")]
    pub task: pb::Task,
    #[prost(string, tag = "2")]
    pub container_id: String,
    #[prost(string, tag = "3")]
    pub directory: String,
}

impl From<Change> for Record {
    fn from(change: Change) -> Self {
        Self { change: Some(change) }
    }
}

/// A task as the records tell it.
#[derive(Clone, Debug)]
pub struct ReplayedTask {
    pub launch: Launch,
    /// All updates, oldest first.
    pub updates: Vec<pb::TaskStatus>,
    /// How many of them were acknowledged.
    pub acknowledged: usize,
    pub kill_grace_ms: Option<u64>,
}

/// An executor as the records tell it.
#[derive(Clone, Debug)]
pub struct ReplayedExecutor {
    pub executor: Executor,
    pub subscribed: bool,
    pub terminating: bool,
}

/// What the records add up to.
#[derive(Clone, Debug, Default)]
pub struct Replay {
    pub boot_id: String,
    pub agent: Option<Agent>,
    pub epoch: u64,
    /// The agent as the flags of the process before made it.
    pub info: Option<pb::AgentInfo>,
    /// By id.
    pub frameworks: IndexMap<String, pb::FrameworkInfo>,
    /// By framework and task id, in the order of launch.
    pub tasks: IndexMap<(String, String), ReplayedTask>,
    /// By framework and executor id.
    pub executors: IndexMap<(String, String), ReplayedExecutor>,
    /// Oldest first.
    pub completed_executors: Vec<Executor>,
    /// By path.
    pub nested: IndexMap<String, Nested>,
    /// Oldest first.
    pub completed: Vec<Completed>,
    /// The agent's resources after the last operation.
    pub total: Option<Vec<pb::Resource>>,
    /// What frameworks must still be told of operations, by the operation's id.
    pub operations: IndexMap<bytes::Bytes, OperationUpdate>,
}

impl Replay {
    /// Applies one change.
    ///
    /// # Errors
    /// A format that this version does not know.
    pub fn apply(&mut self, record: Record) -> Result<(), String> {
        match record.change {
            Some(Change::Header(header)) if header.format != FORMAT => {
                return Err(format!("format {} is not {FORMAT}, the one this version reads", header.format));
            }
            Some(Change::Header(header)) => self.boot_id = header.boot_id,
            Some(Change::Agent(agent)) => self.agent = Some(agent),
            Some(Change::Epoch(epoch)) => self.epoch = epoch,
            Some(Change::Info(info)) => self.info = Some(info),
            Some(Change::Framework(info)) => {
                let id = info.id.as_ref().map(|id| id.value.clone()).unwrap_or_default();
                self.frameworks.insert(id, info);
            }
            Some(Change::Launch(launch)) => {
                let key = (launch.framework_id.clone(), launch.task.task_id.value.clone());
                let task = ReplayedTask { launch, updates: Vec::new(), acknowledged: 0, kill_grace_ms: None };
                self.tasks.insert(key, task);
            }
            Some(Change::Operation(operation)) => {
                self.total = Some(operation.total);
                if let Some(update) = operation.update {
                    self.operations.insert(operation.uuid, update);
                }
            }
            Some(Change::Executor(executor)) => {
                let replayed =
                    ReplayedExecutor { executor: executor.clone(), subscribed: false, terminating: false };
                self.executors.insert(executor.key(), replayed);
            }
            Some(Change::ExecutorSubscribed(key)) => {
                self.change_executor(key, |executor| executor.subscribed = true);
            }
            Some(Change::ExecutorTerminating(key)) => {
                self.change_executor(key, |executor| executor.terminating = true);
            }
            Some(Change::ExecutorEnded(executor)) => {
                self.executors.shift_remove(&executor.key());
                self.completed_executors.push(executor);
            }
            Some(Change::ExecutorCompleted(executor)) => self.completed_executors.push(executor),
            Some(Change::Nested(nested)) => {
                self.nested.insert(crate::core::container_path(&nested.container_id), nested);
            }
            Some(Change::NestedRemoved(path)) => drop(self.nested.shift_remove(&path)),
            Some(Change::OperationAcknowledged(uuid)) => drop(self.operations.shift_remove(&uuid)),
            Some(Change::Completed(completed)) => self.completed.push(completed),
            Some(Change::Removed(key)) => drop(self.tasks.shift_remove(&(key.framework_id, key.task_id))),
            Some(change) => self.change_task(change),
            None => return Err("a record of a kind that this version does not know".to_owned()),
        }
        Ok(())
    }

    fn change_executor(&mut self, key: ExecutorKey, change: impl FnOnce(&mut ReplayedExecutor)) {
        if let Some(executor) = self.executors.get_mut(&(key.framework_id, key.executor_id)) {
            change(executor);
        }
    }

    fn change_task(&mut self, change: Change) {
        let key = match &change {
            Change::Kill(kill) => &kill.key,
            Change::Update(update) => &update.key,
            Change::Acknowledged(acknowledged) => &acknowledged.key,
            _ => return,
        };
        let Some(task) = self.tasks.get_mut(&(key.framework_id.clone(), key.task_id.clone())) else { return };
        match change {
            Change::Kill(kill) => task.kill_grace_ms = Some(kill.grace_ms),
            Change::Update(update) => task.updates.push(update.status),
            Change::Acknowledged(_) => task.acknowledged = (task.acknowledged + 1).min(task.updates.len()),
            _ => {}
        }
    }
}

/// The file.
#[derive(Debug)]
pub struct Checkpoint {
    journal: Journal,
    /// Written anew beyond this size.
    compact_at: u64,
}

const COMPACT_AT: u64 = 8 * 1024 * 1024;

impl Checkpoint {
    /// Opens and reads the checkpoint in an agent's work directory. A record that was not written whole is
    /// dropped, with those after it.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] says what cannot be read.
    pub fn open(path: &Path) -> Result<(Self, Replay), Error> {
        Self::open_as(path, true)
    }

    /// The same; what is damaged or of an unknown kind is left out, with a warning.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open_leniently(path: &Path) -> Result<(Self, Replay), Error> {
        Self::open_as(path, false)
    }

    fn open_as(path: &Path, strict: bool) -> Result<(Self, Replay), Error> {
        let failed = |reason: String| Error::Checkpoint { path: PathBuf::from(path), reason };
        let (journal, Contents { records, torn, damaged }) =
            Journal::open(path).map_err(|error| failed(error.to_string()))?;
        if torn > 0 {
            tracing::warn!(path = %path.display(), bytes = torn, "checkpoint ended in the middle of a record");
        }
        if damaged > 0 {
            let reason = format!("{damaged} bytes in it are damaged (--strict=false goes on without them)");
            if strict {
                return Err(failed(reason));
            }
            tracing::warn!(path = %path.display(), bytes = damaged, "the checkpoint is damaged: records are missing");
        }
        let mut replay = Replay { boot_id: boot_id(), ..Replay::default() };
        for bytes in records {
            let record = Record::decode(bytes.as_slice()).map_err(|error| error.to_string());
            match record.and_then(|record| replay.apply(record)) {
                Err(reason) if strict => return Err(failed(reason)),
                Err(reason) => tracing::warn!(path = %path.display(), reason, "record left out"),
                Ok(()) => {}
            }
        }
        Ok((Self { journal, compact_at: COMPACT_AT }, replay))
    }

    /// Adds records; they are safe from the end of this process when this returns.
    ///
    /// # Errors
    /// What the file system says.
    pub fn append(&mut self, records: &[Record]) -> std::io::Result<()> {
        let records: Vec<_> = records.iter().map(Message::encode_to_vec).collect();
        self.journal.append(&records)
    }

    /// Every [append](Self::append) fails from now on, as on a full disk.
    #[cfg(test)]
    pub(crate) fn fill_disk(&mut self) {
        self.journal.fill_disk();
    }

    /// Waits until all records are safe from the end of the machine.
    ///
    /// # Errors
    /// What the file system says.
    pub fn sync(&mut self) -> std::io::Result<()> {
        self.journal.sync()
    }

    /// Whether it is worth to [rewrite](Self::rewrite).
    #[must_use]
    pub fn is_large(&self) -> bool {
        self.journal.len() > self.compact_at
    }

    /// Replaces all records by these, which give the same state.
    ///
    /// # Errors
    /// What the file system says; the old records stay.
    pub fn rewrite(&mut self, records: &[Record]) -> std::io::Result<()> {
        let header = Record::from(Change::Header(Header { format: FORMAT, boot_id: boot_id() }));
        let all = std::iter::once(&header).chain(records);
        let records: Vec<_> = all.map(Message::encode_to_vec).collect();
        self.journal.rewrite(&records)?;
        self.compact_at = COMPACT_AT.max(self.journal.len() * 2);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_as_state() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.journal");
        let key = Key { framework_id: "f".to_owned(), task_id: "t".to_owned() };
        let status =
            |state: pb::TaskState| pb::TaskStatus { state: state as i32, ..pb::TaskStatus::default() };
        let task = pb::TaskInfo { task_id: pb::TaskId { value: "t".to_owned() }, ..pb::TaskInfo::default() };
        let launch =
            Launch { framework_id: "f".to_owned(), task, container_id: "c".to_owned(), ..Launch::default() };
        let (mut checkpoint, _) = Checkpoint::open(&path).unwrap();
        checkpoint.rewrite(&[]).unwrap();
        let changes = [
            Change::Agent(Agent { id: "a".to_owned(), registered_at_ms: 5 }),
            Change::Epoch(7),
            Change::Launch(launch),
            Change::Update(Update { key: key.clone(), status: status(pb::TaskState::TaskStarting) }),
            Change::Update(Update { key: key.clone(), status: status(pb::TaskState::TaskRunning) }),
            Change::Acknowledged(Acknowledged { key: key.clone(), uuid: bytes::Bytes::new() }),
            Change::Kill(Kill { key: key.clone(), grace_ms: 100 }),
        ];
        checkpoint.append(&changes.map(Record::from)).unwrap();
        let (_, replay) = Checkpoint::open(&path).unwrap();
        assert_eq!((replay.epoch, replay.agent.unwrap().id.as_str()), (7, "a"));
        let task = &replay.tasks[&("f".to_owned(), "t".to_owned())];
        assert_eq!((task.updates.len(), task.acknowledged, task.kill_grace_ms), (2, 1, Some(100)));
        checkpoint.append(&[Record::from(Change::Removed(key))]).unwrap();
        assert!(Checkpoint::open(&path).unwrap().1.tasks.is_empty());
    }

    #[test]
    fn a_damaged_checkpoint_stops_a_strict_start_and_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.journal");
        let (mut checkpoint, _) = Checkpoint::open(&path).unwrap();
        checkpoint.rewrite(&[Record::from(Change::Epoch(7))]).unwrap();
        let agent = Agent { id: "a".to_owned(), registered_at_ms: 5 };
        checkpoint.append(&[Record::from(Change::Agent(agent))]).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[10] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        for _ in 0..2 {
            let error = Checkpoint::open(&path).unwrap_err().to_string();
            assert!(error.contains("damaged (--strict=false"), "{error}");
        }
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        let (_, replay) = Checkpoint::open_leniently(&path).unwrap();
        assert_eq!((replay.epoch, replay.agent.unwrap().id.as_str()), (7, "a"));
    }

    #[test]
    fn a_newer_format_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.journal");
        let (mut checkpoint, _) = Checkpoint::open(&path).unwrap();
        let header = Header { format: FORMAT + 1, boot_id: String::new() };
        checkpoint.append(&[Record::from(Change::Header(header))]).unwrap();
        assert!(Checkpoint::open(&path).unwrap_err().to_string().contains("format 2"));
    }
}
