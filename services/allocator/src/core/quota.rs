//! Quotas of top-level roles: guarantees that are kept free for them, limits that they may not exceed (Mesos 2.5).
//!
//! A role consumes what is reserved for it and those below it, used or not, and what else its subtree is offered or
//! uses, as long as that is not revocable. All sums are kept as resources change hands; the headroom, what is free
//! on all agents together, only while some role has a guarantee.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use meshos_proto::mesos::v1::quota::QuotaConfig;
use meshos_types::{AgentId, Milli, Quantities, Resource, Resources, RoleName};

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

/// Which rules made an offer smaller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) limit: bool,
    pub(crate) headroom: bool,
}

/// The two rounds of an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// For roles whose guarantee is not met: up to the guarantee.
    Guarantees,
    /// For all: up to the limits, and never what guarantees still need.
    Everybody,
}

/// Quotas and the sums that they are held against. Roles are top-level ones throughout.
#[derive(Debug, Default)]
pub(crate) struct Quotas {
    /// Only those that say something.
    by_role: BTreeMap<RoleName, Quota>,
    consumed: BTreeMap<RoleName, Quantities>,
    /// What all guarantees together still need.
    required: Quantities,
    /// Roles whose guarantee is not met.
    unmet: BTreeSet<RoleName>,
    guaranteed: bool,
    /// Free on all active agents: neither reserved nor revocable. Kept while there are guarantees.
    available: Quantities,
    free: BTreeMap<AgentId, Quantities>,
    /// Agents whose part of `available` is to be computed again.
    stale: BTreeSet<AgentId>,
    /// Agents that have more than a limit let a role have.
    held_by_limit: BTreeMap<RoleName, BTreeSet<AgentId>>,
    /// Agents that have more than guarantees of others let somebody have.
    held_by_headroom: BTreeSet<AgentId>,
    /// Roles that consume less than before.
    loosened: BTreeSet<RoleName>,
    headroom_changed: bool,
}

/// The top-level role that a role belongs to.
pub(crate) fn top(role: &RoleName) -> RoleName {
    match role.as_str().split_once('/') {
        Some((top, _)) => RoleName::new(top),
        None => role.clone(),
    }
}

fn counts(resource: &Resource) -> bool {
    resource.is_unreserved() && !resource.revocable
}

/// What of the resources counts as consumed by whom they are given to: reservations count already.
pub(crate) fn consumption(resources: &Resources) -> Quantities {
    let mut sum = Quantities::new();
    for resource in resources.iter().filter(|resource| counts(resource)) {
        if let Some(amount) = resource.amount() {
            sum.add_one(&resource.name, amount);
        }
    }
    sum
}

/// What is reserved, by top-level role.
fn reserved(resources: &Resources) -> BTreeMap<RoleName, Quantities> {
    let mut sums: BTreeMap<RoleName, Quantities> = BTreeMap::new();
    for resource in resources {
        if let (Some(role), Some(amount)) = (resource.reserved_role(), resource.amount()) {
            sums.entry(top(role)).or_default().add_one(&resource.name, amount);
        }
    }
    sums
}

impl Quotas {
    /// Sets the quota of a role; the default removes it.
    pub(crate) fn set(&mut self, role: &RoleName, quota: Quota) {
        let nothing = Quantities::new();
        let consumed = self.consumed.get(role).unwrap_or(&nothing);
        if let Some(old) = self.by_role.remove(role) {
            self.required.subtract(&old.unmet(consumed));
        }
        let unmet = quota.unmet(consumed);
        self.required.add(&unmet);
        self.note_unmet(role, &unmet);
        if !quota.is_default() {
            self.by_role.insert(role.clone(), quota);
        }
        self.guaranteed = self.by_role.values().any(|quota| !quota.guarantees.is_empty());
        self.loosened.insert(role.clone());
        self.headroom_changed = true;
    }

