//! Sums of scalar resources by name: quota, fair shares, capacity.

use std::{
    fmt,
    sync::{Arc, LazyLock},
};

use crate::scalar::Milli;

/// The names that nearly every quantity has, in order: they have a place of their own.
const KNOWN: [&str; 4] = ["cpus", "disk", "gpus", "mem"];

/// The same names, shared.
static NAMES: LazyLock<[Arc<str>; 4]> = LazyLock::new(|| KNOWN.map(Arc::from));

/// The name, shared with all other uses of it if it is a usual one.
pub(crate) fn shared_name(name: &str) -> Arc<str> {
    static PORTS: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from("ports"));
    match place(name) {
        Some(at) => Arc::clone(&NAMES[at]),
        None if name == "ports" => Arc::clone(&PORTS),
        None => name.into(),
    }
}

/// The place of a name among the known ones.
fn place(name: &str) -> Option<usize> {
    match name {
        "cpus" => Some(0),
        "disk" => Some(1),
        "gpus" => Some(2),
        "mem" => Some(3),
        _ => None,
    }
}

/// Quantities by resource name, sorted by name; a name that is absent counts as nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantities {
    known: [Milli; KNOWN.len()],
    /// Of other names; sorted, none is nothing.
    others: Vec<(Arc<str>, Milli)>,
}

impl Quantities {
    /// No quantities.
    pub const fn new() -> Self {
        Self { known: [Milli::ZERO; KNOWN.len()], others: Vec::new() }
    }

    /// Whether all quantities are nothing.
    pub fn is_empty(&self) -> bool {
        self.known == [Milli::ZERO; KNOWN.len()] && self.others.is_empty()
    }

    /// The quantity of `name`.
    pub fn get(&self, name: &str) -> Milli {
        match place(name) {
            Some(at) => self.known[at],
            None => self.find(name).map_or(Milli::ZERO, |at| self.others[at].1),
        }
    }

    /// Sets the quantity of `name`; nothing removes it.
    pub fn set(&mut self, name: &Arc<str>, quantity: Milli) {
        self.change(name, |_| quantity);
    }

    /// Adds to the quantity of `name`.
    pub fn add_one(&mut self, name: &Arc<str>, quantity: Milli) {
        self.change(name, |before| before.saturating_add(quantity));
    }

    /// Adds all quantities of `other`.
    pub fn add(&mut self, other: &Quantities) {
        for (sum, quantity) in self.known.iter_mut().zip(other.known) {
            *sum = sum.saturating_add(quantity);
        }
        for (name, quantity) in &other.others {
            self.add_one(name, *quantity);
        }
    }

    /// Takes all quantities of `other` away; none goes below nothing.
    pub fn subtract(&mut self, other: &Quantities) {
        for (rest, quantity) in self.known.iter_mut().zip(other.known) {
            *rest = rest.saturating_sub(quantity);
        }
        for (name, quantity) in &other.others {
            self.change(name, |before| before.saturating_sub(*quantity));
        }
    }

    /// Whether there is at least as much of every name as in `other`.
    pub fn contains(&self, other: &Quantities) -> bool {
        self.known.iter().zip(other.known).all(|(have, quantity)| *have >= quantity)
            && other.others.iter().all(|(name, quantity)| self.get(name) >= *quantity)
    }

    /// Names and quantities, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, Milli)> {
        let known = NAMES.iter().zip(self.known).filter(|(_, quantity)| !quantity.is_zero());
        let mut known = known.peekable();
        let mut others = self.others.iter().map(|(name, quantity)| (name, *quantity)).peekable();
        std::iter::from_fn(move || match (known.peek(), others.peek()) {
            (Some((name, _)), Some((other, _))) if name > other => others.next(),
            (Some(_), _) => known.next(),
            (None, _) => others.next(),
        })
    }

    /// The largest part that a quantity is of the one of its name in `total`. Names for which `counts` does not hold,
    /// and those that `total` does not have, are left out.
    pub fn largest_part(&self, total: &Quantities, counts: impl Fn(&str) -> bool) -> f64 {
        let part = |quantity: Milli, total: Milli| {
            if total.0 > 0 { quantity.0 as f64 / total.0 as f64 } else { 0.0 }
        };
        let mut largest = 0.0_f64;
        for (at, (quantity, total)) in self.known.into_iter().zip(total.known).enumerate() {
            if !quantity.is_zero() && counts(KNOWN[at]) {
                largest = largest.max(part(quantity, total));
            }
        }
        for (name, quantity) in &self.others {
            if counts(name) {
                largest = largest.max(part(*quantity, total.get(name)));
            }
        }
        largest
    }

    fn change(&mut self, name: &Arc<str>, change: impl FnOnce(Milli) -> Milli) {
        if let Some(at) = place(name) {
            self.known[at] = change(self.known[at]);
            return;
        }
        match self.find(name) {
            Ok(at) => {
                self.others[at].1 = change(self.others[at].1);
                if self.others[at].1.is_zero() {
                    self.others.remove(at);
                }
            }
            Err(at) => {
                let quantity = change(Milli::ZERO);
                if !quantity.is_zero() {
                    self.others.insert(at, (Arc::clone(name), quantity));
                }
            }
        }
    }

    fn find(&self, name: &str) -> Result<usize, usize> {
        self.others.binary_search_by(|(n, _)| (**n).cmp(name))
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
        btree_map("a|b|cpus|d|mem|z", 0i64..4, 0..5)
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
            for name in ["a", "b", "cpus", "d", "mem", "z"] {
                prop_assert_eq!(sum.get(name).0, get(&a, name) + get(&b, name));
                prop_assert_eq!(difference.get(name).0, (get(&a, name) - get(&b, name)).max(0));
            }
            prop_assert_eq!(left.contains(&right), b.iter().all(|(name, amount)| get(&a, name) >= *amount));
            prop_assert_eq!(left.is_empty(), a.values().all(|amount| *amount == 0));
            let names: Vec<_> = left.iter().map(|(name, amount)| (name.to_string(), amount.0)).collect();
            let known: Vec<_> = a.clone().into_iter().filter(|(_, amount)| *amount != 0).collect();
            prop_assert_eq!(names, known, "sorted by name");
            sum.subtract(&right);
            prop_assert_eq!(sum, left);
        }
    }
}
