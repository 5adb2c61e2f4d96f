//! One resource: a name, a value, and what else tells it from other resources of that name.

use std::{cmp::Ordering, fmt, sync::Arc};

use crate::{
    disk::Disk, ids::ResourceProviderId, ranges::Ranges, reservation::Reservation, role::RoleName,
    scalar::Milli, set::TextSet,
};

/// How much of a resource, or which.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResourceValue {
    Scalar(Milli),
    Ranges(Ranges),
    Set(TextSet),
}

impl ResourceValue {
    /// Whether there is nothing of it.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Scalar(scalar) => scalar.0 <= 0,
            Self::Ranges(ranges) => ranges.is_empty(),
            Self::Set(set) => set.is_empty(),
        }
    }

    /// Whether `other` is of the same kind and a part of this.
    pub fn contains(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Scalar(a), Self::Scalar(b)) => a >= b,
            (Self::Ranges(a), Self::Ranges(b)) => a.contains_all(b),
            (Self::Set(a), Self::Set(b)) => a.contains_all(b),
            _ => false,
        }
    }

    /// Adds `other`; a value of another kind changes nothing.
    pub(crate) fn add(&mut self, other: &Self) {
        match (self, other) {
            (Self::Scalar(a), Self::Scalar(b)) => *a = a.saturating_add(*b),
            (Self::Ranges(a), Self::Ranges(b)) => a.add(b),
            (Self::Set(a), Self::Set(b)) => a.add(b),
            _ => {}
        }
    }

    /// Takes `other` away as far as it is there; a value of another kind changes nothing.
    pub(crate) fn subtract(&mut self, other: &Self) {
        match (self, other) {
            (Self::Scalar(a), Self::Scalar(b)) => *a = a.saturating_sub(*b),
            (Self::Ranges(a), Self::Ranges(b)) => a.subtract(b),
            (Self::Set(a), Self::Set(b)) => a.subtract(b),
            _ => {}
        }
    }

    /// The number of the kind, for ordering.
    fn kind(&self) -> u8 {
        match self {
            Self::Scalar(_) => 0,
            Self::Ranges(_) => 1,
            Self::Set(_) => 2,
        }
    }
}

impl fmt::Display for ResourceValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scalar(scalar) => scalar.fmt(f),
            Self::Ranges(ranges) => ranges.fmt(f),
            Self::Set(set) => set.fmt(f),
        }
    }
}

/// A resource. All fields but `value` are its identity: resources of one identity add up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resource {
    /// `cpus` (cores), `mem` and `disk` (MB), `ports`, `gpus` (devices), or any other name.
    pub name: Arc<str>,
    /// The stack of reservations; the last is the current one, none means unreserved.
    pub reservations: Vec<Reservation>,
    /// The role that it is offered or given to.
    pub allocation: Option<RoleName>,
    /// Source and persistent volume of a `disk`.
    pub disk: Option<Disk>,
    /// Whether it may be taken back at any time.
    pub revocable: bool,
    /// Whether several tasks may have it at once (persistent volumes only).
    pub shared: bool,
    /// Who provides it, if not the agent itself.
    pub provider: Option<ResourceProviderId>,
    /// How much of it, or which.
    pub value: ResourceValue,
}

impl Resource {
    /// An unreserved, unallocated resource of the agent.
    pub fn new(name: impl Into<Arc<str>>, value: ResourceValue) -> Self {
        Self {
            name: name.into(),
            reservations: Vec::new(),
            allocation: None,
            disk: None,
            revocable: false,
            shared: false,
            provider: None,
            value,
        }
    }

    /// A scalar in thousandths of its unit.
    pub fn scalar(name: impl Into<Arc<str>>, amount: Milli) -> Self {
        Self::new(name, ResourceValue::Scalar(amount))
    }

    /// Ports.
    pub fn ports(ports: Ranges) -> Self {
        Self::new("ports", ResourceValue::Ranges(ports))
    }

