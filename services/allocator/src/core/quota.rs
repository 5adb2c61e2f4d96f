//! Quotas of top-level roles: guarantees that are kept free for them, limits that they may not exceed (Mesos 2.5).
//!
//! A role consumes what is reserved for it and those below it, used or not, and what else its subtree is offered or
//! uses, as long as that is not revocable. All sums are kept as resources change hands; the headroom, what is free
//! on all agents together, only while some role has a guarantee.

mod held;
mod shrink;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use foldhash::fast::RandomState;
use meshos_proto::mesos::v1::quota::QuotaConfig;
use meshos_types::{Milli, Quantities, Resources, RoleName};

pub(crate) use held::{Held, Waiting};
pub(crate) use shrink::{Cut, Stage};

use super::{AgentKey, shares::Standing};

/// What a role is promised at least, and at most.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Quota {
    pub(crate) guarantees: Quantities,
    /// A name that is absent has no limit.
    pub(crate) limits: BTreeMap<Arc<str>, Milli>,
}

impl Quota {
    /// Reads what an operator set. Values have been checked before.
    pub(crate) fn of(config: &QuotaConfig) -> Self {
        let amount = |value: f64| Milli::from_f64(value).unwrap_or(Milli::ZERO);
        let guarantees = config.guarantees.iter().map(|(name, scalar)| (name.as_str(), amount(scalar.value)));
        let limits = config.limits.iter().map(|(name, scalar)| (name.as_str().into(), amount(scalar.value)));
        Self { guarantees: guarantees.collect(), limits: limits.collect() }
    }

    fn is_default(&self) -> bool {
        self.guarantees.is_empty() && self.limits.is_empty()
    }

    /// What is missing to the guarantee.
    fn unmet(&self, consumed: &Quantities) -> Quantities {
        let mut unmet = self.guarantees.clone();
        unmet.subtract(consumed);
        unmet
    }

    /// The first limit that is exceeded.
    pub(crate) fn exceeded(&self, consumed: &Quantities) -> Option<&Arc<str>> {
        self.limits.iter().find(|(name, limit)| consumed.get(name) > **limit).map(|(name, _)| name)
    }
}

/// What is known of one top-level role.
#[derive(Debug, Default)]
struct Book {
    /// None: nothing is promised.
    quota: Option<Quota>,
    consumed: Quantities,
    /// What is missing to its guarantee.
    unmet: Quantities,
    standing: Standing,
    /// Agents that have more than its limits let it have.
    held: BTreeSet<AgentKey>,
    /// Number of walks that had left closed roles aside when it was closed, and how many left it aside before.
    closed_at: u64,
    left_aside: u64,
    /// Whether agents were not offered to it for that: all that are available are to be looked at again.
    passed_over: bool,
    /// Whether its standing is to be worked out again, and whether it consumes less than before.
    unsettled: bool,
    loosened: bool,
}

/// Quotas and the sums that they are held against. Roles are top-level ones throughout.
#[derive(Debug, Default)]
pub(crate) struct Quotas {
    books: HashMap<RoleName, Book, RandomState>,
    /// Roles with a quota, and with a guarantee.
    set: BTreeSet<RoleName>,
    guaranteed: usize,
    /// What all guarantees together still need.
    required: Quantities,
    /// Roles whose guarantee is not met.
    unmet: BTreeSet<RoleName>,
    /// Free on all active agents: neither reserved nor revocable. Kept while there are guarantees.
    available: Quantities,
    /// An offer must have one of these sets at least.
    least: Vec<Quantities>,
    /// Walks that left closed roles aside, and agents that were kept for guarantees altogether.
    walks: u64,
    kept: u64,
    /// Roles with a quota that consume something else than before, and those that consume less or may consume more.
    unsettled: Vec<RoleName>,
    loosened: Vec<RoleName>,
    held: held::ByHeadroom,
    headroom_changed: bool,
}

/// The top-level role that a role belongs to.
pub(crate) fn top(role: &RoleName) -> RoleName {
    match role.as_str().split_once('/') {
        Some((top, _)) => RoleName::new(top),
        None => role.clone(),
    }
}

/// Its name.
pub(crate) fn top_name(role: &RoleName) -> &str {
    role.as_str().split_once('/').map_or(role.as_str(), |(top, _)| top)
}

/// What of the resources counts as consumed by whom they are given to: reservations count already.
pub(crate) fn consumption(resources: &Resources) -> &Quantities {
    &resources.digest().open
}

/// What is reserved, by top-level role.
fn reserved(resources: &Resources) -> BTreeMap<RoleName, Quantities> {
    let mut sums: BTreeMap<RoleName, Quantities> = BTreeMap::new();
    if resources.digest().plain {
        return sums;
    }
    for resource in resources {
        if let (Some(role), Some(amount)) = (resource.reserved_role(), resource.amount()) {
            sums.entry(top(role)).or_default().add_one(&resource.name, amount);
        }
    }
    sums
}

impl Quotas {
    /// `least`: an offer must have one of these sets.
    pub(crate) fn new(least: Vec<Quantities>) -> Self {
        Self { least, ..Self::default() }
    }

    /// Sets the quota of a role; the default removes it.
    pub(crate) fn set(&mut self, role: &RoleName, quota: Quota) {
        let guarantees = |book: &Book| book.quota.as_ref().is_some_and(|quota| !quota.guarantees.is_empty());
        let book = self.books.entry(role.clone()).or_default();
        self.guaranteed -= usize::from(guarantees(book));
        book.quota = (!quota.is_default()).then_some(quota);
        self.guaranteed += usize::from(guarantees(book));
        if book.quota.is_some() {
            self.set.insert(role.clone());
        } else {
            self.set.remove(role);
        }
        self.change(role.as_str(), |_| {});
        self.note_loosened(role.as_str());
        self.headroom_changed = true;
    }