    /// Whether there is no quota at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_role.is_empty()
    }

    pub(crate) fn has_guarantees(&self) -> bool {
        self.guaranteed
    }

    pub(crate) fn consumed(&self, role: &RoleName) -> Quantities {
        self.consumed.get(role).cloned().unwrap_or_default()
    }

    /// The sum of all guarantees, those in `instead` taken for those that are set.
    pub(crate) fn guarantees_with(&self, instead: &BTreeMap<RoleName, Quota>) -> Quantities {
        let mut sum = Quantities::new();
        self.by_role
            .iter()
            .filter(|(role, _)| !instead.contains_key(*role))
            .chain(instead)
            .for_each(|(_, quota)| sum.add(&quota.guarantees));
        sum
    }

    /// A role consumes more.
    pub(crate) fn consume(&mut self, role: &RoleName, amount: &Quantities) {
        self.change(role, |consumed| consumed.add(amount));
    }

    /// A role consumes less.
    pub(crate) fn release(&mut self, role: &RoleName, amount: &Quantities) {
        self.change(role, |consumed| consumed.subtract(amount));
        if self.by_role.contains_key(role) {
            self.loosened.insert(role.clone());
        }
    }

    fn change(&mut self, role: &RoleName, change: impl FnOnce(&mut Quantities)) {
        let consumed = match self.consumed.get_mut(role) {
            Some(consumed) => consumed,
            None => self.consumed.entry(role.clone()).or_default(),
        };
        let quota = self.by_role.get(role).filter(|quota| !quota.guarantees.is_empty());
        let before = quota.map(|quota| quota.unmet(consumed));
        change(consumed);
        if let (Some(quota), Some(before)) = (quota, before) {
            let after = quota.unmet(consumed);
            if before != after {
                self.required.subtract(&before);
                self.required.add(&after);
                self.headroom_changed = true;
                self.note_unmet(role, &after);
            }
        }
        if self.consumed.get(role).is_some_and(Quantities::is_empty) {
            self.consumed.remove(role);
        }
    }

    fn note_unmet(&mut self, role: &RoleName, unmet: &Quantities) {
        if unmet.is_empty() {
            self.unmet.remove(role);
        } else {
            self.unmet.insert(role.clone());
        }
    }

    /// An agent's resources are others than before: what is reserved counts as consumed.
    pub(crate) fn total_changed(&mut self, before: &Resources, after: &Resources) {
        for (role, amount) in reserved(before) {
            self.release(&role, &amount);
        }
        for (role, amount) in reserved(after) {
            self.consume(&role, &amount);
        }
    }

    /// What an agent has free is to be looked at again.
    pub(crate) fn note_free(&mut self, agent: &AgentId) {
        if self.guaranteed {
            self.stale.insert(agent.clone());
        }
    }

    pub(crate) fn take_stale(&mut self) -> BTreeSet<AgentId> {
        std::mem::take(&mut self.stale)
    }

    /// What an agent has free, none if it takes no part.
    pub(crate) fn set_free(&mut self, agent: &AgentId, free: Quantities) {
        let old = match free.is_empty() {
            true => self.free.remove(agent),
            false => self.free.insert(agent.clone(), free.clone()),
        };
        let old = old.unwrap_or_default();
        if old != free {
            self.available.subtract(&old);
            self.available.add(&free);
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

    pub(crate) fn is_unmet(&self, role: &RoleName) -> bool {
        self.unmet.contains(role)
    }

    /// Whether the role may consume more of anything that is limited.
    pub(crate) fn has_room(&self, role: &RoleName) -> bool {
        let Some(quota) = self.by_role.get(role) else { return true };
        let consumed = self.consumed.get(role);
        let used = |name: &str| consumed.map_or(Milli::ZERO, |consumed| consumed.get(name));
        quota.limits.is_empty() || quota.limits.iter().any(|(name, limit)| used(name) < *limit)
    }

    /// The limit that a role exceeds.
    pub(crate) fn exceeded(&self, role: &RoleName) -> Option<Arc<str>> {
        let quota = self.by_role.get(role)?;
        quota.exceeded(self.consumed.get(role)?).cloned()
    }

    /// What of the resources the role may have now.
    pub(crate) fn shrink(&self, role: &RoleName, resources: &Resources, stage: Stage) -> (Resources, Cut) {
        let role = &top(role);
        let quota = self.by_role.get(role);
        let consumed = self.consumed.get(role);
        let mut left: BTreeMap<&str, (Option<Milli>, Cut)> = BTreeMap::new();
        let (mut part, mut cut) = (Vec::with_capacity(resources.len()), Cut::default());
        for resource in resources {
            let Some(amount) = resource.amount().filter(|_| counts(resource)) else {
                part.push(resource.clone());
                continue;
            };
            let name = &*resource.name;
            let (left, reason) = left.entry(name).or_insert_with(|| {
                let used = consumed.map_or(Milli::ZERO, |consumed| consumed.get(name));
                self.allowed(quota, used, name, stage)
            });
            let Some(left) = left else {
                part.push(resource.clone());
                continue;
            };
            let given = if amount <= *left {
                amount
            } else {
                (cut.limit, cut.headroom) = (cut.limit || reason.limit, cut.headroom || reason.headroom);
                if resource.is_divisible() { *left } else { Milli::ZERO }
            };
            *left = left.saturating_sub(given);
            part.push(resource.with_value(meshos_types::ResourceValue::Scalar(given)));
        }
        (part.into_iter().collect(), cut)
    }

    /// How much more of `name` a role may have, none for any amount, and which rule says so.
    fn allowed(&self, quota: Option<&Quota>, used: Milli, name: &str, stage: Stage) -> (Option<Milli>, Cut) {
        let limit = quota.and_then(|quota| quota.limits.get(name)).map(|limit| limit.saturating_sub(used));
        let guarantee = quota.map_or(Milli::ZERO, |quota| quota.guarantees.get(name));
        if stage == Stage::Guarantees && !guarantee.is_zero() {
            // The rest is looked at again in the next round, where the reason is told.
            return (Some(guarantee.saturating_sub(used)), Cut::default());
        }
        match (limit, self.slack(name)) {
            (Some(limit), Some(slack)) if slack < limit => {
                (Some(slack), Cut { headroom: true, limit: false })
            }
            (Some(limit), _) => (Some(limit), Cut { limit: true, headroom: false }),
            (None, Some(slack)) => (Some(slack), Cut { headroom: true, limit: false }),
            (None, None) => (None, Cut::default()),
        }
    }

    /// Guarantees, limits and what is consumed, under Mesos's names (9.1).
    pub(crate) fn metrics(&self, metrics: &mut BTreeMap<String, f64>) {
        for (role, quota) in &self.by_role {
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
                set("consumed", self.consumed.get(role).map_or(Milli::ZERO, |consumed| consumed.get(name)));
            }
        }
    }

    /// Remembers that an agent has more than a role may have now.
    pub(crate) fn hold_back(&mut self, role: &RoleName, agent: &AgentId, cut: Cut) {
        if cut.limit {
            self.held_by_limit.entry(top(role)).or_default().insert(agent.clone());
        }
        if cut.headroom {
            self.held_by_headroom.insert(agent.clone());
        }
    }

    /// Agents that were held back by what has changed since the last time: by limits of roles, and by guarantees.
    pub(crate) fn take_held(&mut self) -> Held {
        let loosened = std::mem::take(&mut self.loosened);
        let limits = loosened.into_iter().filter_map(|role| {
            let agents = self.held_by_limit.remove(&role)?;
            Some((role, agents))
        });
        let limits = limits.collect();
        let headroom = match std::mem::take(&mut self.headroom_changed) {
            true => std::mem::take(&mut self.held_by_headroom),
            false => BTreeSet::new(),
        };
        Held { limits, headroom }
    }
}

/// Agents that are worth a look again.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) limits: BTreeMap<RoleName, BTreeSet<AgentId>>,
    pub(crate) headroom: BTreeSet<AgentId>,
}

impl Held {
    pub(crate) fn is_empty(&self) -> bool {
        self.limits.is_empty() && self.headroom.is_empty()
    }
}
