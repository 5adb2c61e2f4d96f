//! Dominant resource fairness over the tree of roles: who is served next (Mesos
//! `src/master/allocator/mesos/sorter/drf`).
//!
//! A client's share is the largest fraction that it holds of any scalar resource in the cluster. Of a role counts
//! what its whole subtree holds, divided by its weight; siblings compete at each level of the tree, and a role's own
//! frameworks compete with the roles below it as one more child. Shares are kept sorted as allocations change; only a
//! change of the cluster's total makes all of them be computed again, once before the next use.

mod sorter;
mod tree;

use std::collections::{BTreeMap, BTreeSet};

use meshos_types::{FrameworkId, Quantities, RoleName};

use self::{
    sorter::{Pool, Rank, Sorter},
    tree::Tree,
};
pub(crate) use tree::RoleCursor;

/// Shares of roles, and of frameworks within each role.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shares {
    pool: Pool,
    stale: bool,
    roles: Tree,
    frameworks: BTreeMap<RoleName, Sorter<FrameworkId>>,
}

impl Shares {
    /// `excluded` resources do not count.
    pub(crate) fn new(excluded: BTreeSet<String>) -> Self {
        Self { pool: Pool { total: Quantities::new(), excluded }, ..Self::default() }
    }

    /// Capacity joins the cluster.
    pub(crate) fn add_total(&mut self, capacity: &Quantities) {
        self.pool.total.add(capacity);
        self.stale = true;
    }

    /// Capacity leaves the cluster.
    pub(crate) fn remove_total(&mut self, capacity: &Quantities) {
        self.pool.total.subtract(capacity);
        self.stale = true;
    }

    /// What the cluster has.
    pub(crate) fn total(&self) -> &Quantities {
        &self.pool.total
    }

    /// Computes all shares again if the total has changed. Call it before walking the order.
    pub(crate) fn refresh(&mut self) {
        if std::mem::take(&mut self.stale) {
            self.roles.recompute(&self.pool);
            for sorter in self.frameworks.values_mut() {
                sorter.recompute(&self.pool);
            }
        }
    }

    /// The weight of a role; 1 unless set.
    pub(crate) fn set_weight(&mut self, role: &RoleName, weight: f64) {
        self.roles.set_weight(role, weight, &self.pool);
    }

    /// Whether the framework wants offers for the role.
    pub(crate) fn set_active(&mut self, role: &RoleName, framework: &FrameworkId, active: bool) {
        let sorter = self.frameworks.entry(role.clone()).or_default();
        sorter.change(framework, &self.pool, |client| client.active = active);
        let any = sorter.has_active();
        if sorter.is_empty() {
            self.frameworks.remove(role);
        }
        self.roles.set_active(role, any, &self.pool);
    }

    /// Whether any framework wants offers for the role, or for one below it.
    pub(crate) fn is_active(&self, role: &RoleName) -> bool {
        self.roles.is_active(role)
    }

    /// Whether the role or one below it has frameworks or holds anything.
    pub(crate) fn is_known(&self, role: &RoleName) -> bool {
        self.roles.contains(role)
    }

    /// The framework holds more. `offer`: as a new offer, which counts as one more allocation.
    pub(crate) fn add(&mut self, role: &RoleName, framework: &FrameworkId, amount: &Quantities, offer: bool) {
        self.frameworks.entry(role.clone()).or_default().change(framework, &self.pool, |client| {
            client.allocated.add(amount);
            client.allocations += u64::from(offer);
        });
        self.roles.add(role, amount, offer, &self.pool);
    }

    /// The framework holds less.
    pub(crate) fn remove(&mut self, role: &RoleName, framework: &FrameworkId, amount: &Quantities) {
        if let Some(sorter) = self.frameworks.get_mut(role) {
            sorter.change(framework, &self.pool, |client| client.allocated.subtract(amount));
            if sorter.is_empty() {
                self.frameworks.remove(role);
            }
        }
        self.roles.remove(role, amount, &self.pool);
    }

    /// The role to serve next: the least served first, at each level of the tree.
    pub(crate) fn next_role(&self, cursor: &mut RoleCursor) -> Option<RoleName> {
        self.roles.next(cursor)
    }

    /// The framework of `role` to serve after `rank`, or first.
    pub(crate) fn next_framework(
        &self,
        role: &RoleName,
        rank: Option<&Rank<FrameworkId>>,
    ) -> Option<Rank<FrameworkId>> {
        self.frameworks.get(role)?.next_after(rank)
    }

    /// Dominant share of each role, before its weight, for metrics.
    pub(crate) fn role_shares(&self) -> impl Iterator<Item = (&RoleName, f64)> {
        self.roles.shares(&self.pool)
    }

    /// Dominant share of a framework in a role.
    pub(crate) fn framework_share(&self, role: &RoleName, framework: &FrameworkId) -> f64 {
        self.frameworks.get(role).map_or(0.0, |sorter| sorter.share_of(framework))
    }

    /// What a framework holds in a role.
    #[cfg(test)]
    pub(crate) fn held(&self, role: &RoleName, framework: &FrameworkId) -> Quantities {
        self.frameworks.get(role).map(|sorter| sorter.held(framework)).unwrap_or_default()
    }

    /// What a role and those below it hold.
    #[cfg(test)]
    pub(crate) fn held_below(&self, role: &RoleName) -> Quantities {
        self.roles.held(role)
    }
}

#[cfg(test)]
mod tests;