    /// Whether there is no quota at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    pub(crate) fn has_guarantees(&self) -> bool {
        self.guaranteed > 0
    }

    pub(crate) fn consumed(&self, role: &RoleName) -> Quantities {
        self.books.get(role).map(|book| book.consumed.clone()).unwrap_or_default()
    }

    /// The sum of all guarantees, those in `instead` taken for those that are set.
    pub(crate) fn guarantees_with(&self, instead: &BTreeMap<RoleName, Quota>) -> Quantities {
        let mut sum = Quantities::new();
        let kept = self.set.iter().filter(|role| !instead.contains_key(*role));
        let kept = kept.filter_map(|role| self.books.get(role)?.quota.as_ref());
        kept.chain(instead.values()).for_each(|quota| sum.add(&quota.guarantees));
        sum
    }

    /// A role consumes more.
    pub(crate) fn consume(&mut self, role: &str, amount: &Quantities) {
        if !amount.is_empty() {
            self.change(role, |consumed| consumed.add(amount));
        }
    }

    /// A role consumes less.
    pub(crate) fn release(&mut self, role: &str, amount: &Quantities) {
        if amount.is_empty() {
            return;
        }
        self.change(role, |consumed| consumed.subtract(amount));
        if !self.set.is_empty() {
            self.note_loosened(role);
        }
    }

    fn change(&mut self, role: &str, change: impl FnOnce(&mut Quantities)) {
        let book = match self.books.get_mut(role) {
            Some(book) => book,
            None => self.books.entry(RoleName::new(role)).or_default(),
        };
        change(&mut book.consumed);
        let unmet = book.quota.as_ref().map(|quota| quota.unmet(&book.consumed)).unwrap_or_default();
        if unmet != book.unmet {
            self.required.subtract(&book.unmet);
            self.required.add(&unmet);
            self.headroom_changed = true;
            if unmet.is_empty() {
                self.unmet.remove(role);
            } else {
                self.unmet.insert(RoleName::new(role));
            }
            book.unmet = unmet;
        }
        if book.quota.is_some() || book.standing != Standing::default() {
            if !std::mem::replace(&mut book.unsettled, true) {
                self.unsettled.push(RoleName::new(role));
            }
        } else if book.consumed.is_empty() && !book.loosened {
            self.books.remove(role);
        }
    }

    fn note_loosened(&mut self, role: &str) {
        let waits = |book: &Book| book.quota.is_some() || book.passed_over || !book.held.is_empty();
        if let Some(book) = self.books.get_mut(role).filter(|book| waits(book))
            && !std::mem::replace(&mut book.loosened, true)
        {
            self.loosened.push(RoleName::new(role));
        }
    }

    /// An agent's resources are others than before: what is reserved counts as consumed.
    pub(crate) fn total_changed(&mut self, before: &Resources, after: &Resources) {
        for (role, amount) in reserved(before) {
            self.release(role.as_str(), &amount);
        }
        for (role, amount) in reserved(after) {
            self.consume(role.as_str(), &amount);
        }
    }

    /// Nothing is free anywhere, as far as it has been counted.
    pub(crate) fn forget_free(&mut self) {
        self.available = Quantities::new();
        self.headroom_changed = true;
    }

    /// What an agent has free changes; nothing if it takes no part.
    pub(crate) fn change_free(&mut self, before: &Quantities, after: &Quantities) {
        if before != after {
            self.available.subtract(before);
            self.available.add(after);
            self.headroom_changed = true;
        }
    }

    /// What of `name` may be given away without touching what guarantees need; none: no guarantee needs any.
    fn slack(&self, name: &str) -> Option<Milli> {
        let required = self.required.get(name);
        (!required.is_zero()).then(|| self.available.get(name).saturating_sub(required))
    }

    /// Whether everything that is free must be kept for guarantees.
    pub(crate) fn is_exhausted(&self) -> bool {
        let mut required = self.required.iter();
        required.all(|(name, amount)| self.available.get(name) <= amount) && !self.required.is_empty()
    }

    /// What guarantees still need that is not free anywhere.
    pub(crate) fn shortage(&self) -> Quantities {
        let mut shortage = self.required.clone();
        shortage.subtract(&self.available);
        shortage
    }

    /// Roles whose guarantee is not met.
    pub(crate) fn unmet_roles(&self) -> impl Iterator<Item = &RoleName> {
        self.unmet.iter()
    }

    /// The limit that a role exceeds.
    pub(crate) fn exceeded(&self, role: &RoleName) -> Option<Arc<str>> {
        let book = self.books.get(role)?;
        book.quota.as_ref()?.exceeded(&book.consumed).cloned()
    }

    /// Guarantees, limits and what is consumed, under Mesos's names (9.1).
    pub(crate) fn metrics(&self, metrics: &mut BTreeMap<String, f64>) {
        let quotas = self.set.iter().filter_map(|role| {
            let book = self.books.get(role)?;
            Some((role, book.quota.as_ref()?, &book.consumed))
        });
        for (role, quota, consumed) in quotas {
            let names: BTreeSet<&Arc<str>> =
                quota.limits.keys().chain(quota.guarantees.iter().map(|(name, _)| name)).collect();
            for name in names {
                let mut set = |kind: &str, amount: Milli| {
                    let metric = format!("allocator/mesos/quota/roles/{role}/resources/{name}/{kind}");
                    metrics.insert(metric, amount.to_f64());
                };
                set("guarantee", quota.guarantees.get(name));
                if let Some(limit) = quota.limits.get(name) {
                    set("limit", *limit);
                }
                set("consumed", consumed.get(name));
            }
        }
    }
}
