//! What a transaction does to the keys and leases: pure, so that the disk and the memory-only store share it.
//!
//! Commands are staged first: their effects lie over the committed state without changing it, several commands
//! on top of each other. Only after the stage was written to disk it is applied, so nobody reads what a crash
//! could take back.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::model::{Event, KeyValue, LeaseId, MAX_TXN_OPS, Op, Revision, Txn, TxnOutcome, WatchBatch};

/// A change that is asked of the store.
#[derive(Debug, Clone)]
pub(crate) enum Command {
    Txn(Txn),
    Grant(Duration),
    Revoke(LeaseId),
}

/// What became of a [`Command`].
#[derive(Debug, Clone, Copy)]
pub(crate) enum Reply {
    Txn(TxnOutcome),
    Granted(LeaseId),
    Revoked,
}

/// The committed state.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) revision: Revision,
    pub(crate) next_lease: i64,
    keys: BTreeMap<String, KeyValue>,
    leases: BTreeMap<LeaseId, Lease>,
}

#[derive(Debug)]
struct Lease {
    ttl: Duration,
    keys: BTreeSet<String>,
}

/// Effects of commands that are not committed yet. `None` stands for "gone".
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) revision: Revision,
    pub(crate) next_lease: i64,
    pub(crate) keys: BTreeMap<String, Option<KeyValue>>,
    pub(crate) leases: BTreeMap<LeaseId, Option<Duration>>,
    pub(crate) batches: Vec<WatchBatch>,
}

impl Effects {
    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.leases.is_empty()
    }
}

impl Core {
    /// The state of a new store. Like etcd's, its revision is 1 before the first write.
    pub(crate) fn new() -> Self {
        Self { revision: 1, next_lease: 1, keys: BTreeMap::new(), leases: BTreeMap::new() }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&KeyValue> {
        self.keys.get(key)
    }

    pub(crate) fn range<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a KeyValue> + 'a {
        self.keys
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .map(|(_, kv)| kv)
            .take_while(move |kv| kv.key.starts_with(prefix))
    }

    pub(crate) fn leases(&self) -> impl Iterator<Item = (LeaseId, Duration)> + '_ {
        self.leases.iter().map(|(id, lease)| (*id, lease.ttl))
    }

    /// Makes staged effects part of the committed state.
    pub(crate) fn apply(&mut self, effects: Effects) -> Vec<WatchBatch> {
        self.revision = effects.revision;
        self.next_lease = effects.next_lease;
        // Leases first: a key can be bound to a lease of the same group, and a lease that ends leaves no keys.
        for (id, ttl) in effects.leases {
            match ttl {
                Some(ttl) => {
                    self.leases.insert(id, Lease { ttl, keys: BTreeSet::new() });
                }
                None => {
                    self.leases.remove(&id);
                }
            }
        }
        for (key, value) in effects.keys {
            self.set(key, value);
        }
        effects.batches
    }

    fn set(&mut self, key: String, value: Option<KeyValue>) {
        let lease = value.as_ref().and_then(|kv| kv.lease);
        let before = match value {
            Some(kv) => self.keys.insert(key.clone(), kv),
            None => self.keys.remove(&key),
        };
        if let Some(old) = before.and_then(|kv| kv.lease).and_then(|id| self.leases.get_mut(&id)) {
            old.keys.remove(&key);
        }
        if let Some(new) = lease.and_then(|id| self.leases.get_mut(&id)) {
            new.keys.insert(key);
        }
    }
}

/// Effects over the state that they start from.
#[derive(Debug)]
pub(crate) struct Stage<'a> {
    core: &'a Core,
    effects: Effects,
}

impl<'a> Stage<'a> {
    pub(crate) fn new(core: &'a Core) -> Self {
        let effects = Effects { revision: core.revision, next_lease: core.next_lease, ..Effects::default() };
        Self { core, effects }
    }

    pub(crate) fn finish(self) -> Effects {
        self.effects
    }

    /// Adds the effects of a command, all of them or (with an error or a refusal) none.
    pub(crate) fn run(&mut self, command: &Command) -> Result<Reply> {
        match command {
            Command::Txn(txn) => self.txn(txn).map(Reply::Txn),
            Command::Grant(ttl) => {
                let id = LeaseId(self.effects.next_lease);
                self.effects.next_lease += 1;
                self.effects.leases.insert(id, Some(*ttl));
                Ok(Reply::Granted(id))
            }
            Command::Revoke(id) => self.revoke(*id).map(|()| Reply::Revoked),
        }
    }

    fn get(&self, key: &str) -> Option<&KeyValue> {
        match self.effects.keys.get(key) {
            Some(staged) => staged.as_ref(),
            None => self.core.get(key),
        }
    }

    fn has_lease(&self, id: LeaseId) -> bool {
        match self.effects.leases.get(&id) {
            Some(staged) => staged.is_some(),
            None => self.core.leases.contains_key(&id),
        }
    }

