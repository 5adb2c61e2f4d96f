//! A bounded memory of what is over: the oldest entry makes room.

use std::collections::BTreeMap;

/// Values by key, in the order they came.
#[derive(Clone, Debug)]
pub(crate) struct Remembered<K, V> {
    values: BTreeMap<K, (u64, V)>,
    order: BTreeMap<u64, K>,
    next: u64,
    limit: usize,
}

impl<K: Ord + Clone, V> Remembered<K, V> {
    /// Keeps at most `limit` values.
    pub(crate) fn new(limit: usize) -> Self {
        Self { values: BTreeMap::new(), order: BTreeMap::new(), next: 0, limit }
    }

    /// Adds a value as the newest, replacing one of the same key. Returns what had to go, possibly the value
    /// itself.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<(K, V)> {
        self.remove(&key);
        self.order.insert(self.next, key.clone());
        self.values.insert(key, (self.next, value));
        self.next += 1;
        if self.values.len() <= self.limit {
            return None;
        }
        let (_, oldest) = self.order.pop_first()?;
        let (_, value) = self.values.remove(&oldest)?;
        Some((oldest, value))
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let (place, value) = self.values.remove(key)?;
        self.order.remove(&place);
        Some(value)
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.values.get(key).map(|(_, value)| value)
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    pub(crate) fn contains(&self, key: &K) -> bool {
        self.values.contains_key(key)
    }

    /// Oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.order.values().filter_map(|key| Some((key, self.get(key)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_first_and_a_repeated_key_is_young_again() {
        let mut memory = Remembered::new(2);
        assert_eq!(memory.insert("a", 1), None);
        assert_eq!(memory.insert("b", 2), None);
        assert_eq!(memory.insert("a", 3), None);
        assert_eq!(memory.insert("c", 4), Some(("b", 2)));
        assert_eq!(memory.iter().collect::<Vec<_>>(), [(&"a", &3), (&"c", &4)]);
        assert_eq!(memory.remove(&"a"), Some(3));
        assert!(!memory.contains(&"a"));
    }
}
