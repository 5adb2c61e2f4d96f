//! Agents of which somebody could not have all that they have free: what they wait for, and when they are worth a
//! look again.

use std::{collections::BTreeSet, sync::Arc};

use meshos_types::{Milli, Quantities, RoleName};

use super::{Book, Cut, Quotas, top_name};
use crate::core::{AgentKey, explain::Together, shares::Standing};

/// Agents that have more than guarantees of others let somebody have.
#[derive(Debug, Default)]
pub(super) struct ByHeadroom {
    agents: BTreeSet<AgentKey>,
    /// The least that could be given away after one of them was looked at: with no more than this, nothing has changed
    /// for any of them.
    floor: Vec<(Arc<str>, Milli)>,
    /// Whether some have come since that was noted.
    is_new: bool,
}

/// What is worth a look again.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// Roles that consume less than before or may consume more, and the agents that wait for that.
    pub(crate) roles: Vec<(RoleName, Waiting)>,
    /// Agents that wait for guarantees to need less.
    pub(crate) headroom: BTreeSet<AgentKey>,
}

/// Agents that wait for one role.
#[derive(Debug)]
pub(crate) enum Waiting {
    /// All that have anything left.
    Available,
    These(BTreeSet<AgentKey>),
}

impl Held {
    pub(crate) fn is_empty(&self) -> bool {
        self.roles.is_empty() && self.headroom.is_empty()
    }
}

impl Book {
    /// Whether limits leave the role less than what an offer must have at least.
    fn is_closed(&self, least: &[Quantities]) -> bool {
        let Some(quota) = self.quota.as_ref().filter(|quota| !quota.limits.is_empty()) else { return false };
        let room = |name: &Arc<str>| {
            quota.limits.get(name).map(|limit| limit.saturating_sub(self.consumed.get(name)))
        };
        let reaches =
            |set: &Quantities| set.iter().all(|(name, amount)| room(name).is_none_or(|left| left >= amount));
        !least.iter().any(reaches)
    }
}

impl Quotas {
    /// The next role whose standing is another than before.
    pub(crate) fn next_standing(&mut self) -> Option<(RoleName, Standing)> {
        while let Some(role) = self.unsettled.pop() {
            let Some(book) = self.books.get_mut(&role) else { continue };
            book.unsettled = false;
            let standing = Standing { closed: book.is_closed(&self.least), needy: !book.unmet.is_empty() };
            let before = std::mem::replace(&mut book.standing, standing);
            match (before.closed, standing.closed) {
                (false, true) => book.closed_at = self.walks,
                (true, false) => {
                    book.left_aside += self.walks - book.closed_at;
                    book.passed_over |= self.walks > book.closed_at;
                }
                _ => {}
            }
            if before != standing {
                return Some((role, standing));
            }
        }
        None
    }

    /// An agent is offered to others than closed roles.
    pub(crate) fn leave_closed_aside(&mut self) {
        self.walks += 1;
    }

    /// How many agents the role was not considered for, without a look at its frameworks.
    pub(crate) fn together(&self, role: &RoleName) -> Together {
        let left_aside = self.books.get(top_name(role)).map_or(0, |book| {
            book.left_aside + if book.standing.closed { self.walks - book.closed_at } else { 0 }
        });
        Together { limit: left_aside, headroom: self.kept }
    }

    /// Remembers that an agent has more than a role may have now.
    pub(crate) fn hold_back(&mut self, role: &RoleName, agent: AgentKey, cut: Cut) {
        if cut.limit
            && let Some(book) = self.books.get_mut(top_name(role))
        {
            book.held.insert(agent);
        }
        if cut.headroom {
            self.hold_for_headroom(agent);
        }
    }

    /// All that is free on the agent is kept for guarantees, whoever is looked at.
    pub(crate) fn keep_for_guarantees(&mut self, agent: AgentKey) {
        self.kept += 1;
        self.hold_for_headroom(agent);
    }

    /// Agents were not offered to the role because it had no room left.
    pub(crate) fn pass_over(&mut self, role: &RoleName) {
        if let Some(book) = self.books.get_mut(role) {
            book.passed_over = true;
        }
    }

    /// Whether the limits of the role's top-level role leave nothing that is worth an offer.
    pub(crate) fn is_closed(&self, role: &RoleName) -> bool {
        self.books.get(top_name(role)).is_some_and(|book| book.standing.closed)
    }

    /// Remembers that guarantees do not let an agent be given away.
    pub(crate) fn hold_for_headroom(&mut self, agent: AgentKey) {
        self.held.agents.insert(agent);
        self.held.is_new = true;
    }

    /// All offers of a run are made: what is left now for those that are held back is what they were refused with, or
    /// less.
    pub(crate) fn note_floor(&mut self) {
        if !std::mem::take(&mut self.held.is_new) {
            return;
        }
        for (name, required) in self.required.iter() {
            let slack = self.available.get(name).saturating_sub(required);
            match self.held.floor.iter_mut().find(|(of, _)| of == name) {
                Some((_, floor)) => *floor = slack.min(*floor),
                None => self.held.floor.push((Arc::clone(name), slack)),
            }
        }
    }

    /// What has been held back and may be worth a look again after what has changed since the last time. All standings
    /// are up to date. `picky`: somebody wants less than an offer must have.
    pub(crate) fn take_held(&mut self, picky: bool) -> Held {
        let mut roles = Vec::new();
        for role in std::mem::take(&mut self.loosened) {
            let Some(book) = self.books.get_mut(&role) else { continue };
            book.loosened = false;
            let (closed, needy) = (book.standing.closed, book.standing.needy);
            // One that is still closed gets nothing; what waits for it waits on.
            if !closed || needy || picky {
                let these = std::mem::take(&mut book.held);
                if std::mem::take(&mut book.passed_over) || needy {
                    roles.push((role, Waiting::Available));
                } else if !these.is_empty() {
                    roles.push((role, Waiting::These(these)));
                }
            }
        }
        let headroom = match std::mem::take(&mut self.headroom_changed) && self.has_more_headroom() {
            true => {
                self.held.floor.clear();
                std::mem::take(&mut self.held.agents)
            }
            false => BTreeSet::new(),
        };
        Held { roles, headroom }
    }

    fn has_more_headroom(&self) -> bool {
        let more = |(name, floor): &(Arc<str>, Milli)| self.slack(name).is_none_or(|slack| slack > *floor);
        !self.held.agents.is_empty() && self.held.floor.iter().any(more)
    }

    /// Whether the role may be given more that is worth an offer: its guarantee is not met, or its limits leave room.
    pub(crate) fn has_room(&self, role: &RoleName) -> bool {
        self.books.get(role).is_none_or(|book| !book.unmet.is_empty() || !book.is_closed(&self.least))
    }
}
