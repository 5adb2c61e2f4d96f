//! The tree of roles, siblings in the order in which they are served.

use std::collections::{BTreeSet, HashMap};

use foldhash::fast::RandomState;
use meshos_types::{Quantities, RoleName, role::parent};

use super::{
    labels::Labels,
    sorter::{Pool, Rank, Side, Sorter, next_after, remove},
    walk::{RoleCursor, Walk},
};
use crate::core::{RoleKey, table::Table};

/// The root, above all roles; no role has an empty name.
const ROOT: &str = "";

/// What quota makes of a top-level role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Its limits leave nothing that is worth an offer.
    pub(crate) closed: bool,
    /// Its guarantee is not met.
    pub(crate) needy: bool,
}

/// A role, and its competitors: the roles directly below it, and its own frameworks as one more.
#[derive(Debug)]
pub(super) struct Node {
    above: Option<RoleKey>,
    label: u64,
    weight: f64,
    standing: Standing,
    /// With everything below.
    whole: Side,
    /// The role's own frameworks. Among the node's children they go by the key of the node itself.
    own: Side,
    /// Active children, and the node's own frameworks if they are active; but for those that are closed.
    open: BTreeSet<Rank<RoleKey>>,
    /// Active children that are closed.
    closed: BTreeSet<Rank<RoleKey>>,
    /// Active children whose guarantee is not met.
    needy: BTreeSet<Rank<RoleKey>>,
    /// Nodes directly below.
    children: usize,
    /// Where chance decides: the latest turn that was served among the children.
    clock: f64,
    pub(super) frameworks: Sorter,
}

impl Node {
    fn is_needed(&self) -> bool {
        self.children > 0 || self.own.active || !self.own.allocated.is_empty()
    }

    /// A child is at another place from now on.
    fn replace(&mut self, before: Option<Rank<RoleKey>>, after: Option<Rank<RoleKey>>, standing: Standing) {
        if before == after {
            return;
        }
        let order = if standing.closed { &mut self.closed } else { &mut self.open };
        if let Some(before) = before {
            remove(order, &before);
        }
        order.extend(after);
        if standing.needy {
            if let Some(before) = before {
                remove(&mut self.needy, &before);
            }
            self.needy.extend(after);
        }
    }

    fn next_open_or_closed(&self, rank: Option<&Rank<RoleKey>>) -> Option<Rank<RoleKey>> {
        let (open, closed) = (next_after(&self.open, rank), next_after(&self.closed, rank));
        open.into_iter().chain(closed).min()
    }
}

/// Roles with their ancestors.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: Table<RoleName, Node>,
    root: RoleKey,
    labels: Labels<RoleName>,
    weights: HashMap<RoleName, f64, RandomState>,
    /// Of top-level roles, where it is not the default.
    standings: HashMap<RoleName, Standing, RandomState>,
}

impl Default for Tree {
    fn default() -> Self {
        let mut nodes = Table::default();
        let root = nodes.insert(RoleName::new(ROOT), Node::new(None, 0));
        let (labels, weights, standings) = Default::default();
        Self { nodes, root, labels, weights, standings }
    }
}

impl Node {
    fn new(above: Option<RoleKey>, label: u64) -> Self {
        Self {
            above,
            label,
            weight: 1.0,
            standing: Standing::default(),
            whole: Side::default(),
            own: Side::default(),
            open: BTreeSet::new(),
            closed: BTreeSet::new(),
            needy: BTreeSet::new(),
            children: 0,
            clock: 0.0,
            frameworks: Sorter::default(),
        }
    }
}

impl Tree {
    pub(super) fn key(&self, role: &RoleName) -> Option<RoleKey> {
        self.nodes.key(role)
    }

    pub(super) fn name(&self, key: RoleKey) -> Option<&RoleName> {
        self.nodes.id_at(key)
    }

    pub(super) fn node(&self, key: RoleKey) -> Option<&Node> {
        self.nodes.at(key)
    }

    pub(super) fn node_mut(&mut self, key: RoleKey) -> Option<&mut Node> {
        self.nodes.at_mut(key)
    }

    pub(super) fn nodes_mut(&mut self) -> impl Iterator<Item = &mut Node> {
        self.nodes.iter_mut().map(|(_, node)| node)
    }

    pub(super) fn set_weight(&mut self, role: &RoleName, weight: f64, pool: &Pool) {
        self.weights.insert(role.clone(), weight);
        if let Some(key) = self.nodes.key(role) {
            if let Some(node) = self.nodes.at_mut(key) {
                node.weight = weight;
            }
            self.change_whole(key, pool, |_| {});
        }
    }

