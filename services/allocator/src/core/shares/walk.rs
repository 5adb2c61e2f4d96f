//! A walk over roles in the order in which they are served.

use super::sorter::Rank;
use crate::core::RoleKey;

/// Which top-level roles a walk meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Walk {
    All,
    /// But for those whose limits leave nothing that is worth an offer.
    Open,
    /// Those whose guarantee is not met.
    Needy,
    /// One role and those below it.
    Below,
}

/// How far a walk has come, level by level. A role that is served during the walk moves behind, and may be met again.
#[derive(Debug)]
pub(crate) struct RoleCursor {
    pub(super) walk: Walk,
    pub(super) levels: Vec<(RoleKey, Option<Rank<RoleKey>>)>,
}

impl Default for RoleCursor {
    fn default() -> Self {
        Self { walk: Walk::All, levels: Vec::new() }
    }
}

impl RoleCursor {
    pub(super) fn begin(&mut self, walk: Walk, role: RoleKey) {
        self.walk = walk;
        self.levels.clear();
        self.levels.push((role, None));
    }
}
