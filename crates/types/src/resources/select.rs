//! Parts of a multiset of resources, and the same resources seen under another role or reservation.

use std::collections::BTreeMap;

use super::Resources;
use crate::{
    quantities::Quantities,
    ranges::Ranges,
    reservation::Reservation,
    resource::{Resource, ResourceValue},
    role::RoleName,
    scalar::Milli,
};

impl Resources {
    /// The entries for which `wanted` holds.
    pub fn filter(&self, mut wanted: impl FnMut(&Resource) -> bool) -> Resources {
        // A part of a sorted list is sorted.
        Self::from_entries(self.iter().filter(|resource| wanted(resource)).cloned().collect())
    }

    /// What nobody reserved.
    pub fn unreserved(&self) -> Resources {
        self.filter(Resource::is_unreserved)
    }

    /// What is reserved, for whomever.
    pub fn reserved(&self) -> Resources {
        self.filter(|resource| !resource.is_unreserved())
    }

    /// What is reserved to `role` itself.
    pub fn reserved_to(&self, role: &str) -> Resources {
        self.filter(|resource| resource.reserved_role().is_some_and(|reserved| reserved.as_str() == role))
    }

    /// What is reserved, by the role of the current reservation.
    pub fn reservations(&self) -> BTreeMap<RoleName, Resources> {
        self.group_by(Resource::reserved_role)
    }

    /// What is allocated, by the role that it is allocated to.
    pub fn allocations(&self) -> BTreeMap<RoleName, Resources> {
        self.group_by(|resource| resource.allocation.as_ref())
    }

    fn group_by(&self, role: impl Fn(&Resource) -> Option<&RoleName>) -> BTreeMap<RoleName, Resources> {
        let mut groups: BTreeMap<RoleName, Vec<Resource>> = BTreeMap::new();
        for resource in self {
            if let Some(role) = role(resource) {
                groups.entry(role.clone()).or_default().push(resource.clone());
            }
        }
        groups.into_iter().map(|(role, entries)| (role, Self::from_entries(entries))).collect()
    }

    /// What may be offered to `role`: unreserved, or reserved to the role or to one above it.
    pub fn allocatable_to(&self, role: &str) -> Resources {
        self.filter(|resource| resource.is_allocatable_to(role))
    }

    /// What may be taken back at any time.
    pub fn revocable(&self) -> Resources {
        self.filter(|resource| resource.revocable)
    }

    /// What may not be taken back.
    pub fn non_revocable(&self) -> Resources {
        self.filter(|resource| !resource.revocable)
    }

    /// What several tasks may have at once.
    pub fn shared(&self) -> Resources {
        self.filter(|resource| resource.shared)
    }

    /// What only one task may have.
    pub fn non_shared(&self) -> Resources {
        self.filter(|resource| !resource.shared)
    }

    /// The persistent volumes.
    pub fn persistent_volumes(&self) -> Resources {
        self.filter(|resource| resource.persistence_id().is_some())
    }

    /// The same with every shared resource once only.
    pub fn distinct(&self) -> Resources {
        if !self.digest().shared {
            return self.clone();
        }
        let mut entries = self.entries().to_vec();
        entries.dedup_by(|next, last| next.shared && next == last);
        Self::from_entries(entries)
    }

    /// The sum of all scalars of that name, reserved or not; a shared one counts once.
    pub fn scalar(&self, name: &str) -> Milli {
        self.digest().scalars.get(name)
    }

    /// Cores.
    pub fn cpus(&self) -> Milli {
        self.scalar("cpus")
    }

    /// Memory in MB.
    pub fn mem(&self) -> Milli {
        self.scalar("mem")
    }

    /// Disk space in MB.
    pub fn disk(&self) -> Milli {
        self.scalar("disk")
    }

    /// GPU devices.
    pub fn gpus(&self) -> Milli {
        self.scalar("gpus")
    }

    /// All ranges of that name, reserved or not.
    pub fn ranges(&self, name: &str) -> Ranges {
        let of_name = self.iter().filter(|resource| &*resource.name == name);
        of_name.filter_map(Resource::as_ranges).flat_map(|ranges| ranges.as_slice().iter().copied()).collect()
    }

    /// All ports, reserved or not.
    pub fn ports(&self) -> Ranges {
        self.ranges("ports")
    }

    /// The sums of all scalars by name; a shared one counts once.
    pub fn scalars(&self) -> Quantities {
        self.digest().scalars.clone()
    }

    /// The same with other amounts of scalars, as far as `amount` names one; what comes to nothing is left out.
    pub fn resize(&self, mut amount: impl FnMut(&Resource) -> Option<Milli>) -> Resources {
        let mut entries = Vec::with_capacity(self.len());
        entries.extend(self.iter().filter_map(|resource| match amount(resource) {
            Some(amount) if amount.0 <= 0 => None,
            Some(amount) => Some(resource.with_value(ResourceValue::Scalar(amount))),
            None => Some(resource.clone()),
        }));
        Self::from_entries(entries)
    }

    /// The same, allocated to `role`.
    pub fn allocate(&self, role: &RoleName) -> Resources {
        self.map(|resource| resource.allocation = Some(role.clone()))
    }

    /// The same, allocated to nobody.
    pub fn unallocated(&self) -> Resources {
        if self.iter().all(|resource| resource.allocation.is_none()) {
            return self.clone();
        }
        self.map(|resource| resource.allocation = None)
    }

    /// The same without any reservation.
    pub fn to_unreserved(&self) -> Resources {
        self.map(|resource| resource.reservations.clear())
    }

    /// The same with one more reservation on top of each stack.
    pub fn push_reservation(&self, reservation: &Reservation) -> Resources {
        self.map(|resource| resource.reservations.push(reservation.clone()))
    }

    /// The same without the current reservation; what is unreserved stays so.
    pub fn pop_reservation(&self) -> Resources {
        self.map(|resource| {
            resource.reservations.pop();
        })
    }

    fn map(&self, mut change: impl FnMut(&mut Resource)) -> Resources {
        let changed = self.iter().cloned().map(|mut resource| {
            change(&mut resource);
            resource
        });
        changed.collect()
    }

    /// How the value of each name looks when its entries are added up; a shared one counts once. Sorted by name and
    /// kind.
    pub(crate) fn totals(&self, mut wanted: impl FnMut(&Resource) -> bool) -> Vec<(&str, ResourceValue)> {
        let mut totals: Vec<(&str, ResourceValue)> = Vec::new();
        for (index, resource) in self.iter().enumerate().filter(|(_, resource)| wanted(resource)) {
            if resource.shared && index > 0 && self.entries()[index - 1] == *resource {
                continue;
            }
            let kind = std::mem::discriminant(&resource.value);
            let same = |(name, value): &&mut (&str, _)| {
                *name == &*resource.name && std::mem::discriminant(value) == kind
            };
            match totals.iter_mut().find(same) {
                Some((_, value)) => value.add(&resource.value),
                None => totals.push((&resource.name, resource.value.clone())),
            }
        }
        totals
    }
}
