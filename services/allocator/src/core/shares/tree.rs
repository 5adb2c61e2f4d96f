//! The tree of roles, siblings in the order in which they are served.

use std::collections::{BTreeMap, BTreeSet};

use meshos_types::{Quantities, RoleName, role::parent};

use super::sorter::{Pool, Rank, Share, next_after};

/// The root, above all roles; no role has an empty name.
const ROOT: &str = "";

/// One competitor: a role with all below it, or a role's own frameworks.
#[derive(Clone, Debug, Default)]
struct Side {
    allocated: Quantities,
    allocations: u64,
    share: Share,
    active: bool,
}

#[derive(Clone, Debug, Default)]
struct Node {
    /// With everything below.
    whole: Side,
    /// The role's own frameworks. Among the node's children they go by the name of the node itself.
    own: Side,
    /// Active children, and the node's own frameworks if they are active.
    order: BTreeSet<Rank<RoleName>>,
    /// Nodes directly below.
    children: usize,
}

impl Node {
    fn is_needed(&self) -> bool {
        self.children > 0 || self.own.active || !self.own.allocated.is_empty()
    }
}

/// Roles with their ancestors.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    nodes: BTreeMap<RoleName, Node>,
    weights: BTreeMap<RoleName, f64>,
}

/// How far a walk has come, level by level. A role that is served during the walk moves behind, and may be met again.
#[derive(Clone, Debug)]
pub(crate) struct RoleCursor(Vec<(RoleName, Option<Rank<RoleName>>)>);

impl Default for RoleCursor {
    fn default() -> Self {
        Self(vec![(RoleName::new(ROOT), None)])
    }
}

fn parent_of(role: &str) -> &str {
    parent(role).unwrap_or(ROOT)
}

impl Tree {
    pub(super) fn set_weight(&mut self, role: &RoleName, weight: f64, pool: &Pool) {
        self.weights.insert(role.clone(), weight);
        if self.nodes.contains_key(role) {
            self.change_whole(role, pool, |_| {});
        }
    }

    pub(super) fn set_active(&mut self, role: &RoleName, active: bool, pool: &Pool) {
        self.ensure(role);
        self.change_own(role, pool, |side| side.active = active);
        self.reactivate_up(role, pool);
        self.prune(role);
    }

    pub(super) fn is_active(&self, role: &RoleName) -> bool {
        self.nodes.get(role).is_some_and(|node| node.whole.active)
    }

    pub(super) fn contains(&self, role: &RoleName) -> bool {
        self.nodes.contains_key(role)
    }

    pub(super) fn add(&mut self, role: &RoleName, amount: &Quantities, offer: bool, pool: &Pool) {
        self.ensure(role);
        self.change_up(role, pool, |side| {
            side.allocated.add(amount);
            side.allocations += u64::from(offer);
        });
    }

    pub(super) fn remove(&mut self, role: &RoleName, amount: &Quantities, pool: &Pool) {
        if self.nodes.contains_key(role) {
            self.change_up(role, pool, |side| side.allocated.subtract(amount));
            self.prune(role);
        }
    }

    pub(super) fn recompute(&mut self, pool: &Pool) {
        let mut orders: BTreeMap<RoleName, BTreeSet<Rank<RoleName>>> = BTreeMap::new();
        for (role, node) in &mut self.nodes {
            let weight = self.weights.get(role).copied().unwrap_or(1.0);
            node.own.share = pool.share(&node.own.allocated);
            node.whole.share = Share(pool.share(&node.whole.allocated).0 / weight);
            if node.own.active {
                let rank = (node.own.share, node.own.allocations, role.clone());
                orders.entry(role.clone()).or_default().insert(rank);
            }
            if node.whole.active && role.as_str() != ROOT {
                let rank = (node.whole.share, node.whole.allocations, role.clone());
                orders.entry(RoleName::new(parent_of(role.as_str()))).or_default().insert(rank);
            }
        }
        for (role, node) in &mut self.nodes {
            node.order = orders.remove(role).unwrap_or_default();
        }
    }

