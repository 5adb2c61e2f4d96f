//! The sessions that this replica holds. Each ends once its agent's record says something else than "this session
//! is open": another replica may have judged the agent while this one was cut off, or may hold a newer session.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use meshos_proto::meshos::registry::v1::{Agent, AgentState};
use tokio_util::sync::CancellationToken;

/// Sessions by agent. Clones share the table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held {
    table: Arc<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    records: BTreeMap<String, Recorded>,
    sessions: BTreeMap<String, (u64, CancellationToken)>,
}

/// What an agent's record says.
#[derive(Clone, Copy, Debug)]
struct Recorded {
    session: u64,
    state: AgentState,
}

impl Held {
    /// Whether an operator declared the agent gone.
    pub(crate) fn is_gone(&self, id: &str) -> bool {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.records.get(id).is_some_and(|recorded| recorded.state == AgentState::Gone)
    }

    /// A session begins; the token is cancelled once it is over by its record.
    pub(crate) fn begin(&self, id: &str, session: u64) -> CancellationToken {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let over = CancellationToken::new();
        if let Some((_, replaced)) = table.sessions.insert(id.to_owned(), (session, over.clone())) {
            replaced.cancel();
        }
        table.check(id);
        over
    }

    /// A session ended by itself.
    pub(crate) fn end(&self, id: &str, session: u64) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if table.sessions.get(id).is_some_and(|(held, _)| *held == session) {
            table.sessions.remove(id);
        }
    }

    /// An agent's record as it stands now; none when it was deleted.
    pub(crate) fn record(&self, id: &str, agent: Option<&Agent>) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let recorded = match agent {
            Some(agent) => Recorded { session: agent.session, state: agent.state() },
            // It will not come back under this number.
            None => Recorded { session: u64::MAX, state: AgentState::Removed },
        };
        table.records.insert(id.to_owned(), recorded);
        table.check(id);
        if agent.is_none() {
            table.records.remove(id);
        }
    }
}

impl Table {
    /// A record that is older than the session has simply not been seen yet.
    fn check(&mut self, id: &str) {
        let (Some((session, over)), Some(record)) = (self.sessions.get(id), self.records.get(id)) else {
            return;
        };
        let open = record.state == AgentState::Connected;
        if record.session > *session || (record.session == *session && !open) {
            over.cancel();
            self.sessions.remove(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(session: u64, state: AgentState) -> Agent {
        Agent { session, state: state.into(), ..Agent::default() }
    }

    #[test]
    fn a_session_ends_when_its_agent_was_declared_unreachable() {
        let held = Held::default();
        let over = held.begin("a", 2);
        held.record("a", Some(&agent(1, AgentState::Disconnected)));
        held.record("a", Some(&agent(2, AgentState::Connected)));
        assert!(!over.is_cancelled(), "an older record, and its own");
        held.record("a", Some(&agent(2, AgentState::Unreachable)));
        assert!(over.is_cancelled());
    }

    #[test]
    fn a_session_ends_when_another_replica_holds_a_newer_one_or_the_record_is_gone() {
        let held = Held::default();
        let (newer, gone) = (held.begin("a", 2), held.begin("b", 1));
        held.record("a", Some(&agent(3, AgentState::Connected)));
        held.record("b", None);
        assert!(newer.is_cancelled() && gone.is_cancelled());
    }

    #[test]
    fn a_record_that_was_seen_before_the_session_began_counts() {
        let held = Held::default();
        held.record("a", Some(&agent(1, AgentState::Unreachable)));
        assert!(held.begin("a", 1).is_cancelled());
        assert!(!held.begin("a", 2).is_cancelled());
    }

    #[test]
    fn the_end_of_a_replaced_session_leaves_its_successor_alone() {
        let held = Held::default();
        let first = held.begin("a", 1);
        let second = held.begin("a", 2);
        assert!(first.is_cancelled());
        held.end("a", 1);
        held.record("a", Some(&agent(2, AgentState::Unreachable)));
        assert!(second.is_cancelled());
    }
}
