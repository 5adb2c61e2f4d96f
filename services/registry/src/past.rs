//! Pure: agents that are no part of the cluster any more, and when they can be forgotten (Mesos 4.7, registry GC).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use meshos_proto::meshos::registry::v1::{Agent, AgentState};

use crate::config::RegistryArgs;

/// Agents that are forgotten in one go; the rest waits for the next.
const AT_ONCE: usize = 10_000;

/// Unreachable, gone and removed agents.
#[derive(Debug)]
pub(crate) struct Past {
    max_age_ms: u64,
    max_count: usize,
    /// Since when each is what it is.
    agents: BTreeMap<String, (AgentState, u64)>,
    unreachable: BTreeSet<(u64, String)>,
    gone: BTreeSet<(u64, String)>,
    /// Left for good: nobody asks for them.
    removed: BTreeSet<(u64, String)>,
}

impl Past {
    pub(crate) fn new(args: &RegistryArgs) -> Self {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self {
            max_age_ms: ms(args.registry_max_agent_age),
            max_count: args.registry_max_agent_count,
            agents: BTreeMap::new(),
            unreachable: BTreeSet::new(),
            gone: BTreeSet::new(),
            removed: BTreeSet::new(),
        }
    }

    /// An agent's record as it stands now; none when it was deleted.
    pub(crate) fn agent(&mut self, id: &str, agent: Option<&Agent>) {
        if let Some((state, since)) = self.agents.remove(id)
            && let Some(of_state) = self.of(state)
        {
            of_state.remove(&(since, id.to_owned()));
        }
        let Some(agent) = agent else { return };
        let state = agent.state();
        let since = if state == AgentState::Gone { agent.gone_at_ms } else { agent.unreachable_at_ms };
        if let Some(of_state) = self.of(state) {
            of_state.insert((since, id.to_owned()));
            self.agents.insert(id.to_owned(), (state, since));
        }
    }

    fn of(&mut self, state: AgentState) -> Option<&mut BTreeSet<(u64, String)>> {
        match state {
            AgentState::Unreachable => Some(&mut self.unreachable),
            AgentState::Gone => Some(&mut self.gone),
            AgentState::Removed => Some(&mut self.removed),
            _ => None,
        }
    }

    /// Whom to forget now.
    pub(crate) fn due(&self, now_ms: u64) -> Vec<String> {
        let before = now_ms.saturating_sub(self.max_age_ms);
        let old = |agents: &BTreeSet<(u64, String)>| {
            let too_many = agents.len().saturating_sub(self.max_count);
            let due =
                agents.iter().enumerate().take_while(|(at, (since, _))| *at < too_many || *since < before);
            due.map(|(_, (_, id))| id.clone()).collect::<Vec<_>>()
        };
        let mut due: Vec<String> = self.removed.iter().map(|(_, id)| id.clone()).collect();
        due.extend(old(&self.unreachable));
        due.extend(old(&self.gone));
        due.truncate(AT_ONCE);
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn past(age: u64, count: usize) -> Past {
        Past::new(&RegistryArgs {
            registry_max_agent_age: Duration::from_millis(age),
            registry_max_agent_count: count,
            ..RegistryArgs::default()
        })
    }

    fn agent(state: AgentState, since: u64) -> Agent {
        Agent { state: state.into(), unreachable_at_ms: since, gone_at_ms: since, ..Agent::default() }
    }

    #[test]
    fn the_old_and_the_too_many_are_forgotten_and_nobody_else() {
        let mut past = past(100, 2);
        for (number, since) in [910, 950, 960, 970].into_iter().enumerate() {
            past.agent(&format!("u{number}"), Some(&agent(AgentState::Unreachable, since)));
        }
        past.agent("g-old", Some(&agent(AgentState::Gone, 5)));
        past.agent("g-new", Some(&agent(AgentState::Gone, 999)));
        past.agent("removed", Some(&agent(AgentState::Removed, 0)));
        past.agent("here", Some(&agent(AgentState::Connected, 0)));
        past.agent("away", Some(&agent(AgentState::Disconnected, 0)));
        assert_eq!(past.due(1000), ["removed", "u0", "u1", "g-old"], "two of each at most, and the old one");
        assert_eq!(past.due(1055), ["removed", "u0", "u1", "g-old"]);
        assert_eq!(past.due(1065), ["removed", "u0", "u1", "u2", "g-old"]);
    }

    #[test]
    fn who_returns_or_was_forgotten_is_no_longer_due() {
        let mut past = past(0, 0);
        past.agent("a", Some(&agent(AgentState::Unreachable, 1)));
        past.agent("b", Some(&agent(AgentState::Unreachable, 1)));
        assert_eq!(past.due(10), ["a", "b"]);
        past.agent("a", Some(&agent(AgentState::Connected, 0)));
        past.agent("b", None);
        assert!(past.due(10).is_empty() && past.agents.is_empty());
    }
}
