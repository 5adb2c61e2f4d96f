//! How much of what an agent has free a role may have.

use std::sync::Arc;

use meshos_types::{Milli, Quantities, Resources, RoleName};

use super::{Book, Quota, Quotas, top_name};

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

impl Quotas {
    /// What of the resources the role may have now.
    pub(crate) fn shrink(&self, role: &RoleName, resources: &Resources, stage: Stage) -> (Resources, Cut) {
        let book = self.books.get(top_name(role));
        let room = |name: &str| {
            let (quota, used) = match book {
                Some(Book { quota, consumed, .. }) => (quota.as_ref(), consumed.get(name)),
                None => (None, Milli::ZERO),
            };
            self.allowed(quota, used, name, stage)
        };
        let fits = |(name, amount): (&Arc<str>, Milli)| room(name).0.is_none_or(|left| amount <= left);
        if resources.digest().open.iter().all(fits) {
            return (resources.clone(), Cut::default());
        }
        cut(resources, room)
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

    /// What of `free` is left to anybody, whatever its quota, by what guarantees still need; none: all of it.
    pub(crate) fn beside_guarantees(&self, free: &Quantities) -> Option<Quantities> {
        if self.required.is_empty() {
            return None;
        }
        let mut left = free.clone();
        for (name, _) in self.required.iter() {
            let most = self.slack(name).unwrap_or(Milli::ZERO);
            left.set(name, left.get(name).min(most));
        }
        Some(left)
    }
}

/// The part of the resources for which there is room.
fn cut(resources: &Resources, room: impl Fn(&str) -> (Option<Milli>, Cut)) -> (Resources, Cut) {
    let mut rest: Vec<(Arc<str>, Option<Milli>, Cut)> = Vec::with_capacity(resources.len());
    let mut cut = Cut::default();
    let part = resources.resize(|resource| {
        let counts = resource.is_unreserved() && !resource.revocable;
        let amount = resource.amount().filter(|_| counts)?;
        let at = rest.iter().position(|(name, ..)| *name == resource.name).unwrap_or_else(|| {
            let (amount, reason) = room(&resource.name);
            rest.push((Arc::clone(&resource.name), amount, reason));
            rest.len() - 1
        });
        let (_, left, reason) = rest.get_mut(at)?;
        let left = left.as_mut()?;
        let given = if amount <= *left {
            amount
        } else {
            (cut.limit, cut.headroom) = (cut.limit || reason.limit, cut.headroom || reason.headroom);
            if resource.is_divisible() { *left } else { Milli::ZERO }
        };
        *left = left.saturating_sub(given);
        Some(given)
    });
    (part, cut)
}