    /// The same with a static reservation for `role`; unchanged for `*`.
    pub fn reserved_for(mut self, role: &RoleName) -> Self {
        if !role.is_star() {
            self.reservations.push(Reservation::fixed(role.clone()));
        }
        self
    }

    /// Whether nobody reserved it.
    pub fn is_unreserved(&self) -> bool {
        self.reservations.is_empty()
    }

    /// The current reservation: the top of the stack.
    pub fn reservation(&self) -> Option<&Reservation> {
        self.reservations.last()
    }

    /// The role of the current reservation; none when unreserved.
    pub fn reserved_role(&self) -> Option<&RoleName> {
        self.reservation().map(|reservation| &reservation.role)
    }

    /// Whether an operation made the current reservation.
    pub fn is_dynamically_reserved(&self) -> bool {
        self.reservation().is_some_and(Reservation::is_dynamic)
    }

    /// Whether it may be offered to `role`: unreserved, or reserved to the role or to one above it.
    pub fn is_allocatable_to(&self, role: &str) -> bool {
        match self.reserved_role() {
            None => true,
            Some(reserved) => {
                role == reserved.as_str() || crate::role::is_strict_subrole(role, reserved.as_str())
            }
        }
    }

    /// The id of the persistent volume that it is.
    pub fn persistence_id(&self) -> Option<&str> {
        self.disk.as_ref().and_then(Disk::persistence_id)
    }

    /// Whether it has no extras: no disk information, not shared, not revocable, the agent's own.
    pub fn is_plain(&self) -> bool {
        self.disk.is_none() && !self.shared && !self.revocable && self.provider.is_none()
    }

    /// Whether resources of its identity add up and can be taken in parts; one that does not is taken whole.
    pub fn is_divisible(&self) -> bool {
        !self.shared && self.disk.as_ref().is_none_or(Disk::is_divisible)
    }

    /// The scalar's amount; none for ranges and sets.
    pub fn amount(&self) -> Option<Milli> {
        match &self.value {
            ResourceValue::Scalar(amount) => Some(*amount),
            _ => None,
        }
    }

    /// The ranges; none for scalars and sets.
    pub fn as_ranges(&self) -> Option<&Ranges> {
        match &self.value {
            ResourceValue::Ranges(ranges) => Some(ranges),
            _ => None,
        }
    }

    /// The same resource with another value.
    pub fn with_value(&self, value: ResourceValue) -> Self {
        Self { value, ..self.clone() }
    }

    /// Compares all but the contents of the value, in the order of the fields, so that sorted resources of one
    /// identity stand together.
    pub(crate) fn cmp_identity(&self, other: &Self) -> Ordering {
        self.name
            .cmp(&other.name)
            .then_with(|| self.reservations.cmp(&other.reservations))
            .then_with(|| self.allocation.cmp(&other.allocation))
            .then_with(|| self.disk.cmp(&other.disk))
            .then_with(|| self.revocable.cmp(&other.revocable))
            .then_with(|| self.shared.cmp(&other.shared))
            .then_with(|| self.provider.cmp(&other.provider))
            .then_with(|| self.value.kind().cmp(&other.value.kind()))
    }
}

impl fmt::Display for Resource {
    /// `name(allocated: role)(reservations: [static eng])[persistence id]{REV}<SHARED>:value`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(role) = &self.allocation {
            write!(f, "(allocated: {role})")?;
        }
        for reservation in &self.reservations {
            let kind = if reservation.is_dynamic() { "dynamic" } else { "static" };
            write!(f, "({kind}: {})", reservation.role)?;
        }
        if let Some(id) = self.persistence_id() {
            write!(f, "[{id}]")?;
        }
        if self.revocable {
            f.write_str("{REV}")?;
        }
        if self.shared {
            f.write_str("<SHARED>")?;
        }
        write!(f, ":{}", self.value)
    }
}
