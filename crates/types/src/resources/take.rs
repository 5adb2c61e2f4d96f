//! Taking what a task wants out of an offer, across unreserved and reserved resources.

use std::sync::Arc;

use super::Resources;
use crate::{
    quantities::Quantities,
    ranges::Ranges,
    resource::{Resource, ResourceValue},
    role::RoleName,
    scalar::Milli,
};

/// What a task wants, whatever it is reserved for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Amounts of scalars by name.
    pub scalars: Quantities,
    /// Exactly these ports.
    pub ports: Ranges,
    /// That many further ports, whichever.
    pub any_ports: u64,
}

/// What is missing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Shortage {
    /// Too little of a scalar.
    #[error("{wanted} {name} wanted, {available} available")]
    Scalar { name: Arc<str>, wanted: Milli, available: Milli },
    /// Ports that are not there.
    #[error("ports {0} are not available")]
    Ports(Ranges),
    /// Too few ports.
    #[error("{wanted} ports wanted, {available} available")]
    PortCount { wanted: u64, available: u64 },
}

/// The usual preference of a framework in `role`: first what is reserved to the role, then what is reserved to roles
/// above it (nearest first), then what is unreserved. Volumes, shared, revocable and provided resources are left out.
pub fn rank_for_role(role: &RoleName) -> impl Fn(&Resource) -> Option<u32> + '_ {
    move |resource| match resource.reserved_role() {
        _ if !resource.is_plain() => None,
        None => Some(u32::MAX),
        Some(reserved) if reserved == role => Some(0),
        Some(reserved) => {
            let depth = role.ancestors().position(|ancestor| ancestor == reserved.as_str())?;
            Some(u32::try_from(depth).unwrap_or(u32::MAX - 2) + 1)
        }
    }
}

impl Resources {
    /// Takes what is wanted out and returns it, with its reservations and allocation. All or nothing. `rank` says
    /// which entries may be used (none: not this one) and which first (the lowest).
    pub fn take(
        &mut self,
        wanted: &Wanted,
        rank: impl Fn(&Resource) -> Option<u32>,
    ) -> Result<Resources, Shortage> {
        let mut rest = self.clone();
        let mut taken = Resources::new();
        for (name, amount) in wanted.scalars.iter() {
            taken.add_all(&rest.take_scalar(name, amount, &rank)?);
        }
        taken.add_all(&rest.take_ports(&wanted.ports, &rank)?);
        taken.add_all(&rest.take_any_ports(wanted.any_ports, &rank)?);
        *self = rest;
        Ok(taken)
    }

    /// As [`Self::take`], for one scalar.
    pub fn take_scalar(
        &mut self,
        name: &Arc<str>,
        amount: Milli,
        rank: impl Fn(&Resource) -> Option<u32>,
    ) -> Result<Resources, Shortage> {
        let (mut missing, mut taken) = (amount, Resources::new());
        for entry in self.usable(name, &rank) {
            let Some(have) = entry.amount().filter(|_| !missing.is_zero()) else { continue };
            let part = have.min(missing);
            missing = missing.saturating_sub(part);
            taken.add(entry.with_value(ResourceValue::Scalar(part)));
        }
        if !missing.is_zero() {
            let available = amount.saturating_sub(missing);
            return Err(Shortage::Scalar { name: Arc::clone(name), wanted: amount, available });
        }
        self.subtract_all(&taken);
        Ok(taken)
    }

    /// As [`Self::take`], for exactly these ports.
    pub fn take_ports(
        &mut self,
        ports: &Ranges,
        rank: impl Fn(&Resource) -> Option<u32>,
    ) -> Result<Resources, Shortage> {
        let (mut missing, mut taken) = (ports.clone(), Resources::new());
        for entry in self.usable("ports", &rank) {
            let Some(have) = entry.as_ranges() else { continue };
            let part = have.intersection(&missing);
            missing.subtract(&part);
            taken.add(entry.with_value(ResourceValue::Ranges(part)));
        }
        if !missing.is_empty() {
            return Err(Shortage::Ports(missing));
        }
        self.subtract_all(&taken);
        Ok(taken)
    }

    /// As [`Self::take`], for `count` ports: the lowest of the preferred entries.
    pub fn take_any_ports(
        &mut self,
        count: u64,
        rank: impl Fn(&Resource) -> Option<u32>,
    ) -> Result<Resources, Shortage> {
        let (mut missing, mut taken) = (count, Resources::new());
        for entry in self.usable("ports", &rank) {
            let Some(have) = entry.as_ranges() else { continue };
            let part = have.first(missing);
            missing = missing.saturating_sub(part.count());
            taken.add(entry.with_value(ResourceValue::Ranges(part)));
        }
        if missing > 0 {
            return Err(Shortage::PortCount { wanted: count, available: count - missing });
        }
        self.subtract_all(&taken);
        Ok(taken)
    }

    /// The entries of that name that may be used in parts, the preferred ones first.
    fn usable(&self, name: &str, rank: impl Fn(&Resource) -> Option<u32>) -> Vec<&Resource> {
        let of_name = self.iter().filter(|entry| &*entry.name == name && entry.is_divisible());
        let mut usable: Vec<_> = of_name.filter_map(|entry| Some((rank(entry)?, entry))).collect();
        usable.sort_by_key(|(rank, _)| *rank);
        usable.into_iter().map(|(_, entry)| entry).collect()
    }
}
