//! Sets of texts, as resources and attributes have them.

use std::{fmt, str::FromStr};

/// A sorted set of texts without duplicates; printed `{a, b}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TextSet(Vec<String>);

impl TextSet {
    /// Whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of items.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The items in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Whether `item` is in the set.
    pub fn contains(&self, item: &str) -> bool {
        self.0.binary_search_by(|i| i.as_str().cmp(item)).is_ok()
    }

    /// Whether all items of `other` are in the set.
    pub fn contains_all(&self, other: &TextSet) -> bool {
        other.iter().all(|item| self.contains(item))
    }

    /// Adds the items of `other`.
    pub fn add(&mut self, other: &TextSet) {
        for item in &other.0 {
            if let Err(at) = self.0.binary_search(item) {
                self.0.insert(at, item.clone());
            }
        }
    }

    /// Removes the items of `other`.
    pub fn subtract(&mut self, other: &TextSet) {
        self.0.retain(|item| !other.contains(item));
    }
}

impl<S: Into<String>> FromIterator<S> for TextSet {
    fn from_iter<I: IntoIterator<Item = S>>(items: I) -> Self {
        let mut items: Vec<String> = items.into_iter().map(Into::into).collect();
        items.sort_unstable();
        items.dedup();
        Self(items)
    }
}

impl fmt::Display for TextSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{}}}", self.0.join(", "))
    }
}

/// The text is not of the form `{a, b}`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a set; write it as {{a,b}}")]
pub struct SetError(String);

impl FromStr for TextSet {
    type Err = SetError;

    fn from_str(text: &str) -> Result<Self, SetError> {
        let inner = text.trim().strip_prefix('{').and_then(|t| t.strip_suffix('}'));
        let inner = inner.filter(|i| !i.contains(['{', '}'])).ok_or_else(|| SetError(text.to_owned()))?;
        Ok(inner.split(',').map(str::trim).filter(|item| !item.is_empty()).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::{collection::btree_set, prelude::*};

    use super::*;

    #[test]
    fn reads_and_prints() {
        let set: TextSet = "{b, a ,b,}".parse().unwrap();
        assert_eq!(set.to_string(), "{a, b}");
        assert_eq!("{}".parse(), Ok(TextSet::default()));
        for bad in ["", "a", "{a", "a}", "{{a}}"] {
            assert!(bad.parse::<TextSet>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn behaves_as_a_set(a in btree_set("[a-d]{1,2}", 0..8), b in btree_set("[a-d]{1,2}", 0..8)) {
            let (left, right): (TextSet, TextSet) = (a.iter().cloned().collect(), b.iter().cloned().collect());
            let items = |set: &TextSet| set.iter().map(str::to_owned).collect::<BTreeSet<_>>();
            let (mut sum, mut difference) = (left.clone(), left.clone());
            sum.add(&right);
            difference.subtract(&right);
            prop_assert_eq!(items(&sum), &a | &b);
            prop_assert_eq!(items(&difference), &a - &b);
            prop_assert_eq!(left.contains_all(&right), a.is_superset(&b));
            prop_assert_eq!(sum.to_string().parse(), Ok(sum));
        }
    }
}
