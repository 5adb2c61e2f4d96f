//! One agent is offered to frameworks, one after the other, until it has nothing left.

use meshos_types::Resources;

use super::{Run, Whom};
use crate::core::{
    AgentKey, Core,
    account::Spot,
    quota::Stage,
    shares::{RoleCursor, Walk},
};

impl Core {
    /// Offers what an agent has left.
    pub(super) fn allocate_agent(&mut self, agent: AgentKey, (stage, whom): (Stage, Whom), run: &mut Run) {
        let Some(known) = self.agents.at(agent) else { return };
        if !self.is_offered(known) {
            return self.leave_available_at(agent);
        }
        let mut free = known.free();
        if !self.has_more(agent, &free, stage) {
            return;
        }
        if whom == Whom::Touched && !run.few.is_empty() {
            return self.offer_to_few(agent, free, run);
        }
        let mut cursor = std::mem::take(&mut run.cursor);
        self.begin_walk(&mut cursor, &free, (stage, whom));
        'walk: while let Some(role) = self.shares.next_role(&mut cursor) {
            let mut rank = None;
            while let Some(next) = self.shares.next_framework(role, rank.as_ref()) {
                rank = Some(next);
                if whom == Whom::Touched && !self.frameworks.at(next.key).is_some_and(|known| known.touched) {
                    continue;
                }
                let spot = Spot { framework: next.key, agent, role };
                if self.serve(spot, &mut free, stage, run) && !self.has_more(agent, &free, stage) {
                    break 'walk;
                }
            }
        }
        run.cursor = cursor;
    }

    /// Which roles are met: a closed one has no use for what is nobody's.
    fn begin_walk(&mut self, cursor: &mut RoleCursor, free: &Resources, (stage, whom): (Stage, Whom)) {
        match (stage, whom) {
            (Stage::Guarantees, Whom::Below(role)) | (Stage::Everybody, Whom::Below(role)) => {
                self.shares.begin_below(cursor, role);
            }
            (Stage::Guarantees, _) => self.shares.begin(cursor, Walk::Needy),
            (Stage::Everybody, _) if self.is_alike_for_all(free) => {
                self.quotas.leave_closed_aside();
                self.shares.begin(cursor, Walk::Open);
            }
            (Stage::Everybody, _) => self.shares.begin(cursor, Walk::All),
        }
    }

    /// Whether quota alone decides who cannot be offered any of it.
    fn is_alike_for_all(&self, free: &Resources) -> bool {
        free.digest().plain && !self.shares.has_picky()
    }

    /// The same for the few clients that want more than before.
    fn offer_to_few(&mut self, agent: AgentKey, mut free: Resources, run: &mut Run) {
        let mut few = std::mem::take(&mut run.few);
        if few.len() > 1 {
            few.sort_by(|one, other| self.shares.compare(*one, *other));
        }
        let alike = self.is_alike_for_all(&free);
        if alike {
            self.quotas.leave_closed_aside();
        }
        for (role, framework) in few.iter().copied() {
            let closed = alike && self.shares.name(role).is_some_and(|role| self.quotas.is_closed(role));
            if closed || !self.shares.wants(role, framework) {
                continue;
            }
            let spot = Spot { framework, agent, role };
            if self.serve(spot, &mut free, Stage::Everybody, run)
                && !self.has_more(agent, &free, Stage::Everybody)
            {
                break;
            }
        }
        run.few = few;
    }

    /// Offers to one framework what suits it; whether anything does.
    fn serve(&mut self, spot: Spot, free: &mut Resources, stage: Stage, run: &mut Run) -> bool {
        let Some(resources) = self.judge(spot, free, stage) else { return false };
        free.subtract_all(&resources);
        // Later decisions of this run must know.
        self.hold_offered(spot, &resources);
        self.settle_standings();
        if let Some(number) = self.make_offer(spot, resources, run.first) {
            self.made.push((spot.framework, number));
        }
        true
    }

    /// Whether somebody might be offered some of what an agent has free; keeps the index of those that have any.
    fn has_more(&mut self, agent: AgentKey, free: &Resources, stage: Stage) -> bool {
        if !self.is_allocatable(free) {
            self.leave_available_at(agent);
            return false;
        }
        self.enter_available(agent);
        if stage == Stage::Everybody && self.is_alike_for_all(free) {
            let left = self.quotas.beside_guarantees(&free.digest().open);
            if left.is_some_and(|left| !self.reaches_least(&left)) {
                self.quotas.keep_for_guarantees(agent);
                return false;
            }
        }
        true
    }
}
