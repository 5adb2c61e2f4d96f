//! Dominant resource fairness: who is served next (Mesos `src/master/allocator/mesos/sorter/drf`).
//!
//! A client's share is the largest fraction that it holds of any scalar resource in the cluster. Shares are kept
//! sorted as allocations change; only a change of the cluster's total makes all of them be computed again, once
//! before the next use.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

use meshos_types::{FrameworkId, Quantities, RoleName};

/// A dominant share, ordered.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Share(f64);

impl PartialEq for Share {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Share {}
impl PartialOrd for Share {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Share {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// Place of a client in the order: share, past allocations, name.
pub(crate) type Rank<K> = (Share, u64, K);

#[derive(Clone, Debug, Default)]
struct Client {
    allocated: Quantities,
    share: Share,
    allocations: u64,
    active: bool,
}

/// Clients of one level, those that want offers in order.
#[derive(Clone, Debug)]
struct Sorter<K> {
    clients: BTreeMap<K, Client>,
    order: BTreeSet<Rank<K>>,
}

impl<K> Default for Sorter<K> {
    fn default() -> Self {
        Self { clients: BTreeMap::new(), order: BTreeSet::new() }
    }
}

impl<K: Ord + Clone> Sorter<K> {
    /// Changes a client and its place; one that is idle and holds nothing is forgotten.
    fn change(&mut self, key: &K, pool: &Pool, change: impl FnOnce(&mut Client)) {
        let mut client = self.clients.remove(key).unwrap_or_default();
        if client.active {
            self.order.remove(&(client.share, client.allocations, key.clone()));
        }
        change(&mut client);
        client.share = pool.share(&client.allocated);
        if client.active {
            self.order.insert((client.share, client.allocations, key.clone()));
        }
        if client.active || !client.allocated.is_empty() {
            self.clients.insert(key.clone(), client);
        }
    }

    fn recompute(&mut self, pool: &Pool) {
        self.order.clear();
        for (key, client) in &mut self.clients {
            client.share = pool.share(&client.allocated);
            if client.active {
                self.order.insert((client.share, client.allocations, key.clone()));
            }
        }
    }

    fn next_after(&self, rank: Option<&Rank<K>>) -> Option<Rank<K>> {
        match rank {
            None => self.order.first().cloned(),
            Some(rank) => {
                let after = (std::ops::Bound::Excluded(rank.clone()), std::ops::Bound::Unbounded);
                self.order.range(after).next().cloned()
            }
        }
    }
}

/// What shares are fractions of.
#[derive(Clone, Debug, Default)]
struct Pool {
    total: Quantities,
    excluded: BTreeSet<String>,
}

impl Pool {
    fn share(&self, allocated: &Quantities) -> Share {
        let counted = allocated.iter().filter(|(name, _)| !self.excluded.contains(&***name));
        let fractions = counted.filter_map(|(name, amount)| {
            let total = self.total.get(name);
            #[allow(clippy::cast_precision_loss, reason = "a fraction needs no more than 52 bits")]
            (total.0 > 0).then(|| amount.0 as f64 / total.0 as f64)
        });
        Share(fractions.fold(0.0, f64::max))
    }
}

/// Shares of roles, and of frameworks within each role.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shares {
    pool: Pool,
    stale: bool,
    roles: Sorter<RoleName>,
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

    /// Whether the framework wants offers for the role.
    pub(crate) fn set_active(&mut self, role: &RoleName, framework: &FrameworkId, active: bool) {
        let sorter = self.frameworks.entry(role.clone()).or_default();
        sorter.change(framework, &self.pool, |client| client.active = active);
        let any = !sorter.order.is_empty();
        if sorter.clients.is_empty() {
            self.frameworks.remove(role);
        }
        self.roles.change(role, &self.pool, |client| client.active = any);
    }

    /// The framework holds more. `offer`: as a new offer, which counts as one more allocation.
    pub(crate) fn add(&mut self, role: &RoleName, framework: &FrameworkId, amount: &Quantities, offer: bool) {
        let change = |client: &mut Client| {
            client.allocated.add(amount);
            client.allocations += u64::from(offer);
        };
        self.frameworks.entry(role.clone()).or_default().change(framework, &self.pool, change);
        self.roles.change(role, &self.pool, change);
    }

