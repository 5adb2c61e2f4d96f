//! Pure: which agents nobody holds a session of, and when their time is over. The replica with the lowest name
//! judges them, so that each is judged once; were two to act, the store's compare would let one through.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use meshos_proto::meshos::registry::v1::{Agent, AgentState};
use tokio::time::Instant;

/// Follows agents and replicas.
#[derive(Debug)]
pub struct Judge {
    me: String,
    timeout: Duration,
    replicas: BTreeSet<String>,
    agents: BTreeMap<String, Watched>,
    /// Agents by the end of their time.
    deadlines: BTreeSet<(Instant, String)>,
}

#[derive(Debug)]
struct Watched {
    session: u64,
    replica: String,
    connected: bool,
    deadline: Option<Instant>,
}

impl Judge {
    /// For the replica `me`.
    #[must_use]
    pub fn new(me: &str, timeout: Duration) -> Self {
        Self {
            me: me.to_owned(),
            timeout,
            replicas: BTreeSet::new(),
            agents: BTreeMap::new(),
            deadlines: BTreeSet::new(),
        }
    }

    /// An agent's record as it stands now; none when it was deleted.
    pub fn agent(&mut self, id: &str, agent: Option<&Agent>, now: Instant) {
        if let Some(old) = self.agents.remove(id)
            && let Some(deadline) = old.deadline
        {
            self.deadlines.remove(&(deadline, id.to_owned()));
        }
        let Some(agent) = agent else { return };
        let connected = match agent.state() {
            AgentState::Connected => true,
            AgentState::Disconnected => false,
            _ => return,
        };
        let watched =
            Watched { session: agent.session, replica: agent.replica.clone(), connected, deadline: None };
        self.agents.insert(id.to_owned(), watched);
        self.consider(id, now);
    }

    /// The replicas that live.
    pub fn replicas(&mut self, replicas: BTreeSet<String>, now: Instant) {
        let changed: BTreeSet<String> = self.replicas.symmetric_difference(&replicas).cloned().collect();
        self.replicas = replicas;
        let affected: Vec<String> = self
            .agents
            .iter()
            .filter(|(_, agent)| changed.contains(&agent.replica))
            .map(|(id, _)| id.clone())
            .collect();
        for id in affected {
            self.consider(&id, now);
        }
    }

    fn consider(&mut self, id: &str, now: Instant) {
        let Some(agent) = self.agents.get_mut(id) else { return };
        let held = agent.connected && self.replicas.contains(&agent.replica);
        match (held, agent.deadline) {
            (true, Some(deadline)) => {
                self.deadlines.remove(&(deadline, id.to_owned()));
                agent.deadline = None;
            }
            (false, None) => {
                let deadline = now + self.timeout;
                self.deadlines.insert((deadline, id.to_owned()));
                agent.deadline = Some(deadline);
            }
            _ => {}
        }
    }

    /// Whether this replica judges.
    #[must_use]
    pub fn judges(&self) -> bool {
        self.replicas.first().is_none_or(|lowest| *lowest == self.me)
    }

    /// When to ask next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Agents (id, session) to declare unreachable now, as long as `permitted` says yes; the others stay due. Each is
    /// named once more after another timeout, should its record not have changed by then.
    pub fn due(&mut self, now: Instant, mut permitted: impl FnMut() -> bool) -> Vec<(String, u64)> {
        let judges = self.judges();
        let mut due = Vec::new();
        while let Some((deadline, id)) = self.deadlines.first().cloned() {
            if deadline > now || judges && !permitted() {
                break;
            }
            self.deadlines.pop_first();
            let again = now + self.timeout;
            self.deadlines.insert((again, id.clone()));
            if let Some(agent) = self.agents.get_mut(&id) {
                agent.deadline = Some(again);
                due.push((id, agent.session));
            }
        }
        if judges { due } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Duration = Duration::from_secs(75);

    fn agent(state: AgentState, replica: &str) -> Agent {
        Agent { state: state.into(), replica: replica.into(), session: 3, ..Agent::default() }
    }

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn a_held_agent_is_never_due_and_a_broken_one_is_after_the_timeout() {
        let now = Instant::now();
        let mut judge = Judge::new("r1", T);
        judge.replicas(names(&["r1"]), now);
        judge.agent("a", Some(&agent(AgentState::Connected, "r1")), now);
        assert_eq!(judge.next_deadline(), None);
        judge.agent("a", Some(&agent(AgentState::Disconnected, "r1")), now);
        assert_eq!(judge.due(now + T - Duration::from_millis(1), || true), []);
        assert_eq!(judge.due(now + T, || true), [("a".to_owned(), 3)]);
    }

    #[test]
    fn agents_of_a_dead_replica_are_judged_by_the_lowest_living_one() {
        let now = Instant::now();
        for (me, expected) in [("r2", 1), ("r3", 0)] {
            let mut judge = Judge::new(me, T);
            judge.replicas(names(&["r1", "r2", "r3"]), now);
            judge.agent("a", Some(&agent(AgentState::Connected, "r1")), now);
            judge.replicas(names(&["r2", "r3"]), now);
            assert_eq!(judge.due(now + T, || true).len(), expected, "{me}");
        }
    }

    #[test]
    fn an_agent_that_returns_in_time_is_let_off() {
        let now = Instant::now();
        let mut judge = Judge::new("r1", T);
        judge.replicas(names(&["r1"]), now);
        judge.agent("a", Some(&agent(AgentState::Disconnected, "r1")), now);
        judge.agent("a", Some(&agent(AgentState::Connected, "r1")), now + T / 2);
        assert_eq!(judge.due(now + T * 2, || true), []);
    }

    #[test]
    fn who_waits_for_a_permit_stays_due_and_is_let_off_when_it_returns() {
        let now = Instant::now();
        let mut judge = Judge::new("r1", T);
        judge.replicas(names(&["r1"]), now);
        for id in ["a", "b", "c"] {
            judge.agent(id, Some(&agent(AgentState::Disconnected, "r1")), now);
        }
        let mut permits = 1;
        let mut take = || std::mem::replace(&mut permits, 0) > 0;
        assert_eq!(judge.due(now + T, &mut take), [("a".to_owned(), 3)]);
        assert_eq!(judge.due(now + T, &mut take), []);
        assert_eq!(judge.next_deadline(), Some(now + T), "the others are due");
        judge.agent("b", Some(&agent(AgentState::Connected, "r1")), now + T);
        assert_eq!(judge.due(now + T, || true), [("c".to_owned(), 3)]);
    }
}
