//! What this replica has seen of the agents. One part writes it; others look agents up.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use meshos_proto::meshos::registry::v1::Agent;
use meshos_store::Revision;

type Agents = BTreeMap<String, (Agent, Revision)>;

/// Agents by id, with the revision that wrote each last. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct View(Arc<Mutex<Agents>>);

impl View {
    fn agents(&self) -> MutexGuard<'_, Agents> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, id: &str) -> Option<(Agent, Revision)> {
        self.agents().get(id).cloned()
    }

    pub(crate) fn put(&self, id: String, agent: Agent, revision: Revision) {
        self.agents().insert(id, (agent, revision));
    }

    pub(crate) fn remove(&self, id: &str) {
        self.agents().remove(id);
    }

    /// Puts these in place of all; ids of those that are no longer there.
    pub(crate) fn replace(&self, agents: Agents) -> BTreeSet<String> {
        let before = std::mem::replace(&mut *self.agents(), agents);
        let now = self.agents();
        before.into_keys().filter(|id| !now.contains_key(id)).collect()
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Agent> {
        self.agents().values().map(|(agent, _)| agent.clone()).collect()
    }
}
