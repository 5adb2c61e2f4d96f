//! The file under the embedded store (redb).
//!
//! It holds the current keys, the leases and the revision; every commit is on disk (fsync) when it returns.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use redb::{
    Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, StorageError, TableDefinition,
};

use super::core::{Core, Effects, Restore};
use crate::error::{Error, Result};
use crate::model::{KeyValue, LeaseId};

const FILE: &str = "store.redb";
/// Values are read from memory; the cache only serves the B-tree's inner pages.
const CACHE_BYTES: usize = 32 * 1024 * 1024;
const FORMAT: u64 = 1;
const RECORD_VERSION: u8 = 1;
const HEADER_BYTES: usize = 33;

const KEYS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("keys");
const LEASES: TableDefinition<'_, i64, u64> = TableDefinition::new("leases");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// An open file.
#[derive(Debug)]
pub(crate) struct Disk {
    database: Database,
}

impl Disk {
    /// Opens or creates the file in `dir` and reads what it holds.
    pub(crate) fn open(dir: &Path) -> Result<(Self, Core)> {
        let not_writable =
            |error: std::io::Error| Error::NotWritable { path: dir.to_owned(), why: error.to_string() };
        fs::create_dir_all(dir).map_err(not_writable)?;
        let path = dir.join(FILE);
        let database = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create(&path)
            .map_err(|error| open_error(dir, &path, error))?;
        // The file's own name has to survive a power cut as well.
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(not_writable)?;
        let disk = Self { database };
        let core = disk.recover(&path)?;
        Ok((disk, core))
    }

    fn recover(&self, path: &Path) -> Result<Core> {
        let corrupt = |why: String| Error::Corrupt { place: path.display().to_string(), why };
        self.create_tables().map_err(|error| corrupt(error.to_string()))?;
        let stored = self.read().map_err(|error| corrupt(error.to_string()))?;
        if stored.format != FORMAT {
            return Err(corrupt(format!("it has format {} and this version reads {FORMAT}", stored.format)));
        }
        let mut restore = Restore::new(stored.revision, stored.next_lease);
        for (id, millis) in stored.leases {
            restore.lease(LeaseId(id), Duration::from_millis(millis));
        }
        for (key, record) in stored.keys {
            let why = format!("the record of key {key:?} cannot be decoded");
            restore.key(decode(key, &record).ok_or_else(|| corrupt(why))?);
        }
        Ok(restore.finish())
    }

    fn create_tables(&self) -> Result<(), redb::Error> {
        let txn = self.database.begin_write()?;
        let fresh = {
            let mut meta = txn.open_table(META)?;
            let fresh = meta.get("format")?.is_none();
            if fresh {
                meta.insert("format", FORMAT)?;
                meta.insert("revision", 1)?;
                meta.insert("next_lease", 1)?;
            }
            txn.open_table(KEYS)?;
            txn.open_table(LEASES)?;
            fresh
        };
        if fresh {
            txn.commit()?
        } else {
            txn.abort()?
        }
        Ok(())
    }

    fn read(&self) -> Result<Stored, redb::Error> {
        let txn = self.database.begin_read()?;
        let meta = txn.open_table(META)?;
        let number =
            |name: &str| -> Result<u64, redb::Error> { Ok(meta.get(name)?.map_or(0, |v| v.value())) };
        let mut stored = Stored {
            format: number("format")?,
            revision: number("revision")?,
            next_lease: number("next_lease")? as i64,
            ..Stored::default()
        };
        for row in txn.open_table(LEASES)?.iter()? {
            let (id, millis) = row?;
            stored.leases.push((id.value(), millis.value()));
        }
        for row in txn.open_table(KEYS)?.iter()? {
            let (key, record) = row?;
            stored.keys.push((key.value().to_owned(), record.value().to_vec()));
        }
        Ok(stored)
    }

