//! Things that are found by their id and, on hot paths, by a small key.

use std::{
    cmp::Ordering,
    collections::HashMap,
    fmt,
    hash::{Hash, Hasher},
    marker::PhantomData,
};

use foldhash::fast::RandomState;

/// Place of a thing in its table: found without a look at its id. A thing that comes later to the same place has
/// another key.
pub(crate) struct Key<I> {
    index: u32,
    generation: u32,
    of: PhantomData<fn() -> I>,
}

impl<I> Key<I> {
    fn parts(self) -> (u32, u32) {
        (self.index, self.generation)
    }
}

impl<I> Clone for Key<I> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<I> Copy for Key<I> {}
impl<I> PartialEq for Key<I> {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}
impl<I> Eq for Key<I> {}
impl<I> PartialOrd for Key<I> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<I> Ord for Key<I> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.parts().cmp(&other.parts())
    }
}
impl<I> Hash for Key<I> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        ((u64::from(self.generation) << 32) | u64::from(self.index)).hash(state);
    }
}
impl<I> fmt::Debug for Key<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}.{}", self.index, self.generation)
    }
}

#[derive(Debug)]
struct Slot<I, T> {
    generation: u32,
    /// On the heap of its own, so that the table grows without moving what is in it.
    entry: Option<Box<(I, T)>>,
}

/// Things by id. They are walked in an order that depends on nothing but how they came and went.
#[derive(Debug)]
pub(crate) struct Table<I, T> {
    slots: Vec<Slot<I, T>>,
    free: Vec<u32>,
    index: HashMap<I, u32, RandomState>,
}

impl<I, T> Default for Table<I, T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), index: HashMap::default() }
    }
}

impl<I: Clone + Eq + Hash, T> Table<I, T> {
    /// Adds a thing, or replaces the one of that id.
    pub(crate) fn insert(&mut self, id: I, value: T) -> Key<I> {
        if let Some(entry) = self.index.get(&id).and_then(|at| self.slots[*at as usize].entry.as_mut()) {
            entry.1 = value;
            return self.key_at(self.index[&id]);
        }
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, entry: None });
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        self.index.insert(id.clone(), at);
        self.slots[at as usize].entry = Some(Box::new((id, value)));
        self.key_at(at)
    }

    pub(crate) fn remove(&mut self, id: &I) -> Option<T> {
        let at = self.index.remove(id)?;
        let slot = &mut self.slots[at as usize];
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(at);
        slot.entry.take().map(|entry| entry.1)
    }

    pub(crate) fn key(&self, id: &I) -> Option<Key<I>> {
        self.index.get(id).map(|at| self.key_at(*at))
    }

    pub(crate) fn get(&self, id: &I) -> Option<&T> {
        let entry = self.slots[*self.index.get(id)? as usize].entry.as_ref()?;
        Some(&entry.1)
    }

    pub(crate) fn get_mut(&mut self, id: &I) -> Option<&mut T> {
        let entry = self.slots[*self.index.get(id)? as usize].entry.as_mut()?;
        Some(&mut entry.1)
    }

    pub(crate) fn contains_key(&self, id: &I) -> bool {
        self.index.contains_key(id)
    }

    fn key_at(&self, at: u32) -> Key<I> {
        Key { index: at, generation: self.slots[at as usize].generation, of: PhantomData }
    }
}

impl<I, T> Table<I, T> {
    fn slot(&self, key: Key<I>) -> Option<&Slot<I, T>> {
        self.slots.get(key.index as usize).filter(|slot| slot.generation == key.generation)
    }

    pub(crate) fn at(&self, key: Key<I>) -> Option<&T> {
        self.slot(key)?.entry.as_ref().map(|entry| &entry.1)
    }

    pub(crate) fn at_mut(&mut self, key: Key<I>) -> Option<&mut T> {
        let slot = self.slots.get_mut(key.index as usize).filter(|slot| slot.generation == key.generation)?;
        slot.entry.as_mut().map(|entry| &mut entry.1)
    }

    pub(crate) fn id_at(&self, key: Key<I>) -> Option<&I> {
        self.slot(key)?.entry.as_ref().map(|entry| &entry.0)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&I, &T)> {
        self.slots.iter().filter_map(|slot| slot.entry.as_ref().map(|entry| (&entry.0, &entry.1)))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&I, &mut T)> {
        let entries = self.slots.iter_mut().filter_map(|slot| slot.entry.as_mut());
        entries.map(|entry| {
            let (id, value) = &mut **entry;
            (&*id, value)
        })
    }

    pub(crate) fn all_keys(&self) -> impl Iterator<Item = Key<I>> {
        let taken = self.slots.iter().enumerate().filter(|(_, slot)| slot.entry.is_some());
        taken.filter_map(|(at, slot)| {
            Some(Key { index: u32::try_from(at).ok()?, generation: slot.generation, of: PhantomData })
        })
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &I> {
        self.iter().map(|(id, _)| id)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.iter().map(|(_, value)| value)
    }
}

#[cfg(test)]
impl<I: Clone + Eq + Hash, T> std::ops::Index<&I> for Table<I, T> {
    type Output = T;

    /// Panics if there is no such thing: for what is known to be there.
    fn index(&self, id: &I) -> &T {
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

    proptest! {
        #[test]
        fn behaves_as_a_map_and_old_keys_find_nothing(steps in prop::collection::vec((any::<bool>(), 0..5_u8), 0..60)) {
            let (mut table, mut model) = (Table::default(), BTreeMap::new());
            let mut gone: Vec<Key<u8>> = Vec::new();
            for (number, (insert, id)) in steps.into_iter().enumerate() {
                if insert {
                    let key = table.insert(id, number);
                    model.insert(id, number);
                    prop_assert_eq!(table.key(&id), Some(key));
                } else {
                    gone.extend(table.key(&id));
                    prop_assert_eq!(table.remove(&id), model.remove(&id));
                }
                prop_assert!(gone.iter().all(|key| table.at(*key).is_none() && table.id_at(*key).is_none()));
                let shown: BTreeMap<u8, usize> = table.iter().map(|(id, value)| (*id, *value)).collect();
                prop_assert_eq!(&shown, &model);
                prop_assert_eq!(table.len(), model.len());
                prop_assert!(table.all_keys().all(|key| table.id_at(key).is_some_and(|id| table.get(id) == table.at(key))));
            }
        }
    }
}
