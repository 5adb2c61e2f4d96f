//! Who leads, and how a leader that was replaced is kept from writing.
//!
//! The leader's key stands under `leaders/<service>` and is bound to the leader's lease. The revision that
//! created it is the leader's epoch: it only grows, and a transaction guarded by it ([`Fence::guard`]) is
//! refused as soon as somebody else leads.

use crate::Store;
use crate::error::{Error, Result};
use crate::model::{Compare, Event, KeyValue, LeaseId, Revision, Txn, TxnOutcome};

/// Tries before a key that keeps coming and going counts as unavailable.
const ATTEMPTS: usize = 8;

/// The key that the leader of a service holds.
pub fn leader_key(service: &str) -> String {
    format!("leaders/{service}")
}

/// The result of a [`campaign`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Campaign {
    /// The caller leads with this epoch.
    Won { epoch: Revision },
    /// Somebody else leads.
    Lost { current: KeyValue },
}

/// What guards the writes of a leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    /// The key of the election.
    pub key: String,
    /// The revision that created it when the leader won.
    pub epoch: Revision,
}

impl Fence {
    /// The fence of a leader of `key` (see [`leader_key`]) with `epoch`.
    pub fn new(key: impl Into<String>, epoch: Revision) -> Self {
        Self { key: key.into(), epoch }
    }

    /// The transaction, refused unless the leader still leads.
    pub fn guard(&self, txn: Txn) -> Txn {
        txn.when(Compare::CreateRevision(self.key.clone(), self.epoch))
    }

    /// The error of a write that this fence refused.
    pub fn fenced(&self) -> Error {
        Error::Fenced { key: self.key.clone(), epoch: self.epoch }
    }

    /// Whether the leader still leads, as the store knows it now.
    pub async fn holds(&self, store: &dyn Store) -> Result<bool> {
        Ok(store.get(&self.key).await?.is_some_and(|kv| kv.create_revision == self.epoch))
    }
}

/// Tries once to lead: creates `key` with `value` (who, and where to reach it), bound to `lease`.
///
/// May be repeated after an error with the same lease: a win that was not heard of is found again.
pub async fn campaign(
    store: &dyn Store,
    key: &str,
    value: impl Into<bytes::Bytes>,
    lease: LeaseId,
) -> Result<Campaign> {
    let value = value.into();
    for _ in 0..ATTEMPTS {
        let txn = Txn::new().when(Compare::Absent(key.to_owned())).put_leased(key, value.clone(), lease);
        if let TxnOutcome::Committed(epoch) = store.txn(txn).await? {
            return Ok(Campaign::Won { epoch });
        }
        match store.get(key).await? {
            Some(current) if current.lease == Some(lease) => {
                return Ok(Campaign::Won { epoch: current.create_revision });
            }
            Some(current) => return Ok(Campaign::Lost { current }),
            // The leader's key went in between.
            None => {}
        }
    }
    let why = format!("the key {key:?} keeps changing");
    Err(Error::Unavailable { call: "campaign", why, outcome_unknown: false })
}

/// Ends the leadership of `leader` (a current key as read or watched) and revokes its lease with all its keys.
///
/// False, and nothing done, when that key was already replaced or deleted.
pub async fn depose(store: &dyn Store, leader: &KeyValue) -> Result<bool> {
    // The key goes first, atomically: a new leader's key is never touched.
    let still = Compare::CreateRevision(leader.key.clone(), leader.create_revision);
    let txn = Txn::new().when(still).delete(leader.key.clone());
    if store.txn(txn).await? == TxnOutcome::Refused {
        return Ok(false);
    }
    match leader.lease {
        Some(lease) => match store.revoke(lease).await {
            Ok(()) | Err(Error::LeaseNotFound(_)) => Ok(true),
            Err(error) => Err(error),
        },
        None => Ok(true),
    }
}

/// Waits until the key differs from what the caller knows: `seen` is the `mod_revision` it has read, 0 for
/// "absent". Returns what stands there now.
pub async fn wait_change(store: &dyn Store, key: &str, seen: Revision) -> Result<Option<KeyValue>> {
    loop {
        let listing = store.list(key).await?;
        let current = listing.items.into_iter().find(|kv| kv.key == key);
        if current.as_ref().map_or(0, |kv| kv.mod_revision) != seen {
            return Ok(current);
        }
        match first_change(store, key, listing.revision + 1).await {
            Err(Error::Compacted { .. } | Error::Lagged { .. }) => {}
            other => return other,
        }
    }
}

async fn first_change(store: &dyn Store, key: &str, from: Revision) -> Result<Option<KeyValue>> {
    let mut watcher = store.watch(key, from).await?;
    loop {
        for event in watcher.next().await?.events {
            match event {
                Event::Put(kv) if kv.key == key => return Ok(Some(kv)),
                Event::Delete { key: deleted, .. } if deleted == key => return Ok(None),
                Event::Put(_) | Event::Delete { .. } => {}
            }
        }
    }
}