    fn txn(&mut self, txn: &Txn) -> Result<TxnOutcome> {
        if !txn.compares.iter().all(|compare| compare.holds(self.get(compare.key()))) {
            return Ok(TxnOutcome::Refused);
        }
        let revision = self.effects.revision + 1;
        let changes = self.changes(txn, revision)?;
        self.commit(revision, changes);
        Ok(TxnOutcome::Committed(self.effects.revision))
    }

    /// The changes that a transaction makes, in the order of its operations.
    fn changes(&self, txn: &Txn, revision: Revision) -> Result<Vec<Event>> {
        let mut changes = Vec::with_capacity(txn.ops.len());
        let mut touched = 0;
        for op in &txn.ops {
            match op {
                Op::Put { key, value, lease } => {
                    if let Some(id) = lease.filter(|id| !self.has_lease(*id)) {
                        return Err(Error::LeaseNotFound(id));
                    }
                    touched += 1;
                    changes.push(Event::Put(self.written(key, value, *lease, revision)));
                }
                Op::Delete { key } => {
                    touched += 1;
                    if self.get(key).is_some() {
                        changes.push(Event::Delete { key: key.clone(), mod_revision: revision });
                    }
                }
                Op::DeletePrefix { prefix } => {
                    let keys = self.keys_under(prefix, MAX_TXN_OPS + 1);
                    touched += keys.len();
                    changes.extend(keys.into_iter().map(|key| Event::Delete { key, mod_revision: revision }));
                }
            }
        }
        match txn.ops.iter().find(|op| matches!(op, Op::DeletePrefix { .. })) {
            Some(wide) if touched > MAX_TXN_OPS => {
                Err(Error::PrefixTooWide { prefix: wide.key().to_owned(), limit: MAX_TXN_OPS })
            }
            _ => Ok(changes),
        }
    }

    fn written(&self, key: &str, value: &Bytes, lease: Option<LeaseId>, revision: Revision) -> KeyValue {
        let before = self.get(key);
        KeyValue {
            key: key.to_owned(),
            value: value.clone(),
            create_revision: before.map_or(revision, |kv| kv.create_revision),
            mod_revision: revision,
            version: before.map_or(1, |kv| kv.version + 1),
            lease,
        }
    }

    /// At most `limit` keys with the prefix, sorted.
    fn keys_under(&self, prefix: &str, limit: usize) -> Vec<String> {
        let staged = &self.effects.keys;
        let committed = self.core.range(prefix).map(|kv| &kv.key).filter(|key| !staged.contains_key(*key));
        let added = staged
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .filter(|(_, value)| value.is_some())
            .map(|(key, _)| key);
        let keys: BTreeSet<String> = committed.take(limit).chain(added.take(limit)).cloned().collect();
        keys.into_iter().take(limit).collect()
    }

    fn revoke(&mut self, id: LeaseId) -> Result<()> {
        if !self.has_lease(id) {
            return Err(Error::LeaseNotFound(id));
        }
        let staged = &self.effects.keys;
        let committed = self.core.leases.get(&id).into_iter().flat_map(|lease| &lease.keys);
        let bound = |value: &Option<KeyValue>| value.as_ref().is_some_and(|kv| kv.lease == Some(id));
        let keys: BTreeSet<String> = committed
            .filter(|key| !staged.contains_key(*key))
            .chain(staged.iter().filter(|(_, value)| bound(value)).map(|(key, _)| key))
            .cloned()
            .collect();
        let revision = self.effects.revision + 1;
        let changes = keys.into_iter().map(|key| Event::Delete { key, mod_revision: revision }).collect();
        self.commit(revision, changes);
        self.effects.leases.insert(id, None);
        Ok(())
    }

    /// Stages changes as one revision; a command that changes nothing takes no revision.
    fn commit(&mut self, revision: Revision, changes: Vec<Event>) {
        if changes.is_empty() {
            return;
        }
        for change in &changes {
            let value = match change {
                Event::Put(kv) => Some(kv.clone()),
                Event::Delete { .. } => None,
            };
            self.effects.keys.insert(change.key().to_owned(), value);
        }
        self.effects.revision = revision;
        self.effects.batches.push(WatchBatch { revision, events: changes });
    }
}

/// Puts stored keys and leases back, as they are read from disk.
#[derive(Debug)]
pub(crate) struct Restore(Core);

impl Restore {
    pub(crate) fn new(revision: Revision, next_lease: i64) -> Self {
        Self(Core { revision, next_lease, ..Core::new() })
    }

    /// Leases have to come before the keys that are bound to them.
    pub(crate) fn lease(&mut self, id: LeaseId, ttl: Duration) {
        self.0.leases.insert(id, Lease { ttl, keys: BTreeSet::new() });
    }

    pub(crate) fn key(&mut self, kv: KeyValue) {
        self.0.set(kv.key.clone(), Some(kv));
    }

    pub(crate) fn finish(self) -> Core {
        self.0
    }
}

#[cfg(test)]
mod tests;
