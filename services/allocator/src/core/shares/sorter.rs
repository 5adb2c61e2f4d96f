//! Clients of one level, in the order in which they are served.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

use meshos_types::Quantities;

/// A dominant share, ordered.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Share(pub(super) f64);

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

/// The first of an order after `rank`, or the very first.
pub(super) fn next_after<'a, K: Ord + Clone>(
    order: &'a BTreeSet<Rank<K>>,
    rank: Option<&Rank<K>>,
) -> Option<&'a Rank<K>> {
    match rank {
        None => order.first(),
        Some(rank) => {
            let after = (std::ops::Bound::Excluded(rank), std::ops::Bound::Unbounded);
            order.range::<Rank<K>, _>(after).next()
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Client {
    pub(super) allocated: Quantities,
    share: Share,
    pub(super) allocations: u64,
    pub(super) active: bool,
}

/// Clients of one level, those that want offers in order.
#[derive(Clone, Debug)]
pub(super) struct Sorter<K> {
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
    pub(super) fn change(&mut self, key: &K, pool: &Pool, change: impl FnOnce(&mut Client)) {
        let client = match self.clients.get_mut(key) {
            Some(client) => client,
            None => self.clients.entry(key.clone()).or_default(),
        };
        let mut rank = (client.share, client.allocations, key.clone());
        if client.active {
            self.order.remove(&rank);
        }
        change(client);
        client.share = pool.share(&client.allocated);
        if client.active {
            (rank.0, rank.1) = (client.share, client.allocations);
            self.order.insert(rank);
        } else if client.allocated.is_empty() {
            self.clients.remove(key);
        }
    }

    pub(super) fn recompute(&mut self, pool: &Pool) {
        self.order.clear();
        for (key, client) in &mut self.clients {
            client.share = pool.share(&client.allocated);
            if client.active {
                self.order.insert((client.share, client.allocations, key.clone()));
            }
        }
    }

    pub(super) fn next_after(&self, rank: Option<&Rank<K>>) -> Option<Rank<K>> {
        next_after(&self.order, rank).cloned()
    }

    pub(super) fn has_active(&self) -> bool {
        !self.order.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    pub(super) fn share_of(&self, key: &K) -> f64 {
        self.clients.get(key).map_or(0.0, |client| client.share.0)
    }

    #[cfg(test)]
    pub(super) fn held(&self, key: &K) -> Quantities {
        self.clients.get(key).map(|client| client.allocated.clone()).unwrap_or_default()
    }
}

/// What shares are fractions of.
#[derive(Clone, Debug, Default)]
pub(super) struct Pool {
    pub(super) total: Quantities,
    pub(super) excluded: BTreeSet<String>,
}

impl Pool {
    pub(super) fn share(&self, allocated: &Quantities) -> Share {
        let counted = allocated.iter().filter(|(name, _)| !self.excluded.contains(&***name));
        let fractions = counted.filter_map(|(name, amount)| {
            let total = self.total.get(name);
            #[allow(clippy::cast_precision_loss, reason = "a fraction needs no more than 52 bits")]
            (total.0 > 0).then(|| amount.0 as f64 / total.0 as f64)
        });
        Share(fractions.fold(0.0, f64::max))
    }
}
