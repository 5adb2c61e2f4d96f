//! Things that only one can have: ports, names of backends. Who has one keeps it as long as it wants it; then the
//! app with the older version gets it.

use std::collections::{BTreeMap, BTreeSet};

/// App or deployment group, and the index of its service port.
pub type Claimant = (String, usize);

#[derive(Clone, Debug)]
pub struct Claims<K> {
    /// Versions by key and claimant.
    wishes: BTreeMap<K, BTreeMap<Claimant, u64>>,
    owners: BTreeMap<K, Claimant>,
    by_unit: BTreeMap<String, BTreeSet<(K, usize)>>,
}

impl<K> Default for Claims<K> {
    fn default() -> Self {
        Self { wishes: BTreeMap::new(), owners: BTreeMap::new(), by_unit: BTreeMap::new() }
    }
}

impl<K: Ord + Clone> Claims<K> {
    /// Replaces what a unit wants (key, index, version). Returns other units that got something.
    pub fn set(&mut self, unit: &str, wishes: &[(K, usize, u64)]) -> BTreeSet<String> {
        let old = self.by_unit.remove(unit).unwrap_or_default();
        let new: BTreeSet<(K, usize)> = wishes.iter().map(|(key, index, _)| (key.clone(), *index)).collect();
        for (key, index, version) in wishes {
            let of_key = self.wishes.entry(key.clone()).or_default();
            of_key.insert((unit.to_owned(), *index), *version);
            self.owners.entry(key.clone()).or_insert_with(|| (unit.to_owned(), *index));
        }
        let mut heirs = BTreeSet::new();
        for (key, index) in old.difference(&new) {
            heirs.extend(self.give_up(key, &(unit.to_owned(), *index)));
        }
        if !new.is_empty() {
            self.by_unit.insert(unit.to_owned(), new);
        }
        heirs.remove(unit);
        heirs
    }

    fn give_up(&mut self, key: &K, claimant: &Claimant) -> Option<String> {
        let of_key = self.wishes.get_mut(key)?;
        of_key.remove(claimant);
        let heir = of_key.iter().min_by_key(|(claimant, version)| (**version, *claimant));
        let heir = heir.map(|(claimant, _)| claimant.clone());
        if of_key.is_empty() {
            self.wishes.remove(key);
        }
        if self.owners.get(key) != Some(claimant) {
            return None;
        }
        match heir {
            Some(heir) => {
                self.owners.insert(key.clone(), heir.clone());
                Some(heir.0)
            }
            None => {
                self.owners.remove(key);
                None
            }
        }
    }

    /// Who has it.
    pub fn owner(&self, key: &K) -> Option<&Claimant> {
        self.owners.get(key)
    }

    /// Settles by age what came all at once, before anybody has anything.
    pub fn settle_by_age(&mut self) {
        for (key, of_key) in &self.wishes {
            let first = of_key.iter().min_by_key(|(claimant, version)| (**version, *claimant));
            if let Some((claimant, _)) = first {
                self.owners.insert(key.clone(), claimant.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_it_keeps_it_and_then_the_older_one_gets_it() {
        let mut claims = Claims::default();
        claims.set("a", &[(80, 0, 5)]);
        claims.set("b", &[(80, 0, 4)]);
        claims.set("c", &[(80, 1, 3)]);
        assert_eq!(claims.owner(&80), Some(&("a".into(), 0)));
        assert_eq!(claims.set("a", &[]), BTreeSet::from(["c".to_owned()]));
        assert_eq!(claims.owner(&80), Some(&("c".into(), 1)));
        assert_eq!(claims.set("b", &[]), BTreeSet::new());
        claims.set("c", &[]);
        assert_eq!(claims.owner(&80), None);
    }

    #[test]
    fn at_the_begin_age_decides() {
        let mut claims = Claims::default();
        claims.set("a", &[(80, 0, 5)]);
        claims.set("b", &[(80, 0, 4)]);
        claims.settle_by_age();
        assert_eq!(claims.owner(&80), Some(&("b".into(), 0)));
    }
}