    /// What quota makes of a top-level role from now on.
    pub(super) fn set_standing(&mut self, role: &RoleName, standing: Standing) {
        if standing == Standing::default() {
            self.standings.remove(role);
        } else {
            self.standings.insert(role.clone(), standing);
        }
        let Some(key) = self.nodes.key(role) else { return };
        let Some(node) = self.nodes.at_mut(key) else { return };
        let before = std::mem::replace(&mut node.standing, standing);
        let (rank, above) = (node.rank(key), node.above);
        if let (Some(rank), Some(above)) = (rank, above.and_then(|above| self.nodes.at_mut(above))) {
            above.replace(Some(rank), None, before);
            above.replace(None, Some(rank), standing);
        }
    }

    /// After a change among the role's own frameworks: whether any of them wants offers.
    pub(super) fn set_active(&mut self, key: RoleKey, active: bool, pool: &Pool) {
        self.change_own(key, pool, |side| side.active = active);
        self.reactivate_up(key, pool);
        self.prune(key);
    }

    pub(super) fn is_active(&self, role: &RoleName) -> bool {
        self.nodes.get(role).is_some_and(|node| node.whole.active)
    }

    pub(super) fn add(&mut self, key: RoleKey, amount: &Quantities, offer: bool, pool: &Pool) {
        self.change_up(key, pool, |side| {
            side.allocated.add(amount);
            side.allocations += u64::from(offer);
        });
    }

    pub(super) fn remove(&mut self, key: RoleKey, amount: &Quantities, pool: &Pool) {
        self.change_up(key, pool, |side| side.allocated.subtract(amount));
        self.prune(key);
    }

    /// All places again, after a change of the pool or of labels.
    pub(super) fn recompute(&mut self, pool: &Pool) {
        for node in self.nodes_mut() {
            (node.open, node.closed, node.needy) = Default::default();
        }
        for key in self.nodes.all_keys().collect::<Vec<_>>() {
            let label = self.nodes.id_at(key).and_then(|name| self.labels.get(name));
            let Some(node) = self.nodes.at_mut(key) else { continue };
            node.label = label.unwrap_or_default();
            node.own.recompute(pool, 1.0);
            node.whole.recompute(pool, node.weight);
            if node.own.active {
                node.open.insert(node.own.rank(node.label, key));
            }
            let (rank, above, standing) = (node.rank(key), node.above, node.standing);
            if let Some(above) = above.and_then(|above| self.nodes.at_mut(above)) {
                above.replace(None, rank, standing);
            }
        }
    }

    /// The next role whose own frameworks want offers.
    pub(super) fn next(&self, cursor: &mut RoleCursor) -> Option<RoleKey> {
        loop {
            let root = cursor.levels.len() == 1;
            let (role, rank) = cursor.levels.last_mut()?;
            let Some(node) = self.nodes.at(*role) else {
                cursor.levels.pop();
                continue;
            };
            let next = match cursor.walk {
                Walk::All if root => node.next_open_or_closed(rank.as_ref()),
                Walk::Needy if root => next_after(&node.needy, rank.as_ref()),
                _ => next_after(&node.open, rank.as_ref()),
            };
            let Some(next) = next else {
                cursor.levels.pop();
                continue;
            };
            *rank = Some(next);
            if next.key == *role || self.nodes.at(next.key).is_some_and(|child| child.children == 0) {
                return Some(next.key);
            }
            cursor.levels.push((next.key, None));
        }
    }

    /// Where a walk over all roles begins.
    pub(super) fn begin(&self, cursor: &mut RoleCursor, walk: Walk) {
        cursor.begin(walk, self.root);
    }

    /// Where a walk over one role and those below it begins.
    pub(super) fn begin_below(&self, cursor: &mut RoleCursor, role: RoleKey) {
        cursor.begin(Walk::Below, role);
    }

    /// The places of a role's own frameworks, from the top down.
    pub(super) fn path(&self, key: RoleKey) -> Vec<Rank<RoleKey>> {
        let mut path = Vec::new();
        let mut at = self.nodes.at(key).map(|node| (key, node));
        path.extend(
            at.and_then(|(key, node)| Some(node.own.rank(node.label, key)).filter(|_| node.children > 0)),
        );
        while let Some((key, node)) = at {
            path.extend(node.rank(key).filter(|_| node.above.is_some()));
            at = node.above.and_then(|above| Some((above, self.nodes.at(above)?)));
        }
        path.reverse();
        path
    }

