//! What this replica has seen of the agents. One part writes it; others look agents up.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use meshos_proto::meshos::registry::v1::{Agent, Snapshot};
use meshos_store::{KeyValue, Revision};
use prost::Message;

/// Bytes of agents in one part of a snapshot, about.
const PART: usize = 1024 * 1024;

/// Agents as they stand in the store, which takes a tenth of the memory, by id, with the revision that wrote each last.
type Agents = BTreeMap<String, (Bytes, Revision)>;

/// What was seen of the agents. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct View(Arc<Mutex<Agents>>);

impl View {
    fn agents(&self) -> MutexGuard<'_, Agents> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, id: &str) -> Option<(Agent, Revision)> {
        let (record, revision) = self.agents().get(id).cloned()?;
        Some((decode(record)?, revision))
    }

    pub(crate) fn put(&self, id: String, record: &KeyValue) {
        self.agents().insert(id, seen(record));
    }

    pub(crate) fn remove(&self, id: &str) {
        self.agents().remove(id);
    }

    /// Puts these in place of all; ids of those that are no longer there.
    pub(crate) fn replace<'a>(
        &self,
        records: impl Iterator<Item = (String, &'a KeyValue)>,
    ) -> BTreeSet<String> {
        let agents = records.map(|(id, record)| (id, seen(record))).collect();
        let before = std::mem::replace(&mut *self.agents(), agents);
        let now = self.agents();
        before.into_keys().filter(|id| !now.contains_key(id)).collect()
    }

    /// All of them as they are now, in parts that are put together one by one.
    pub(crate) fn snapshot(&self) -> impl Iterator<Item = Snapshot> + Send + use<> {
        let records: Vec<Bytes> = self.agents().values().map(|(record, _)| record.clone()).collect();
        let mut records = records.into_iter().peekable();
        let mut begun = false;
        std::iter::from_fn(move || {
            if begun && records.peek().is_none() {
                return None;
            }
            begun = true;
            let (mut agents, mut bytes) = (Vec::new(), 0);
            while let Some(record) = records.next_if(|_| bytes < PART) {
                bytes += record.len();
                agents.extend(decode(record));
            }
            Some(Snapshot { agents, more: records.peek().is_some() })
        })
    }
}

/// The bytes alone: those of the store may be part of a long answer, which they would keep.
fn seen(record: &KeyValue) -> (Bytes, Revision) {
    (Bytes::copy_from_slice(&record.value), record.mod_revision)
}

/// Only what can be read is put in.
fn decode(record: Bytes) -> Option<Agent> {
    Agent::decode(record).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: usize, size: usize) -> KeyValue {
        let agent = Agent { endpoint: format!("{id}{}", "x".repeat(size)), ..Agent::default() };
        let value = agent.encode_to_vec().into();
        KeyValue { key: id.to_string(), value, create_revision: 7, mod_revision: 7, version: 1, lease: None }
    }

    #[test]
    fn a_snapshot_has_everybody_once_in_parts_of_about_one_size() {
        let view = View::default();
        assert_eq!(view.snapshot().collect::<Vec<_>>(), [Snapshot::default()]);
        let records: Vec<KeyValue> = (10..20).map(|id| record(id, PART / 4)).collect();
        view.replace(records.iter().map(|record| (record.key.clone(), record)));
        let parts: Vec<Snapshot> = view.snapshot().collect();
        let sizes: Vec<_> = parts.iter().map(|part| (part.agents.len(), part.more)).collect();
        assert_eq!(sizes, [(4, true), (4, true), (2, false)]);
        let ids =
            parts.iter().flat_map(|part| part.agents.iter().map(|agent| agent.endpoint[..2].to_owned()));
        assert!(ids.eq((10..20).map(|id| id.to_string())));
        assert_eq!(view.get("11").map(|(_, revision)| revision), Some(7));
    }
}
