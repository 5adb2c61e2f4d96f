//! Sums of scalar resources by name: quota, fair shares, capacity.

use std::{fmt, sync::Arc};

use crate::scalar::Milli;

/// Quantities by resource name, sorted by name; a name that is absent counts as nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantities(Vec<(Arc<str>, Milli)>);

impl Quantities {
    /// No quantities.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether all quantities are nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The quantity of `name`.
    pub fn get(&self, name: &str) -> Milli {
        self.find(name).map_or(Milli::ZERO, |at| self.0[at].1)
    }

    /// Sets the quantity of `name`; nothing removes it.
    pub fn set(&mut self, name: &Arc<str>, quantity: Milli) {
        match (self.find(name), quantity.is_zero()) {
            (Ok(at), true) => {
                self.0.remove(at);
            }
            (Ok(at), false) => self.0[at].1 = quantity,
            (Err(_), true) => {}
            (Err(at), false) => self.0.insert(at, (Arc::clone(name), quantity)),
        }
    }

    /// Adds to the quantity of `name`.
    pub fn add_one(&mut self, name: &Arc<str>, quantity: Milli) {
        self.set(name, self.get(name).saturating_add(quantity));
    }

    /// Adds all quantities of `other`.
    pub fn add(&mut self, other: &Quantities) {
        for (name, quantity) in &other.0 {
            self.add_one(name, *quantity);
        }
    }

    /// Takes all quantities of `other` away; none goes below nothing.
    pub fn subtract(&mut self, other: &Quantities) {
        for (name, quantity) in &other.0 {
            self.set(name, self.get(name).saturating_sub(*quantity));
        }
    }

    /// Whether there is at least as much of every name as in `other`.
    pub fn contains(&self, other: &Quantities) -> bool {
        other.0.iter().all(|(name, quantity)| self.get(name) >= *quantity)
    }

    /// Names and quantities, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, Milli)> {
        self.0.iter().map(|(name, quantity)| (name, *quantity))
    }

    fn find(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(n, _)| (**n).cmp(name))
    }
}

impl<S: Into<Arc<str>>> FromIterator<(S, Milli)> for Quantities {
    /// Adds up what has the same name.
    fn from_iter<I: IntoIterator<Item = (S, Milli)>>(items: I) -> Self {
        let mut quantities = Self::new();
        for (name, quantity) in items {
            quantities.add_one(&name.into(), quantity);
        }
        quantities
    }
}

impl fmt::Display for Quantities {
    /// `cpus:1; mem:64`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, quantity)) in self.iter().enumerate() {
            write!(f, "{}{name}:{quantity}", if index == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::{collection::btree_map, prelude::*};

    use super::*;

    type Model = BTreeMap<String, i64>;

    fn amounts() -> impl Strategy<Value = Model> {
        btree_map("[a-d]", 0i64..4, 0..5)
    }

    fn quantities(model: &Model) -> Quantities {
        model.iter().map(|(name, amount)| (name.as_str(), Milli(*amount))).collect()
    }

    proptest! {
        #[test]
        fn behaves_as_a_map(a in amounts(), b in amounts()) {
            let (left, right) = (quantities(&a), quantities(&b));
            let get = |model: &Model, name: &str| model.get(name).copied().unwrap_or(0);
            let (mut sum, mut difference) = (left.clone(), left.clone());
            sum.add(&right);
            difference.subtract(&right);
            for name in ["a", "b", "c", "d"] {
                prop_assert_eq!(sum.get(name).0, get(&a, name) + get(&b, name));
                prop_assert_eq!(difference.get(name).0, (get(&a, name) - get(&b, name)).max(0));
            }
            prop_assert_eq!(left.contains(&right), b.iter().all(|(name, amount)| get(&a, name) >= *amount));
            prop_assert_eq!(left.is_empty(), a.values().all(|amount| *amount == 0));
            sum.subtract(&right);
            prop_assert_eq!(sum, left);
        }
    }
}
