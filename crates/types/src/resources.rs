//! A multiset of resources: what an agent has, an offer holds, a task uses.

use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    slice,
    sync::{Arc, OnceLock},
    vec,
};

use crate::resource::Resource;

mod digest;
mod select;
mod take;
#[cfg(test)]
mod tests;

pub use digest::Digest;
pub use take::{Shortage, Wanted, rank_for_role};

/// Resources, added up by identity and sorted. Equal contents are equal values.
///
/// A resource that is taken whole (a shared or persistent volume, a mounted disk) stands once for each time that it
/// was added. A clone shares its contents until one of the two is changed.
#[derive(Clone, Default)]
pub struct Resources(Option<Arc<Contents>>);

/// Entries, never none, and what was worked out of them.
#[derive(Clone)]
struct Contents {
    entries: Vec<Resource>,
    digest: OnceLock<Digest>,
}

impl Resources {
    /// No resources.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.entries().len()
    }

    /// The entries, sorted by name and then by the rest of their identity.
    pub fn iter(&self) -> slice::Iter<'_, Resource> {
        self.entries().iter()
    }

    /// What is often asked of them, worked out once.
    pub fn digest(&self) -> &Digest {
        static NONE: Digest = Digest::none();
        self.0
            .as_ref()
            .map_or(&NONE, |contents| contents.digest.get_or_init(|| Digest::of(&contents.entries)))
    }

    fn entries(&self) -> &[Resource] {
        self.0.as_ref().map_or(&[], |contents| &contents.entries)
    }

    /// Of entries that are sorted and added up already.
    fn from_entries(entries: Vec<Resource>) -> Self {
        Self((!entries.is_empty()).then(|| Arc::new(Contents { entries, digest: OnceLock::new() })))
    }

    /// Changes the entries; those of clones stay as they are.
    fn change(&mut self, change: impl FnOnce(&mut Vec<Resource>)) {
        let contents = Arc::make_mut(
            self.0.get_or_insert_with(|| Arc::new(Contents { entries: Vec::new(), digest: OnceLock::new() })),
        );
        contents.digest.take();
        change(&mut contents.entries);
        if contents.entries.is_empty() {
            self.0 = None;
        }
    }

    /// Whether both are known to be equal without a look at the entries.
    fn shares_contents(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }

    /// Adds a resource; an empty one (0 cpus) changes nothing.
    pub fn add(&mut self, resource: Resource) {
        if resource.value.is_empty() {
            return;
        }
        if !resource.is_divisible() {
            let at = self.entries().partition_point(|entry| *entry < resource);
            return self.change(|entries| entries.insert(at, resource));
        }
        match self.position(&resource) {
            Ok(at) => self.change(|entries| entries[at].value.add(&resource.value)),
            Err(at) => self.change(|entries| entries.insert(at, resource)),
        }
    }

    /// Adds all of `other`.
    pub fn add_all(&mut self, other: &Resources) {
        if self.is_empty() {
            self.clone_from(other);
            return;
        }
        for resource in other {
            self.add(resource.clone());
        }
    }

    /// Takes a resource away, as far as it is there.
    pub fn subtract(&mut self, resource: &Resource) {
        if !resource.is_divisible() {
            if let Ok(at) = self.entries().binary_search(resource) {
                self.change(|entries| drop(entries.remove(at)));
            }
            return;
        }
        if let Ok(at) = self.position(resource) {
            self.change(|entries| {
                entries[at].value.subtract(&resource.value);
                if entries[at].value.is_empty() {
                    entries.remove(at);
                }
            });
        }
    }

    /// Takes all of `other` away, as far as it is there.
    pub fn subtract_all(&mut self, other: &Resources) {
        if self.shares_contents(other) {
            self.0 = None;
        } else if self.is_empty() || other.is_empty() {
            // Nothing to take, or nothing to take it from.
        } else if other.iter().all(Resource::is_divisible) {
            self.change(|entries| subtract_sorted(entries, other.entries()));
        } else {
            other.iter().for_each(|resource| self.subtract(resource));
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
        if self.shares_contents(other) {
            return true;
        }
        other.entries().chunk_by(Resource::eq).all(|same| {
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
        self.position(resource).is_ok_and(|at| self.entries()[at].value.contains(&resource.value))
    }

    /// How many times this very resource stands here.
    fn copies(&self, resource: &Resource) -> usize {
        let begin = self.entries().partition_point(|entry| entry < resource);
        self.entries()[begin..].iter().take_while(|entry| *entry == resource).count()
    }

    /// Where the entry with the identity of `resource` stands, or would have to.
    fn position(&self, resource: &Resource) -> Result<usize, usize> {
        self.entries().binary_search_by(|entry| entry.cmp_identity(resource))
    }
}

/// Takes `taken`, which can all be taken in parts, away from `entries`; both are sorted.
fn subtract_sorted(entries: &mut Vec<Resource>, taken: &[Resource]) {
    let mut taken = taken.iter().peekable();
    entries.retain_mut(|entry| {
        while taken.next_if(|next| next.cmp_identity(entry).is_lt()).is_some() {}
        if entry.is_divisible()
            && let Some(part) = taken.next_if(|next| next.cmp_identity(entry).is_eq())
        {
            entry.value.subtract(&part.value);
        }
        !entry.value.is_empty()
    });
}

impl PartialEq for Resources {
    fn eq(&self, other: &Self) -> bool {
        self.shares_contents(other) || self.entries() == other.entries()
    }
}

impl Eq for Resources {}

impl PartialOrd for Resources {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Resources {
    fn cmp(&self, other: &Self) -> Ordering {
        self.entries().cmp(other.entries())
    }
}

impl Hash for Resources {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.entries().hash(state);
    }
}

impl fmt::Debug for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Resources").field(&self.entries()).finish()
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
        let contents = self.0.map(Arc::unwrap_or_clone);
        contents.map(|contents| contents.entries).unwrap_or_default().into_iter()
    }
}

impl<'a> IntoIterator for &'a Resources {
    type Item = &'a Resource;
    type IntoIter = slice::Iter<'a, Resource>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
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
