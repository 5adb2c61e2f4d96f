//! Frameworks of one role, in the order in which they are served.

use std::collections::{BTreeSet, HashMap};

use foldhash::fast::FixedState;
use meshos_types::{FrameworkId, Quantities};

use super::{labels::Labels, luck::Luck};
use crate::core::FrameworkKey;

/// Place of a client in the order: share, past allocations, name.
///
/// A share is never negative, so the bits of the number stand in its order; the label stands for the name. Where chance
/// decides, the first is when its turn is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank<K> {
    place: u64,
    allocations: u64,
    label: u64,
    pub(crate) key: K,
}

/// The first of an order after `rank`, or the very first.
pub(super) fn next_after<K: Ord + Copy>(
    order: &BTreeSet<Rank<K>>,
    rank: Option<&Rank<K>>,
) -> Option<Rank<K>> {
    match rank {
        None => order.first().copied(),
        Some(rank) => {
            let after = (std::ops::Bound::Excluded(rank), std::ops::Bound::Unbounded);
            order.range::<Rank<K>, _>(after).next().copied()
        }
    }
}

/// Takes a rank out; the first is the one that usually goes.
pub(super) fn remove<K: Ord + Copy>(order: &mut BTreeSet<Rank<K>>, rank: &Rank<K>) {
    if order.first() == Some(rank) {
        order.pop_first();
    } else {
        order.remove(rank);
    }
}

/// What a client holds, and its place.
#[derive(Clone, Debug, Default)]
pub(super) struct Side {
    pub(super) allocated: Quantities,
    pub(super) allocations: u64,
    pub(super) active: bool,
    /// Divided by its weight.
    share: f64,
    /// Where chance decides: its place, and the allocations with which it was drawn.
    turn: f64,
    drawn: Option<u64>,
}

impl Side {
    pub(super) fn rank<K>(&self, label: u64, key: K) -> Rank<K> {
        let place = if self.drawn.is_some() { self.turn } else { self.share };
        Rank { place: place.to_bits(), allocations: self.allocations, label, key }
    }

    pub(super) fn share(&self) -> f64 {
        self.share
    }

    pub(super) fn recompute(&mut self, pool: &Pool, weight: f64) {
        self.share = pool.share(&self.allocated) / weight;
    }

    /// After a change: its place as well. `clock`: the latest turn that was served among those that it competes with.
    ///
    /// Turns come like the events of a Poisson process with the weight as the rate, so that the next one served is any of
    /// them by chance, as their weights have it, whoever was served before.
    pub(super) fn update(&mut self, pool: &Pool, weight: f64, luck: Option<&Luck>, clock: &mut f64) {
        self.recompute(pool, weight);
        let Some(luck) = luck else { return };
        match self.drawn {
            _ if !self.active => return self.drawn = Some(u64::MAX),
            Some(allocations) if allocations == self.allocations => return,
            // Served. One that was passed over before has no more to come than anybody else.
            Some(allocations) if allocations != u64::MAX => *clock = clock.max(self.turn),
            // Back, with its turn still ahead.
            Some(_) if self.turn > *clock => return self.drawn = Some(self.allocations),
            _ => {}
        }
        self.draw(luck, weight, *clock);
    }

    fn draw(&mut self, luck: &Luck, weight: f64, after: f64) {
        self.turn = after + luck.pause(weight);
        self.drawn = Some(self.allocations);
    }
}

#[derive(Clone, Debug)]
struct Client {
    name: FrameworkId,
    label: u64,
    side: Side,
}

/// Frameworks of one role, those that want offers in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Sorter {
    clients: HashMap<FrameworkKey, Client, FixedState>,
    order: BTreeSet<Rank<FrameworkKey>>,
    /// Where chance decides: the latest turn that was served.
    clock: f64,
}

impl Sorter {
    pub(super) fn contains(&self, key: FrameworkKey) -> bool {
        self.clients.contains_key(&key)
    }

    /// Adds a client that holds nothing yet.
    pub(super) fn enter(&mut self, key: FrameworkKey, name: FrameworkId, label: u64) {
        self.clients.insert(key, Client { name, label, side: Side::default() });
    }

    /// Changes a client and its place; one that is idle and holds nothing is forgotten.
    pub(super) fn change(&mut self, key: FrameworkKey, pool: &Pool, change: impl FnOnce(&mut Side)) {
        let Some(client) = self.clients.get_mut(&key) else { return };
        if client.side.active {
            remove(&mut self.order, &client.side.rank(client.label, key));
        }
        change(&mut client.side);
        client.side.update(pool, 1.0, pool.frameworks.as_ref(), &mut self.clock);
        if client.side.active {
            self.order.insert(client.side.rank(client.label, key));
        } else if client.side.allocated.is_empty() {
            self.clients.remove(&key);
        }
    }

    /// All places again, after a change of the pool or of `labels`.
    pub(super) fn recompute(&mut self, pool: &Pool, labels: Option<&Labels<FrameworkId>>) {
        let mut ranks = Vec::with_capacity(self.order.len());
        for (key, client) in &mut self.clients {
            client.side.recompute(pool, 1.0);
            if let Some(label) = labels.and_then(|labels| labels.get(&client.name)) {
                client.label = label;
            }
            if client.side.active {
                ranks.push(client.side.rank(client.label, *key));
            }
        }
        self.order = BTreeSet::from_iter(ranks);
    }

    pub(super) fn next_after(&self, rank: Option<&Rank<FrameworkKey>>) -> Option<Rank<FrameworkKey>> {
        next_after(&self.order, rank)
    }

    /// The place of a client that wants offers.
    pub(super) fn rank_of(&self, key: FrameworkKey) -> Option<Rank<FrameworkKey>> {
        let client = self.clients.get(&key).filter(|client| client.side.active)?;
        Some(client.side.rank(client.label, key))
    }

    pub(super) fn has_active(&self) -> bool {
        !self.order.is_empty()
    }

    pub(super) fn share_of(&self, key: FrameworkKey) -> f64 {
        self.clients.get(&key).map_or(0.0, |client| client.side.share())
    }

    #[cfg(test)]
    pub(super) fn held(&self, key: FrameworkKey) -> Quantities {
        self.clients.get(&key).map(|client| client.side.allocated.clone()).unwrap_or_default()
    }
}

/// What shares are fractions of.
#[derive(Clone, Debug, Default)]
pub(super) struct Pool {
    pub(super) total: Quantities,
    pub(super) excluded: BTreeSet<String>,
    /// None: the fair share decides among roles, and among the frameworks of a role.
    pub(super) roles: Option<Luck>,
    pub(super) frameworks: Option<Luck>,
}

impl Pool {
    /// The dominant share, before any weight.
    pub(super) fn share(&self, allocated: &Quantities) -> f64 {
        if self.excluded.is_empty() {
            return allocated.largest_part(&self.total, |_| true);
        }
        allocated.largest_part(&self.total, |name| !self.excluded.contains(name))
    }
}
