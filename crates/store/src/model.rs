//! What the store holds and what it is asked: keys, values, transactions, events.

use std::collections::BTreeSet;
use std::fmt;

use bytes::Bytes;

use crate::error::{Error, Result};

/// A point in the history of the store; every committed transaction that changes something has its own.
pub type Revision = u64;

/// The most keys one transaction may touch. etcd 3.4 keeps the buffer of a larger one for ever, and every later
/// read pays for it.
pub const MAX_TXN_OPS: usize = 128;
/// The most bytes of keys and values in one transaction: etcd's `--max-request-bytes` of 1.5 MiB, less what its
/// encoding adds.
pub const MAX_TXN_BYTES: usize = 1536 * 1024 - 16 * 1024;
/// The most bytes of one value.
pub const MAX_VALUE_BYTES: usize = MAX_TXN_BYTES - 4 * 1024;
/// The most bytes of one key.
pub const MAX_KEY_BYTES: usize = 2048;

/// A lease: keys bound to it disappear with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// A key with its value and history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    pub key: String,
    pub value: Bytes,
    /// The revision that created the key (again, if it was deleted before).
    pub create_revision: Revision,
    /// The revision that wrote the key last.
    pub mod_revision: Revision,
    /// How often the key was written since it was created; the first write is 1.
    pub version: u64,
    /// The lease that the key ends with.
    pub lease: Option<LeaseId>,
}

/// A condition of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compare {
    /// The key does not exist.
    Absent(String),
    /// The key exists.
    Present(String),
    /// The key exists and was created at this revision.
    CreateRevision(String, Revision),
    /// The key exists and was written last at this revision.
    ModRevision(String, Revision),
}

impl Compare {
    /// The key that the condition is about.
    pub fn key(&self) -> &str {
        match self {
            Compare::Absent(key)
            | Compare::Present(key)
            | Compare::CreateRevision(key, _)
            | Compare::ModRevision(key, _) => key,
        }
    }

    /// Whether the condition holds for what stands under its key.
    pub fn holds(&self, current: Option<&KeyValue>) -> bool {
        match (self, current) {
            (Compare::Absent(_), found) => found.is_none(),
            (_, None) => false,
            (Compare::Present(_), Some(_)) => true,
            (Compare::CreateRevision(_, revision), Some(kv)) => kv.create_revision == *revision,
            (Compare::ModRevision(_, revision), Some(kv)) => kv.mod_revision == *revision,
        }
    }
}

/// One change of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Writes the key. Without a lease a key that had one is no longer bound to it.
    Put { key: String, value: Bytes, lease: Option<LeaseId> },
    /// Deletes the key, if it exists.
    Delete { key: String },
    /// Deletes all keys that start with the prefix; fails when the transaction would touch more than
    /// [`MAX_TXN_OPS`] keys.
    DeletePrefix { prefix: String },
}

impl Op {
    /// A put without a lease.
    pub fn put(key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        Op::Put { key: key.into(), value: value.into(), lease: None }
    }

    /// A put of a key that ends with `lease`.
    pub fn put_leased(key: impl Into<String>, value: impl Into<Bytes>, lease: LeaseId) -> Self {
        Op::Put { key: key.into(), value: value.into(), lease: Some(lease) }
    }

    /// A delete of one key.
    pub fn delete(key: impl Into<String>) -> Self {
        Op::Delete { key: key.into() }
    }

    /// The key, or the prefix of a delete by prefix.
    pub fn key(&self) -> &str {
        match self {
            Op::Put { key, .. } | Op::Delete { key } => key,
            Op::DeletePrefix { prefix } => prefix,
        }
    }

    /// What the operation counts against [`MAX_TXN_BYTES`].
    pub fn bytes(&self) -> usize {
        // 64 bytes stand for the framing of one operation.
        64 + match self {
            Op::Put { key, value, .. } => key.len() + value.len(),
            Op::Delete { key } => key.len(),
            Op::DeletePrefix { prefix } => prefix.len(),
        }
    }
}

/// Operations that are applied at one revision if all compares hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Txn {
    pub compares: Vec<Compare>,
    pub ops: Vec<Op>,
}

impl Txn {
    /// A transaction without conditions and operations.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a condition.
    pub fn when(mut self, compare: Compare) -> Self {
        self.compares.push(compare);
        self
    }

    /// Adds a put without a lease.
    pub fn put(self, key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.op(Op::put(key, value))
    }

    /// Adds a put of a key that ends with `lease`.
    pub fn put_leased(self, key: impl Into<String>, value: impl Into<Bytes>, lease: LeaseId) -> Self {
        self.op(Op::put_leased(key, value, lease))
    }

