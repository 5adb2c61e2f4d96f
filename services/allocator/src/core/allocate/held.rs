//! What a quota held back, once the quota has room.

use std::collections::BTreeSet;

use meshos_types::RoleName;

use super::{Run, Whom};
use crate::core::{
    AgentKey, Core, RoleKey,
    quota::{Cut, Held, Stage, Waiting},
};

impl Core {
    /// Tells the order of roles what quota makes of them.
    pub(super) fn settle_standings(&mut self) {
        while let Some((role, standing)) = self.quotas.next_standing() {
            self.shares.set_standing(&role, standing);
        }
    }

    /// Agents that a quota held back, until its room is used up.
    pub(super) fn allocate_held(&mut self, held: Held, run: &mut Run) {
        for (role, waiting) in held.roles {
            let Some(key) = self.shares.key(&role).filter(|_| self.shares.is_active(&role)) else { continue };
            match waiting {
                Waiting::Available => self.offer_available(&role, key, run),
                Waiting::These(agents) => self.offer_these(&role, key, agents, run),
            }
        }
        let mut agents = held.headroom.into_iter();
        while !self.quotas.is_exhausted()
            && let Some(agent) = agents.next()
        {
            self.offer_again(agent, Whom::Everybody, run);
        }
        for agent in agents {
            self.quotas.hold_for_headroom(agent);
        }
    }

    /// The agents that have something left, beginning where the last round ended.
    fn offer_available(&mut self, role: &RoleName, key: RoleKey, run: &mut Run) {
        let (mut left, mut from_start) = (self.available.len(), false);
        while left > 0 && self.quotas.has_room(role) {
            left -= 1;
            if self.next_available >= self.available.len() {
                (self.next_available, from_start) = (0, true);
            }
            let Some(agent) = self.available.get(self.next_available).copied() else { return };
            self.offer_again(agent, Whom::Below(key), run);
            // Another agent is at its place if it has nothing left.
            if self.available.get(self.next_available) == Some(&agent) {
                self.next_available += 1;
            } else if from_start {
                // One that was looked at before has come there from the end: it does not count again.
                left += 1;
            }
        }
        if left > 0 {
            self.quotas.pass_over(role);
        }
    }

    fn offer_these(&mut self, role: &RoleName, key: RoleKey, agents: BTreeSet<AgentKey>, run: &mut Run) {
        let mut agents = agents.into_iter();
        while self.quotas.has_room(role)
            && let Some(agent) = agents.next()
        {
            self.offer_again(agent, Whom::Below(key), run);
        }
        for agent in agents {
            self.quotas.hold_back(role, agent, Cut { limit: true, headroom: false });
        }
    }

    fn offer_again(&mut self, agent: AgentKey, whom: Whom, run: &mut Run) {
        for stage in [Stage::Guarantees, Stage::Everybody] {
            let wanted = match (stage, whom) {
                (Stage::Everybody, _) => true,
                (Stage::Guarantees, Whom::Below(role)) => self.shares.is_needy(role),
                (Stage::Guarantees, _) => self.shares.has_needy(),
            };
            let has_more = self.agents.at(agent).is_some_and(|known| known.available_at.is_some());
            if wanted && has_more {
                self.allocate_agent(agent, (stage, whom), run);
            }
        }
    }
}