    /// The next role whose own frameworks want offers.
    pub(super) fn next(&self, cursor: &mut RoleCursor) -> Option<RoleName> {
        while let Some((role, rank)) = cursor.0.last_mut() {
            let next = self.nodes.get(role).and_then(|node| next_after(&node.order, rank.as_ref())).cloned();
            let Some(next) = next else {
                cursor.0.pop();
                continue;
            };
            let child = next.2.clone();
            let own = child == *role;
            *rank = Some(next);
            if own {
                return Some(child);
            }
            cursor.0.push((child, None));
        }
        None
    }

    /// Dominant shares before weights.
    pub(super) fn shares(&self, pool: &Pool) -> impl Iterator<Item = (&RoleName, f64)> {
        let roles = self.nodes.iter().filter(|(role, _)| role.as_str() != ROOT);
        roles.map(|(role, node)| (role, pool.share(&node.whole.allocated).0))
    }

    #[cfg(test)]
    pub(super) fn held(&self, role: &RoleName) -> Quantities {
        self.nodes.get(role).map(|node| node.whole.allocated.clone()).unwrap_or_default()
    }

    /// Makes the node and those above it.
    fn ensure(&mut self, role: &RoleName) {
        if self.nodes.contains_key(role) {
            return;
        }
        self.nodes.insert(role.clone(), Node::default());
        if role.as_str() == ROOT {
            return;
        }
        let above = RoleName::new(parent_of(role.as_str()));
        self.ensure(&above);
        if let Some(node) = self.nodes.get_mut(&above) {
            node.children += 1;
        }
    }

    /// Removes the node and those above it as far as nobody needs them. The root stays.
    fn prune(&mut self, role: &RoleName) {
        let mut at = role.clone();
        while at.as_str() != ROOT && self.nodes.get(&at).is_some_and(|node| !node.is_needed()) {
            self.nodes.remove(&at);
            at = RoleName::new(parent_of(at.as_str()));
            if let Some(node) = self.nodes.get_mut(&at) {
                node.children = node.children.saturating_sub(1);
            }
        }
    }

    fn change_up(&mut self, role: &RoleName, pool: &Pool, change: impl Fn(&mut Side)) {
        self.change_own(role, pool, &change);
        let mut at = role.clone();
        loop {
            self.change_whole(&at, pool, &change);
            let Some(above) = parent(at.as_str()).map(RoleName::new) else { return };
            at = above;
        }
    }

    /// After a change of activity: a role is active while anything below it is.
    fn reactivate_up(&mut self, role: &RoleName, pool: &Pool) {
        let mut at = role.clone();
        loop {
            let active = self.nodes.get(&at).is_some_and(|node| !node.order.is_empty());
            self.change_whole(&at, pool, |side| side.active = active);
            let Some(above) = parent(at.as_str()).map(RoleName::new) else { return };
            at = above;
        }
    }

    fn change_own(&mut self, role: &RoleName, pool: &Pool, change: impl FnOnce(&mut Side)) {
        let Some(node) = self.nodes.get_mut(role) else { return };
        change_side(&mut node.own, &mut node.order, role, change, |held| pool.share(held));
    }

    fn change_whole(&mut self, role: &RoleName, pool: &Pool, change: impl FnOnce(&mut Side)) {
        let weight = self.weights.get(role).copied().unwrap_or(1.0);
        let Some(node) = self.nodes.get_mut(role) else { return };
        let mut side = std::mem::take(&mut node.whole);
        if let Some(above) = self.nodes.get_mut(parent_of(role.as_str())) {
            let share = |held: &Quantities| Share(pool.share(held).0 / weight);
            change_side(&mut side, &mut above.order, role, change, share);
        }
        if let Some(node) = self.nodes.get_mut(role) {
            node.whole = side;
        }
    }
}

fn change_side(
    side: &mut Side,
    order: &mut BTreeSet<Rank<RoleName>>,
    role: &RoleName,
    change: impl FnOnce(&mut Side),
    share: impl FnOnce(&Quantities) -> Share,
) {
    let mut rank = (side.share, side.allocations, role.clone());
    if side.active {
        order.remove(&rank);
    }
    change(side);
    side.share = share(&side.allocated);
    if side.active {
        (rank.0, rank.1) = (side.share, side.allocations);
        order.insert(rank);
    }
}