    /// Writes staged effects; they are on disk when this returns.
    pub(crate) fn commit(&self, effects: &Effects) -> Result<()> {
        self.write(effects).map_err(|error| Error::Disk { why: error.to_string() })
    }

    fn write(&self, effects: &Effects) -> Result<(), redb::Error> {
        let mut txn = self.database.begin_write()?;
        txn.set_durability(Durability::Immediate)?;
        {
            let mut meta = txn.open_table(META)?;
            meta.insert("revision", effects.revision)?;
            meta.insert("next_lease", effects.next_lease as u64)?;
            let mut leases = txn.open_table(LEASES)?;
            for (id, ttl) in &effects.leases {
                match ttl {
                    Some(ttl) => leases.insert(id.0, ttl.as_millis() as u64)?,
                    None => leases.remove(id.0)?,
                };
            }
            let mut keys = txn.open_table(KEYS)?;
            for (key, value) in &effects.keys {
                match value {
                    Some(kv) => keys.insert(key.as_str(), encode(kv).as_slice())?,
                    None => keys.remove(key.as_str())?,
                };
            }
        }
        txn.commit()?;
        Ok(())
    }
}

#[derive(Default)]
struct Stored {
    format: u64,
    revision: u64,
    next_lease: i64,
    leases: Vec<(i64, u64)>,
    keys: Vec<(String, Vec<u8>)>,
}

fn open_error(dir: &Path, path: &Path, error: DatabaseError) -> Error {
    let dir: PathBuf = dir.to_owned();
    match error {
        DatabaseError::DatabaseAlreadyOpen => Error::Locked { path: dir },
        DatabaseError::Storage(StorageError::Io(io)) if io.kind() != ErrorKind::InvalidData => {
            Error::NotWritable { path: dir, why: io.to_string() }
        }
        other => Error::Corrupt { place: path.display().to_string(), why: other.to_string() },
    }
}

/// Record version, create and mod revision, version, lease (0: none), value; numbers little-endian.
fn encode(kv: &KeyValue) -> Vec<u8> {
    let mut record = Vec::with_capacity(HEADER_BYTES + kv.value.len());
    record.push(RECORD_VERSION);
    record.extend(kv.create_revision.to_le_bytes());
    record.extend(kv.mod_revision.to_le_bytes());
    record.extend(kv.version.to_le_bytes());
    record.extend(kv.lease.map_or(0, |id| id.0).to_le_bytes());
    record.extend_from_slice(&kv.value);
    record
}

fn decode(key: String, record: &[u8]) -> Option<KeyValue> {
    let number = |at: usize| Some(u64::from_le_bytes(record.get(at..at + 8)?.try_into().ok()?));
    if record.first() != Some(&RECORD_VERSION) {
        return None;
    }
    let lease = number(25)? as i64;
    Some(KeyValue {
        key,
        create_revision: number(1)?,
        mod_revision: number(9)?,
        version: number(17)?,
        lease: (lease != 0).then_some(LeaseId(lease)),
        value: Bytes::copy_from_slice(record.get(HEADER_BYTES..)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record as version 1 wrote it; a store of that version has to stay readable.
    #[test]
    fn record_of_version_1_stays_readable() {
        let mut sample = vec![1, 5, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0];
        sample.extend([7, 0, 0, 0, 0, 0, 0, 0]);
        sample.extend(b"value");
        let expected = KeyValue {
            key: "k".to_owned(),
            value: Bytes::from_static(b"value"),
            create_revision: 5,
            mod_revision: 9,
            version: 3,
            lease: Some(LeaseId(7)),
        };
        assert_eq!(decode("k".to_owned(), &sample), Some(expected.clone()));
        assert_eq!(encode(&expected), sample);
    }

    #[test]
    fn short_or_unknown_record_is_refused() {
        assert_eq!(decode("k".to_owned(), &[1, 2, 3]), None);
        assert_eq!(decode("k".to_owned(), &[9; 40]), None);
    }
}