    /// Adds a delete of one key.
    pub fn delete(self, key: impl Into<String>) -> Self {
        self.op(Op::delete(key))
    }

    /// Adds a delete of all keys that start with `prefix`.
    pub fn delete_prefix(self, prefix: impl Into<String>) -> Self {
        self.op(Op::DeletePrefix { prefix: prefix.into() })
    }

    /// Adds an operation.
    pub fn op(mut self, op: Op) -> Self {
        self.ops.push(op);
        self
    }

    /// Refuses what no backend takes: too many or too large operations, odd keys, a key touched twice.
    pub fn validate(&self) -> Result<()> {
        for count in [self.compares.len(), self.ops.len()] {
            if count > MAX_TXN_OPS {
                return Err(Error::TooManyOps { count, limit: MAX_TXN_OPS });
            }
        }
        for compare in &self.compares {
            check_key(compare.key())?;
        }
        for op in &self.ops {
            check_op(op)?;
        }
        let compared: usize = self.compares.iter().map(|compare| 64 + compare.key().len()).sum();
        let size = compared + self.ops.iter().map(Op::bytes).sum::<usize>();
        if size > MAX_TXN_BYTES {
            return Err(Error::TxnTooLarge { size, limit: MAX_TXN_BYTES });
        }
        check_disjoint(&self.ops)
    }
}

fn check_op(op: &Op) -> Result<()> {
    check_key(op.key())?;
    match op {
        Op::Put { key, value, .. } if value.len() > MAX_VALUE_BYTES => {
            Err(Error::ValueTooLarge { key: key.clone(), size: value.len(), limit: MAX_VALUE_BYTES })
        }
        _ => Ok(()),
    }
}

/// Refuses keys that are empty, too long or hold control characters.
pub(crate) fn check_key(key: &str) -> Result<()> {
    if key.is_empty() {
        return Err(Error::InvalidKey { key: String::new(), why: "it is empty" });
    }
    check_prefix(key)
}

/// As [`check_key`], but the empty prefix stands for all keys.
pub(crate) fn check_prefix(prefix: &str) -> Result<()> {
    let why = if prefix.len() > MAX_KEY_BYTES {
        "it is longer than 2048 bytes"
    } else if prefix.chars().any(char::is_control) {
        "it holds a control character"
    } else {
        return Ok(());
    };
    let shown = prefix.chars().take(80).collect();
    Err(Error::InvalidKey { key: shown, why })
}

/// Refuses a transaction in which two operations touch one key, as etcd does for puts.
fn check_disjoint(ops: &[Op]) -> Result<()> {
    let mut keys = BTreeSet::new();
    let mut prefixes = Vec::new();
    for op in ops {
        match op {
            Op::DeletePrefix { prefix } => prefixes.push(prefix.as_str()),
            Op::Put { key, .. } | Op::Delete { key } if !keys.insert(key.as_str()) => {
                return Err(Error::DuplicateKey { key: key.clone() });
            }
            Op::Put { .. } | Op::Delete { .. } => {}
        }
    }
    for (at, prefix) in prefixes.iter().enumerate() {
        let covered = keys.range(*prefix..).next().filter(|key| key.starts_with(prefix)).copied();
        let wider =
            prefixes[at + 1..].iter().find(|other| other.starts_with(prefix) || prefix.starts_with(**other));
        if let Some(key) = covered.or(wider.copied()) {
            return Err(Error::DuplicateKey { key: key.to_owned() });
        }
    }
    Ok(())
}

/// What became of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TxnOutcome {
    /// Applied; the store's revision after it.
    Committed(Revision),
    /// A compare did not hold; nothing was changed.
    Refused,
}

/// Keys under a prefix as they were at one revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The revision that the items belong to; a watch goes on from the next one.
    pub revision: Revision,
    /// In key order.
    pub items: Vec<KeyValue>,
}

/// A change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Put(KeyValue),
    Delete { key: String, mod_revision: Revision },
}

impl Event {
    /// The key that changed.
    pub fn key(&self) -> &str {
        match self {
            Event::Put(kv) => &kv.key,
            Event::Delete { key, .. } => key,
        }
    }

    /// The revision of the change.
    pub fn mod_revision(&self) -> Revision {
        match self {
            Event::Put(kv) => kv.mod_revision,
            Event::Delete { mod_revision, .. } => *mod_revision,
        }
    }
}

/// Changes in order. All changes of one revision under the watched prefix stand in the same batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WatchBatch {
    /// The newest revision in the batch: the reader has seen everything up to and including it.
    pub revision: Revision,
    pub events: Vec<Event>,
}
