//! The children, and the journal that they survive in.

use std::{collections::BTreeMap, io, path::Path};

use meshos_proto::meshos::agent::v1 as pb;
use prost::Message;

use crate::{
    journal::Journal,
    procfs::{boot_id, start_time},
};

/// Wait status of a child that ended while no supervisor was its parent.
pub const UNKNOWN_STATUS: i32 = -1;

/// The journal is written anew beyond this size.
const COMPACT_AT: u64 = 1024 * 1024;

/// One child. In the journal the last record of a container holds.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Child {
    #[prost(string, tag = "1")]
    pub(super) container_id: String,
    #[prost(int32, tag = "2")]
    pub(super) pid: i32,
    /// In the kernel's ticks since boot: tells this process from a later one with its number.
    #[prost(uint64, tag = "3")]
    pub(super) start_time: u64,
    #[prost(string, repeated, tag = "4")]
    pub(super) cgroup_procs: Vec<String>,
    #[prost(int32, optional, tag = "5")]
    pub(super) wait_status: Option<i32>,
    #[prost(bool, tag = "6")]
    pub(super) forgotten: bool,
    /// Of the machine; a child of another boot has ended.
    #[prost(string, tag = "7")]
    pub(super) boot_id: String,
}

impl Child {
    pub(super) fn to_proto(&self) -> pb::Child {
        pb::Child { container_id: self.container_id.clone(), pid: self.pid, wait_status: self.wait_status }
    }

    fn lives(&self) -> bool {
        self.wait_status.is_none()
    }
}

/// All children that have not been forgotten.
#[derive(Debug)]
pub(super) struct Table {
    journal: Journal,
    boot_id: String,
    children: BTreeMap<String, Child>,
    by_pid: BTreeMap<i32, String>,
}

impl Table {
    /// Reads the journal. Children that do not live any more get an unknown status.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let (journal, contents) = Journal::open(path)?;
        let mut table =
            Self { journal, boot_id: boot_id(), children: BTreeMap::new(), by_pid: BTreeMap::new() };
        for record in contents.records {
            // Without a supervisor nothing could be run at all: what it cannot read it goes without.
            match Child::decode(record.as_slice()) {
                Ok(child) => table.keep(child),
                Err(error) => super::say(format_args!("journal: a record cannot be read: {error}")),
            }
        }
        if contents.damaged > 0 {
            super::say(format_args!(
                "journal: {} bytes are damaged: children may be missing",
                contents.damaged
            ));
        }
        table.compact()?;
        Ok(table)
    }

    /// Children that the journal has as living.
    pub(super) fn living(&self) -> Vec<Child> {
        self.children.values().filter(|child| child.lives()).cloned().collect()
    }

    /// Whether the process of this record is still the one that was started.
    pub(super) fn is_same_process(&self, child: &Child) -> bool {
        child.boot_id == self.boot_id && start_time(child.pid) == Some(child.start_time)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Child> {
        self.children.values()
    }

    pub(super) fn get(&self, container_id: &str) -> Option<&Child> {
        self.children.get(container_id)
    }

    pub(super) fn by_pid(&self, pid: i32) -> Option<&Child> {
        self.by_pid.get(&pid).and_then(|id| self.children.get(id))
    }

    pub(super) fn has_living(&self) -> bool {
        !self.by_pid.is_empty()
    }

    /// Remembers a process that has just been forked.
    pub(super) fn started(
        &mut self,
        container_id: &str,
        pid: i32,
        cgroup_procs: &[String],
    ) -> io::Result<()> {
        self.write(Child {
            container_id: container_id.to_owned(),
            pid,
            start_time: start_time(pid).unwrap_or_default(),
            cgroup_procs: cgroup_procs.to_vec(),
            wait_status: None,
            forgotten: false,
            boot_id: self.boot_id.clone(),
        })
    }

    /// Remembers how a child ended; the child as it is now.
    pub(super) fn ended(&mut self, container_id: &str, wait_status: i32) -> io::Result<Option<Child>> {
        let Some(child) = self.children.get(container_id) else { return Ok(None) };
        let child = Child { wait_status: Some(wait_status), ..child.clone() };
        self.write(child.clone())?;
        Ok(Some(child))
    }

    /// Drops a child that ended, or never ran.
    pub(super) fn forget(&mut self, container_id: &str) -> io::Result<()> {
        let Some(child) = self.children.get(container_id) else { return Ok(()) };
        self.write(Child { forgotten: true, ..child.clone() })?;
        if self.journal.len() > COMPACT_AT { self.compact() } else { Ok(()) }
    }

    fn write(&mut self, child: Child) -> io::Result<()> {
        let record = child.encode_to_vec();
        // What happened has happened, whether it can be written down or not.
        self.keep(child);
        self.journal.append(&[record])
    }

    fn keep(&mut self, child: Child) {
        if child.lives() && !child.forgotten {
            self.by_pid.insert(child.pid, child.container_id.clone());
        } else if self.by_pid.get(&child.pid) == Some(&child.container_id) {
            self.by_pid.remove(&child.pid);
        }
        if child.forgotten {
            self.children.remove(&child.container_id);
        } else {
            self.children.insert(child.container_id.clone(), child);
        }
    }

    fn compact(&mut self) -> io::Result<()> {
        let records: Vec<_> = self.children.values().map(Message::encode_to_vec).collect();
        self.journal.rewrite(&records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_statuses_survive_until_they_are_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut table = Table::open(&path).unwrap();
        table.started("a", 1, &[]).unwrap();
        table.started("b", 2, &[]).unwrap();
        table.ended("a", 256).unwrap();
        drop(table);
        let mut table = Table::open(&path).unwrap();
        assert_eq!(table.get("a").unwrap().wait_status, Some(256));
        assert_eq!(table.living().iter().map(|child| child.pid).collect::<Vec<_>>(), [2]);
        table.forget("a").unwrap();
        drop(table);
        assert!(Table::open(&path).unwrap().get("a").is_none());
    }

    #[test]
    fn a_process_is_known_by_its_start() {
        let dir = tempfile::tempdir().unwrap();
        let mut table = Table::open(&dir.path().join("journal")).unwrap();
        let me = i32::try_from(std::process::id()).unwrap();
        table.started("me", me, &[]).unwrap();
        let child = table.get("me").unwrap().clone();
        assert!(table.is_same_process(&child));
        assert!(!table.is_same_process(&Child { start_time: child.start_time + 1, ..child.clone() }));
        assert!(!table.is_same_process(&Child { boot_id: "other".to_owned(), ..child }));
    }
}