    /// The framework holds less.
    pub(crate) fn remove(&mut self, role: &RoleName, framework: &FrameworkId, amount: &Quantities) {
        let change = |client: &mut Client| client.allocated.subtract(amount);
        if let Some(sorter) = self.frameworks.get_mut(role) {
            sorter.change(framework, &self.pool, change);
            if sorter.clients.is_empty() {
                self.frameworks.remove(role);
            }
        }
        self.roles.change(role, &self.pool, change);
    }

    /// The role to serve after `rank`, or first.
    pub(crate) fn next_role(&self, rank: Option<&Rank<RoleName>>) -> Option<Rank<RoleName>> {
        self.roles.next_after(rank)
    }

    /// The framework of `role` to serve after `rank`, or first.
    pub(crate) fn next_framework(
        &self,
        role: &RoleName,
        rank: Option<&Rank<FrameworkId>>,
    ) -> Option<Rank<FrameworkId>> {
        self.frameworks.get(role)?.next_after(rank)
    }

    /// Dominant share of a role, for metrics.
    pub(crate) fn role_shares(&self) -> impl Iterator<Item = (&RoleName, f64)> {
        self.roles.clients.iter().map(|(role, client)| (role, client.share.0))
    }

    /// What all clients hold together.
    #[cfg(test)]
    pub(crate) fn held(&self, role: &RoleName, framework: &FrameworkId) -> Quantities {
        let client = self.frameworks.get(role).and_then(|sorter| sorter.clients.get(framework));
        client.map(|client| client.allocated.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use meshos_types::Milli;

    use super::*;

    fn quantities(cpus: i64, mem: i64) -> Quantities {
        [("cpus", Milli::whole(cpus)), ("mem", Milli::whole(mem))].into_iter().collect()
    }

    fn first(shares: &Shares, role: &RoleName) -> String {
        shares.next_framework(role, None).unwrap().2.to_string()
    }

    #[test]
    fn mesos_c22_the_lower_dominant_share_is_served_first() {
        let (role, a, b) = (RoleName::star(), FrameworkId::new("a"), FrameworkId::new("b"));
        let mut shares = Shares::new(BTreeSet::new());
        shares.add_total(&quantities(10, 1000));
        shares.set_active(&role, &a, true);
        shares.set_active(&role, &b, true);
        shares.refresh();
        assert_eq!(first(&shares, &role), "a");
        shares.add(&role, &a, &quantities(1, 500), true);
        shares.add(&role, &b, &quantities(3, 0), true);
        assert_eq!(first(&shares, &role), "b", "0.5 of the memory is more than 0.3 of the cpus");
        shares.remove(&role, &a, &quantities(1, 500));
        assert_eq!(first(&shares, &role), "a");
    }

    #[test]
    fn a_change_of_the_total_changes_the_order() {
        let (role, a, b) = (RoleName::star(), FrameworkId::new("a"), FrameworkId::new("b"));
        let mut shares = Shares::new(BTreeSet::new());
        shares.add_total(&quantities(10, 1000));
        shares.set_active(&role, &a, true);
        shares.set_active(&role, &b, true);
        shares.add(&role, &a, &quantities(2, 0), true);
        shares.add(&role, &b, &quantities(0, 300), true);
        shares.refresh();
        assert_eq!(first(&shares, &role), "a");
        shares.add_total(&quantities(0, 9000));
        shares.refresh();
        assert_eq!(first(&shares, &role), "b");
    }

    #[test]
    fn an_excluded_resource_does_not_count() {
        let (role, a, b) = (RoleName::star(), FrameworkId::new("a"), FrameworkId::new("b"));
        let mut shares = Shares::new(BTreeSet::from(["cpus".to_owned()]));
        shares.add_total(&quantities(10, 1000));
        shares.set_active(&role, &a, true);
        shares.set_active(&role, &b, true);
        shares.add(&role, &a, &quantities(9, 1), true);
        shares.add(&role, &b, &quantities(1, 2), true);
        assert_eq!(first(&shares, &role), "a");
    }
}
