//! A sorted map whose copies share what has not changed since: a picture of a large cluster costs next to nothing, and a
//! change after it copies a leaf.

use std::{fmt, sync::Arc};

use super::Key;

/// Entries of a leaf; with more it becomes two.
const LEAF: usize = 128;

type Leaf<V> = Arc<Vec<(Key, V)>>;

/// Values by id.
#[derive(Clone)]
pub(crate) struct Map<V> {
    /// Sorted and none of them empty, each with its first key.
    leaves: Vec<(Key, Leaf<V>)>,
    len: usize,
}

impl<V> Default for Map<V> {
    fn default() -> Self {
        Self { leaves: Vec::new(), len: 0 }
    }
}

impl<V: fmt::Debug> fmt::Debug for Map<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<V> Map<V> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The only leaf that can have the id: the last that begins with it or before it.
    fn leaf(&self, id: &str) -> Option<usize> {
        self.leaves.partition_point(|(first, _)| **first <= *id).checked_sub(1)
    }

    /// Leaf and place of an id that is there.
    fn place(&self, id: &str) -> Option<(usize, usize)> {
        let leaf = self.leaf(id)?;
        let entries = &self.leaves.get(leaf)?.1;
        Some((leaf, entries.binary_search_by(|(key, _)| (**key).cmp(id)).ok()?))
    }

    fn entry(&self, id: &str) -> Option<&(Key, V)> {
        let (leaf, at) = self.place(id)?;
        self.leaves[leaf].1.get(at)
    }

    pub(crate) fn get(&self, id: &str) -> Option<&V> {
        self.entry(id).map(|(_, value)| value)
    }

    /// The key that the map holds, to be shared.
    pub(crate) fn key(&self, id: &str) -> Option<&Key> {
        self.entry(id).map(|(key, _)| key)
    }

    /// In the order of the ids.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Key, &V)> {
        self.leaves.iter().flat_map(|(_, leaf)| leaf.iter().map(|(key, value)| (key, value)))
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.iter().map(|(key, _)| key)
    }
}

impl<V: Clone> Map<V> {
    pub(crate) fn get_mut(&mut self, id: &str) -> Option<&mut V> {
        let (leaf, at) = self.place(id)?;
        Arc::make_mut(&mut self.leaves[leaf].1).get_mut(at).map(|(_, value)| value)
    }

    /// The value of the id, made if there is none.
    pub(crate) fn entry_mut(&mut self, id: &str) -> &mut V
    where
        V: Default,
    {
        if self.entry(id).is_none() {
            self.insert(id.into(), V::default());
        }
        // It is there.
        let (leaf, at) = self.place(id).unwrap_or_default();
        &mut Arc::make_mut(&mut self.leaves[leaf].1)[at].1
    }

    /// Adds a value, or replaces the one of that id, which is returned.
    pub(crate) fn insert(&mut self, id: Key, value: V) -> Option<V> {
        let Some(leaf) = self.leaf(&id).or((!self.is_empty()).then_some(0)) else {
            self.leaves.push((Arc::clone(&id), Arc::new(vec![(id, value)])));
            self.len = 1;
            return None;
        };
        let (first, entries) = &mut self.leaves[leaf];
        let entries = Arc::make_mut(entries);
        match entries.binary_search_by(|(key, _)| key.cmp(&id)) {
            Ok(at) => return Some(std::mem::replace(&mut entries[at].1, value)),
            Err(at) => entries.insert(at, (id, value)),
        }
        self.len += 1;
        *first = Arc::clone(&entries[0].0);
        if entries.len() > LEAF {
            // One that grows at its end, as ids that are counted up do, leaves full leaves behind.
            let half = if leaf + 1 == self.leaves.len() { LEAF * 7 / 8 } else { LEAF / 2 };
            let entries = Arc::make_mut(&mut self.leaves[leaf].1).split_off(half);
            self.leaves.insert(leaf + 1, (Arc::clone(&entries[0].0), Arc::new(entries)));
        }
        None
    }

    pub(crate) fn remove(&mut self, id: &str) -> Option<V> {
        let (leaf, at) = self.place(id)?;
        let (first, entries) = &mut self.leaves[leaf];
        let entries = Arc::make_mut(entries);
        let (_, value) = entries.remove(at);
        self.len -= 1;
        match entries.first() {
            Some((key, _)) => *first = Arc::clone(key),
            None => drop(self.leaves.remove(leaf)),
        }
        Some(value)
    }
}

#[cfg(test)]
impl<V> std::ops::Index<&str> for Map<V> {
    type Output = V;

    /// Panics if there is no such value.
    fn index(&self, id: &str) -> &V {
        match self.get(id) {
            Some(value) => value,
            None => panic!("no entry of this id"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn key(number: u16) -> Key {
        format!("{number:05}").into()
    }

    proptest! {
        #[test]
        fn behaves_as_a_map_and_copies_stay_as_they_were(
            begin in 0..600_u16,
            steps in prop::collection::vec((0..3_u8, 0..700_u16), 0..600),
        ) {
            let (mut map, mut model) = (Map::default(), BTreeMap::new());
            for number in 0..begin {
                map.insert(key(number), 0);
                model.insert(key(number), 0);
            }
            let (copy, before) = (map.clone(), model.clone());
            for (step, (kind, number)) in steps.into_iter().enumerate() {
                let id = key(number);
                match kind {
                    0 => prop_assert_eq!(map.insert(Arc::clone(&id), step), model.insert(Arc::clone(&id), step)),
                    1 => prop_assert_eq!(map.remove(&id), model.remove(&id)),
                    _ => {
                        *map.entry_mut(&id) += 1;
                        *model.entry(Arc::clone(&id)).or_default() += 1;
                        *map.get_mut(&id).unwrap() += 1;
                        *model.get_mut(&id).unwrap() += 1;
                    }
                }
                prop_assert_eq!(map.get(&id), model.get(&id));
                prop_assert_eq!(map.key(&id), model.get_key_value(&id).map(|(key, _)| key));
                prop_assert_eq!((map.len(), map.is_empty()), (model.len(), model.is_empty()));
            }
            prop_assert!(map.iter().eq(model.iter()));
            prop_assert!(copy.iter().eq(before.iter()), "the copy has not changed");
        }
    }
}
