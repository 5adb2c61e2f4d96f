//! A multiset of resources: what an agent has, an offer holds, a task uses.

use std::{fmt, slice, vec};

use crate::resource::Resource;

mod select;
mod take;
#[cfg(test)]
mod tests;

pub use take::{Shortage, Wanted, rank_for_role};

/// Resources, added up by identity and sorted. Equal contents are equal values.
///
/// A resource that is taken whole (a shared or persistent volume, a mounted disk) stands once for each time that it
/// was added.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resources(Vec<Resource>);

impl Resources {
    /// No resources.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The entries, sorted by name and then by the rest of their identity.
    pub fn iter(&self) -> slice::Iter<'_, Resource> {
        self.0.iter()
    }

    /// Adds a resource; an empty one (0 cpus) changes nothing.
    pub fn add(&mut self, resource: Resource) {
        if resource.value.is_empty() {
            return;
        }
        if !resource.is_divisible() {
            let at = self.0.partition_point(|entry| *entry < resource);
            self.0.insert(at, resource);
            return;
        }
        match self.position(&resource) {
            Ok(at) => self.0[at].value.add(&resource.value),
            Err(at) => self.0.insert(at, resource),
        }
    }

    /// Adds all of `other`.
    pub fn add_all(&mut self, other: &Resources) {
        for resource in &other.0 {
            self.add(resource.clone());
        }
    }

    /// Takes a resource away, as far as it is there.
    pub fn subtract(&mut self, resource: &Resource) {
        if !resource.is_divisible() {
            if let Ok(at) = self.0.binary_search(resource) {
                self.0.remove(at);
            }
            return;
        }
        if let Ok(at) = self.position(resource) {
            let value = &mut self.0[at].value;
            value.subtract(&resource.value);
            if value.is_empty() {
                self.0.remove(at);
            }
        }
    }

    /// Takes all of `other` away, as far as it is there.
    pub fn subtract_all(&mut self, other: &Resources) {
        for resource in &other.0 {
            self.subtract(resource);
        }
    }

    /// The rest after `other` was taken away; none if not all of it is there.
    pub fn checked_sub(&self, other: &Resources) -> Option<Resources> {
        if !self.contains(other) {
            return None;
        }
        let mut rest = self.clone();
        rest.subtract_all(other);
        Some(rest)
    }

    /// Replaces `consumed` by `converted`, as an operation does; false, and unchanged, if not all of `consumed` is
    /// there.
    pub fn convert(&mut self, consumed: &Resources, converted: &Resources) -> bool {
        let Some(rest) = self.checked_sub(consumed) else { return false };
        *self = rest;
        self.add_all(converted);
        true
    }

    /// Whether all of `other` is there. A volume that stands twice in `other` must stand twice here.
    pub fn contains(&self, other: &Resources) -> bool {
        other.0.chunk_by(Resource::eq).all(|same| {
            let Some(resource) = same.first() else { return true };
            if resource.is_divisible() {
                self.contains_one(resource)
            } else {
                self.copies(resource) >= same.len()
            }
        })
    }

    /// Whether the resource is there; nothing (0 cpus) is everywhere.
    pub fn contains_one(&self, resource: &Resource) -> bool {
        if resource.value.is_empty() {
            return true;
        }
        if !resource.is_divisible() {
            return self.copies(resource) > 0;
        }
        self.position(resource).is_ok_and(|at| self.0[at].value.contains(&resource.value))
    }

    /// How many times this very resource stands here.
    fn copies(&self, resource: &Resource) -> usize {
        let begin = self.0.partition_point(|entry| entry < resource);
        self.0[begin..].iter().take_while(|entry| *entry == resource).count()
    }

    /// Where the entry with the identity of `resource` stands, or would have to.
    fn position(&self, resource: &Resource) -> Result<usize, usize> {
        self.0.binary_search_by(|entry| entry.cmp_identity(resource))
    }
}

impl FromIterator<Resource> for Resources {
    fn from_iter<I: IntoIterator<Item = Resource>>(resources: I) -> Self {
        let mut all = Self::new();
        all.extend(resources);
        all
    }
}

impl Extend<Resource> for Resources {
    fn extend<I: IntoIterator<Item = Resource>>(&mut self, resources: I) {
        for resource in resources {
            self.add(resource);
        }
    }
}

impl From<Resource> for Resources {
    fn from(resource: Resource) -> Self {
        Self::from_iter([resource])
    }
}

impl IntoIterator for Resources {
    type Item = Resource;
    type IntoIter = vec::IntoIter<Resource>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Resources {
    type Item = &'a Resource;
    type IntoIter = slice::Iter<'a, Resource>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl std::ops::AddAssign<&Resources> for Resources {
    fn add_assign(&mut self, other: &Resources) {
        self.add_all(other);
    }
}

impl std::ops::SubAssign<&Resources> for Resources {
    /// Takes away as far as it is there.
    fn sub_assign(&mut self, other: &Resources) {
        self.subtract_all(other);
    }
}

impl fmt::Display for Resources {
    /// `cpus:4; mem(static: eng):64`; `{}` when empty.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("{}");
        }
        for (index, resource) in self.iter().enumerate() {
            write!(f, "{}{resource}", if index == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}
