//! What an agent must know again after a restart, as records of a [journal](crate::journal).
//!
//! Replaying the records in order gives the state ([`Replay`]); on start the journal is written anew with as
//! few records as give the same state. Records carry a format version; only what the frameworks want
//! checkpointed is written.

use std::path::{Path, PathBuf};

use prost::Message;

use crate::{
    error::Error,
    journal::{Contents, Journal},
    procfs::boot_id,
};

mod record;
mod replay;

pub use record::*;
pub use replay::{Replay, ReplayedExecutor, ReplayedTask};

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
        let errors = u64::from(damaged > 0);
        let mut replay = Replay { boot_id: boot_id(), errors, ..Replay::default() };
        for bytes in records {
            let record = Record::decode(bytes.as_slice()).map_err(|error| error.to_string());
            match record.and_then(|record| replay.apply(record)) {
                Err(reason) if strict => return Err(failed(reason)),
                Err(reason) => {
                    replay.errors += 1;
                    tracing::warn!(path = %path.display(), reason, "record left out");
                }
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
    use meshos_proto::mesos::v1 as pb;

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
        assert_eq!((replay.epoch, replay.errors, replay.agent.unwrap().id.as_str()), (7, 1, "a"));
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
