//! Dominant resource fairness over the tree of roles: who is served next (Mesos
//! `src/master/allocator/mesos/sorter/drf`).
//!
//! A client's share is the largest fraction that it holds of any scalar resource in the cluster. Of a role counts
//! what its whole subtree holds, divided by its weight; siblings compete at each level of the tree, and a role's own
//! frameworks compete with the roles below it as one more child. Shares are kept sorted as allocations change; only a
//! change of the cluster's total makes all of them be computed again, once before the next use.

mod labels;
mod luck;
mod sorter;
mod tree;
mod walk;

use std::{cmp::Ordering, collections::BTreeSet};

use meshos_types::{FrameworkId, Quantities, RoleName};

use self::{
    labels::Labels,
    sorter::{Pool, Rank},
    tree::Tree,
};
use super::{FrameworkKey, RoleKey};
pub(crate) use luck::Luck;
pub(crate) use tree::Standing;
pub(crate) use walk::{RoleCursor, Walk};

/// A framework's place in the order of its role.
pub(crate) type FrameworkRank = Rank<FrameworkKey>;

/// Shares of roles, and of frameworks within each role.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    pool: Pool,
    /// All places are to be computed again.
    stale: bool,
    /// And frameworks have other labels.
    relabelled: bool,
    roles: Tree,
    labels: Labels<FrameworkId>,
    /// Clients with a minimum of their own for what they are offered.
    picky: BTreeSet<(RoleKey, FrameworkKey)>,
}

impl Shares {
    /// `excluded` resources do not count.
    pub(crate) fn new(excluded: BTreeSet<String>) -> Self {
        Self { pool: Pool { excluded, ..Pool::default() }, ..Self::default() }
    }

    /// Lets chance decide among roles, by their weights, and among the frameworks of a role.
    pub(crate) fn by_chance(mut self, roles: Option<Luck>, frameworks: Option<Luck>) -> Self {
        (self.pool.roles, self.pool.frameworks) = (roles, frameworks);
        self
    }

    /// The capacity of the cluster changes.
    pub(crate) fn change_total(&mut self, before: &Quantities, after: &Quantities) {
        self.pool.total.subtract(before);
        self.pool.total.add(after);
        self.stale = true;
    }

    /// What the cluster has.
    pub(crate) fn total(&self) -> &Quantities {
        &self.pool.total
    }

    /// Computes all shares again if the total has changed. Call it before walking the order.
    pub(crate) fn refresh(&mut self) {
        if !std::mem::take(&mut self.stale) {
            return;
        }
        let labels = std::mem::take(&mut self.relabelled).then_some(&self.labels);
        self.roles.recompute(&self.pool);
        for node in self.roles.nodes_mut() {
            node.frameworks.recompute(&self.pool, labels);
        }
    }

    /// The weight of a role; 1 unless set.
    pub(crate) fn set_weight(&mut self, role: &RoleName, weight: f64) {
        self.roles.set_weight(role, weight, &self.pool);
    }

    /// What quota makes of a top-level role.
    pub(crate) fn set_standing(&mut self, role: &RoleName, standing: Standing) {
        self.roles.set_standing(role, standing);
    }

    /// The key of a role, which need not be known yet. It is forgotten when nobody uses it any more.
    pub(crate) fn enter(&mut self, role: &RoleName) -> RoleKey {
        self.roles.ensure(role, &self.pool)
    }

    /// The key of a role that is known.
    pub(crate) fn key(&self, role: &RoleName) -> Option<RoleKey> {
        self.roles.key(role)
    }

    pub(crate) fn name(&self, role: RoleKey) -> Option<&RoleName> {
        self.roles.name(role)
    }

    /// Whether the framework wants offers for the role; `picky`: and has a minimum of its own for them.
    pub(crate) fn set_active(
        &mut self,
        role: &RoleName,
        (framework, id): (FrameworkKey, &FrameworkId),
        active: bool,
        picky: bool,
    ) {
        let role = self.enter(role);
        if active && picky {
            self.picky.insert((role, framework));
        } else {
            self.picky.remove(&(role, framework));
        }
        self.admit(role, framework, id);
        let Some(node) = self.roles.node_mut(role) else { return };
        node.frameworks.change(framework, &self.pool, |side| side.active = active);
        let any = node.frameworks.has_active();
        self.roles.set_active(role, any, &self.pool);
    }

    /// Makes the framework a client of the role.
    fn admit(&mut self, role: RoleKey, framework: FrameworkKey, id: &FrameworkId) {
        let Some(node) = self.roles.node_mut(role) else { return };
        if !node.frameworks.contains(framework) {
            if self.labels.add(id) {
                (self.stale, self.relabelled) = (true, true);
            }
            node.frameworks.enter(framework, id.clone(), self.labels.get(id).unwrap_or_default());
        }
    }

