//! Numbers that stand in the order of names: to compare two of them is to compare the names.

use std::collections::BTreeMap;

/// Distance of a name that comes last to the one before it.
const GAP: u64 = 1 << 32;

/// A number for each name.
#[derive(Clone, Debug)]
pub(super) struct Labels<I>(BTreeMap<I, u64>);

impl<I> Default for Labels<I> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<I: Ord + Clone> Labels<I> {
    pub(super) fn get(&self, name: &I) -> Option<u64> {
        self.0.get(name).copied()
    }

    /// Gives a name its number. True if other names got new numbers for that.
    pub(super) fn add(&mut self, name: &I) -> bool {
        if self.0.contains_key(name) {
            return false;
        }
        let before = self.0.range(..name).next_back().map(|(_, label)| *label);
        let after = self.0.range(name..).next().map(|(_, label)| *label);
        let label = match (before, after) {
            (None, None) => Some(1 << 63),
            (Some(before), None) => before.checked_add(GAP),
            (None, Some(after)) => after.checked_sub(GAP),
            (Some(before), Some(after)) => {
                Some(before + (after - before) / 2).filter(|label| *label > before)
            }
        };
        self.0.insert(name.clone(), label.unwrap_or_default());
        if label.is_none() {
            for (label, at) in self.0.values_mut().zip(1..) {
                *label = at * GAP;
            }
        }
        label.is_none()
    }

    pub(super) fn remove(&mut self, name: &I) {
        self.0.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_stand_in_the_order_of_names(names in prop::collection::vec((0..200_u32, any::<bool>()), 0..300)) {
            let mut labels = Labels::default();
            // Between 500 and 1000 there is no room after some 32 names.
            for name in (0..60).map(|n| 1000 - n) {
                labels.add(&500);
                labels.add(&name);
            }
            for (name, add) in names {
                if add {
                    labels.add(&name);
                } else {
                    labels.remove(&name);
                }
                let numbers: Vec<u64> = labels.0.values().copied().collect();
                prop_assert!(numbers.is_sorted() && numbers.windows(2).all(|pair| pair[0] < pair[1]));
            }
        }
    }
}