    /// Dominant shares before weights.
    pub(super) fn shares(&self, pool: &Pool) -> impl Iterator<Item = (&RoleName, f64)> {
        let roles = self.nodes.iter().filter(|(role, _)| role.as_str() != ROOT);
        roles.map(|(role, node)| (role, pool.share(&node.whole.allocated)))
    }

    pub(super) fn has_needy(&self) -> bool {
        self.nodes.at(self.root).is_some_and(|root| !root.needy.is_empty())
    }

    pub(super) fn is_needy(&self, key: RoleKey) -> bool {
        self.nodes.at(key).is_some_and(|node| node.standing.needy)
    }

    #[cfg(test)]
    pub(super) fn held(&self, role: &RoleName) -> Quantities {
        self.nodes.get(role).map(|node| node.whole.allocated.clone()).unwrap_or_default()
    }

    /// Makes the node and those above it.
    pub(super) fn ensure(&mut self, role: &RoleName, pool: &Pool) -> RoleKey {
        if let Some(key) = self.nodes.key(role) {
            return key;
        }
        let above = parent(role.as_str()).map_or(self.root, |above| self.ensure(&RoleName::new(above), pool));
        let renumbered = self.labels.add(role);
        let mut node = Node::new(Some(above), self.labels.get(role).unwrap_or_default());
        node.weight = self.weights.get(role).copied().unwrap_or(1.0);
        node.standing = self.standings.get(role).copied().unwrap_or_default();
        let key = self.nodes.insert(role.clone(), node);
        if let Some(above) = self.nodes.at_mut(above) {
            above.children += 1;
        }
        if renumbered {
            self.recompute(pool);
        }
        key
    }

    /// Removes the node and those above it as far as nobody needs them. The root stays.
    fn prune(&mut self, key: RoleKey) {
        let mut at = Some(key);
        while let Some(key) = at.filter(|at| *at != self.root) {
            if self.nodes.at(key).is_none_or(Node::is_needed) {
                return;
            }
            let Some(role) = self.nodes.id_at(key).cloned() else { return };
            self.labels.remove(&role);
            at = self.nodes.remove(&role).and_then(|node| node.above);
            if let Some(above) = at.and_then(|at| self.nodes.at_mut(at)) {
                above.children = above.children.saturating_sub(1);
            }
        }
    }

    fn change_up(&mut self, key: RoleKey, pool: &Pool, change: impl Fn(&mut Side)) {
        self.change_own(key, pool, &change);
        let mut at = Some(key);
        while let Some(key) = at.filter(|at| *at != self.root) {
            at = self.change_whole(key, pool, &change);
        }
    }

    /// After a change of activity: a role is active while anything below it is.
    fn reactivate_up(&mut self, key: RoleKey, pool: &Pool) {
        let mut at = Some(key);
        while let Some(key) = at.filter(|at| *at != self.root) {
            let active = self.nodes.at(key).is_some_and(|node| !node.open.is_empty());
            at = self.change_whole(key, pool, |side| side.active = active);
        }
    }

    fn change_own(&mut self, key: RoleKey, pool: &Pool, change: impl FnOnce(&mut Side)) {
        let Some(node) = self.nodes.at_mut(key) else { return };
        let before = node.own.active.then(|| node.own.rank(node.label, key));
        change(&mut node.own);
        node.own.update(pool, 1.0, pool.roles.as_ref(), &mut node.clock);
        let after = node.own.active.then(|| node.own.rank(node.label, key));
        node.replace(before, after, Standing::default());
    }

    /// Returns the role above.
    fn change_whole(&mut self, key: RoleKey, pool: &Pool, change: impl FnOnce(&mut Side)) -> Option<RoleKey> {
        let above = self.nodes.at(key)?.above;
        let mut clock = above.and_then(|above| self.nodes.at(above)).map_or(0.0, |above| above.clock);
        let node = self.nodes.at_mut(key)?;
        let before = node.rank(key);
        change(&mut node.whole);
        node.whole.update(pool, node.weight, pool.roles.as_ref(), &mut clock);
        let (after, standing, above) = (node.rank(key), node.standing, node.above?);
        let parent = self.nodes.at_mut(above)?;
        parent.clock = clock;
        parent.replace(before, after, standing);
        Some(above)
    }
}

impl Node {
    /// Its place among its siblings, if it wants offers.
    fn rank(&self, key: RoleKey) -> Option<Rank<RoleKey>> {
        self.whole.active.then(|| self.whole.rank(self.label, key))
    }
}