    /// The framework is over, and holds nothing.
    pub(crate) fn forget(&mut self, id: &FrameworkId) {
        self.labels.remove(id);
    }

    /// Whether a client has a minimum of its own for what it is offered.
    pub(crate) fn has_picky(&self) -> bool {
        !self.picky.is_empty()
    }

    /// Whether any role with a guarantee that is not met wants offers.
    pub(crate) fn has_needy(&self) -> bool {
        self.roles.has_needy()
    }

    /// Whether the guarantee of a top-level role is not met.
    pub(crate) fn is_needy(&self, role: RoleKey) -> bool {
        self.roles.is_needy(role)
    }

    /// Whether any framework wants offers for the role, or for one below it.
    pub(crate) fn is_active(&self, role: &RoleName) -> bool {
        self.roles.is_active(role)
    }

    /// Whether the role or one below it has frameworks or holds anything.
    pub(crate) fn is_known(&self, role: &RoleName) -> bool {
        self.roles.key(role).is_some()
    }

    /// The framework holds more. `offer`: as a new offer, which counts as one more allocation.
    pub(crate) fn add(
        &mut self,
        role: RoleKey,
        (framework, id): (FrameworkKey, &FrameworkId),
        amount: &Quantities,
        offer: bool,
    ) {
        self.admit(role, framework, id);
        let Some(node) = self.roles.node_mut(role) else { return };
        node.frameworks.change(framework, &self.pool, |side| {
            side.allocated.add(amount);
            side.allocations += u64::from(offer);
        });
        self.roles.add(role, amount, offer, &self.pool);
    }

    /// The framework holds less.
    pub(crate) fn remove(&mut self, role: RoleKey, framework: FrameworkKey, amount: &Quantities) {
        if let Some(node) = self.roles.node_mut(role) {
            node.frameworks.change(framework, &self.pool, |side| side.allocated.subtract(amount));
        }
        self.roles.remove(role, amount, &self.pool);
    }

    /// Begins a walk over all roles, the least served first, at each level of the tree.
    pub(crate) fn begin(&self, cursor: &mut RoleCursor, walk: Walk) {
        self.roles.begin(cursor, walk);
    }

    /// Begins a walk over one role and those below it.
    pub(crate) fn begin_below(&self, cursor: &mut RoleCursor, role: RoleKey) {
        self.roles.begin_below(cursor, role);
    }

    /// The role to serve next.
    pub(crate) fn next_role(&self, cursor: &mut RoleCursor) -> Option<RoleKey> {
        self.roles.next(cursor)
    }

    /// The framework of `role` to serve after `rank`, or first.
    pub(crate) fn next_framework(
        &self,
        role: RoleKey,
        rank: Option<&FrameworkRank>,
    ) -> Option<FrameworkRank> {
        self.roles.node(role)?.frameworks.next_after(rank)
    }

    /// Whether the framework wants offers for the role.
    pub(crate) fn wants(&self, role: RoleKey, framework: FrameworkKey) -> bool {
        self.roles.node(role).is_some_and(|node| node.frameworks.rank_of(framework).is_some())
    }

    /// Which of two frameworks, each in a role, is served first.
    pub(crate) fn compare(&self, one: (RoleKey, FrameworkKey), other: (RoleKey, FrameworkKey)) -> Ordering {
        let rank = |(role, framework)| self.roles.node(role)?.frameworks.rank_of(framework);
        self.roles.path(one.0).cmp(&self.roles.path(other.0)).then_with(|| rank(one).cmp(&rank(other)))
    }

    /// Dominant share of each role, before its weight, for metrics.
    pub(crate) fn role_shares(&self) -> impl Iterator<Item = (&RoleName, f64)> {
        self.roles.shares(&self.pool)
    }

    /// Dominant share of a framework in a role.
    pub(crate) fn framework_share(&self, role: &RoleName, framework: FrameworkKey) -> f64 {
        let node = self.roles.key(role).and_then(|role| self.roles.node(role));
        node.map_or(0.0, |node| node.frameworks.share_of(framework))
    }

    /// What a framework holds in a role.
    #[cfg(test)]
    pub(crate) fn held(&self, role: &RoleName, framework: FrameworkKey) -> Quantities {
        let node = self.roles.key(role).and_then(|role| self.roles.node(role));
        node.map(|node| node.frameworks.held(framework)).unwrap_or_default()
    }

    /// What a role and those below it hold.
    #[cfg(test)]
    pub(crate) fn held_below(&self, role: &RoleName) -> Quantities {
        self.roles.held(role)
    }
}

#[cfg(test)]
mod tests;
