//! Sets of whole numbers as inclusive ranges: ports.

use std::{fmt, str::FromStr, sync::Arc};

/// The numbers from `begin` to `end`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Range {
    pub begin: u64,
    pub end: u64,
}

/// A set of numbers; kept as sorted ranges that neither overlap nor touch. Printed `[1-3, 7-7]`. A clone shares its
/// ranges.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ranges(Option<Arc<[Range]>>);

impl Ranges {
    /// The numbers from `begin` to `end`, both included; none when `begin` is larger.
    pub fn of(begin: u64, end: u64) -> Self {
        if begin <= end { Self::from_sorted(&[Range { begin, end }]) } else { Self::default() }
    }

    /// Whether there are no numbers.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The ranges in order.
    pub fn as_slice(&self) -> &[Range] {
        self.0.as_deref().unwrap_or_default()
    }

    /// Of ranges in order that neither overlap nor touch.
    fn from_sorted(ranges: &[Range]) -> Self {
        Self((!ranges.is_empty()).then(|| ranges.into()))
    }

    /// Whether both are known to be equal without a look at the ranges.
    fn shares_ranges(&self, other: &Ranges) -> bool {
        match (&self.0, &other.0) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        }
    }

    /// The numbers in order.
    pub fn values(&self) -> impl Iterator<Item = u64> {
        self.as_slice().iter().flat_map(|r| r.begin..=r.end)
    }

    /// How many numbers there are; the largest u64 when all are.
    pub fn count(&self) -> u64 {
        self.as_slice().iter().fold(0, |sum, r| sum.saturating_add((r.end - r.begin).saturating_add(1)))
    }

    /// Whether `value` is in the set.
    pub fn contains(&self, value: u64) -> bool {
        let ranges = self.as_slice();
        let at = ranges.partition_point(|r| r.end < value);
        ranges.get(at).is_some_and(|r| r.begin <= value)
    }

    /// Whether all numbers of `other` are in the set.
    pub fn contains_all(&self, other: &Ranges) -> bool {
        let ranges = self.as_slice();
        self.shares_ranges(other)
            || other.as_slice().iter().all(|wanted| {
                let at = ranges.partition_point(|r| r.end < wanted.begin);
                ranges.get(at).is_some_and(|r| r.begin <= wanted.begin && wanted.end <= r.end)
            })
    }

    /// Adds the numbers of `other`.
    pub fn add(&mut self, other: &Ranges) {
        if self.is_empty() {
            self.clone_from(other);
        } else if !other.is_empty() && !self.shares_ranges(other) {
            *self = coalesce([self.as_slice(), other.as_slice()].concat());
        }
    }

    /// Removes the numbers of `other`.
    pub fn subtract(&mut self, other: &Ranges) {
        if self.shares_ranges(other) {
            self.0 = None;
        }
        if self.is_empty() || other.is_empty() {
            return;
        }
        let mut cuts = other.as_slice();
        let mut rest = Vec::with_capacity(self.as_slice().len() + cuts.len());
        for range in self.as_slice() {
            while cuts.first().is_some_and(|cut| cut.end < range.begin) {
                cuts = &cuts[1..];
            }
            cut_range(*range, cuts, &mut rest);
        }
        *self = Self::from_sorted(&rest);
    }

    /// The numbers that are in both.
    pub fn intersection(&self, other: &Ranges) -> Ranges {
        let mut outside = self.clone();
        outside.subtract(other);
        let mut both = self.clone();
        both.subtract(&outside);
        both
    }

    /// The `count` smallest numbers, or all when there are fewer.
    pub fn first(&self, count: u64) -> Ranges {
        let mut left = count;
        let mut taken = Vec::new();
        for range in self.as_slice() {
            if left == 0 {
                break;
            }
            let end = range.begin.saturating_add(left - 1).min(range.end);
            left = left.saturating_sub((end - range.begin).saturating_add(1));
            taken.push(Range { begin: range.begin, end });
        }
        Self::from_sorted(&taken)
    }
}

/// Sorts, and joins what overlaps or touches.
fn coalesce(mut ranges: Vec<Range>) -> Ranges {
    ranges.sort_unstable();
    ranges.dedup_by(|next, last| {
        let joins = next.begin <= last.end.saturating_add(1);
        if joins {
            last.end = last.end.max(next.end);
        }
        joins
    });
    Ranges::from_sorted(&ranges)
}

/// Pushes what `cuts` (sorted; none ends before `range`) leave of `range`.
fn cut_range(range: Range, cuts: &[Range], rest: &mut Vec<Range>) {
    let mut begin = range.begin;
    for cut in cuts.iter().take_while(|cut| cut.begin <= range.end) {
        if begin < cut.begin {
            rest.push(Range { begin, end: cut.begin - 1 });
        }
        match cut.end.checked_add(1) {
            Some(next) => begin = begin.max(next),
            None => return,
        }
    }
    if begin <= range.end {
        rest.push(Range { begin, end: range.end });
    }
}

impl FromIterator<Range> for Ranges {
    /// Joins what overlaps or touches; drops ranges whose begin is beyond their end.
    fn from_iter<I: IntoIterator<Item = Range>>(ranges: I) -> Self {
        coalesce(ranges.into_iter().filter(|r| r.begin <= r.end).collect())
    }
}

impl FromIterator<u64> for Ranges {
    fn from_iter<I: IntoIterator<Item = u64>>(values: I) -> Self {
        values.into_iter().map(|value| Range { begin: value, end: value }).collect()
    }
}

impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (index, range) in self.as_slice().iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{}-{}", range.begin, range.end)?;
        }
        f.write_str("]")
    }
}

/// Why a text is not a set of ranges.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RangesError {
    /// The brackets are missing.
    #[error("'{0}' is not a list of ranges; write it as [1-3,7-9]")]
    Brackets(String),
    /// An item is not `begin-end`.
    #[error("'{0}' is not a range; write it as begin-end with whole numbers")]
    Range(String),
    /// The begin is beyond the end.
    #[error("in the range '{0}' the begin is beyond the end")]
    Inverted(String),
}

impl FromStr for Ranges {
    type Err = RangesError;

    fn from_str(text: &str) -> Result<Self, RangesError> {
        let inner = text.trim().strip_prefix('[').and_then(|t| t.strip_suffix(']'));
        let inner = inner.ok_or_else(|| RangesError::Brackets(text.to_owned()))?;
        inner.split(',').map(str::trim).filter(|item| !item.is_empty()).map(parse_range).collect()
    }
}

fn parse_range(text: &str) -> Result<Range, RangesError> {
    let bad = || RangesError::Range(text.to_owned());
    let (begin, end) = text.split_once('-').ok_or_else(bad)?;
    let number = |text: &str| text.trim().parse::<u64>().map_err(|_| bad());
    let range = Range { begin: number(begin)?, end: number(end)? };
    if range.begin > range.end { Err(RangesError::Inverted(text.to_owned())) } else { Ok(range) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn ranges(text: &str) -> Ranges {
        text.parse().unwrap()
    }

    #[test]
    fn reads_joins_and_prints() {
        assert_eq!(ranges("[5-6, 1-3,4-4,10-10]").to_string(), "[1-6, 10-10]");
        assert_eq!(ranges("[31000-32000]").count(), 1001);
        assert_eq!(ranges("[]"), Ranges::default());
        for bad in ["", "1-2", "[1]", "[a-b]", "[-1-2]", "[1-2-3]", "[1.5-2]"] {
            assert!(bad.parse::<Ranges>().is_err(), "{bad}");
        }
        assert_eq!("[3-1]".parse::<Ranges>(), Err(RangesError::Inverted("3-1".into())));
    }

    #[test]
    fn the_ends_of_the_number_line() {
        let all = Ranges::of(0, u64::MAX);
        assert_eq!(all.count(), u64::MAX);
        let mut rest = all.clone();
        rest.subtract(&Ranges::of(1, u64::MAX));
        assert_eq!(rest, Ranges::of(0, 0));
        rest.add(&Ranges::of(u64::MAX, u64::MAX));
        assert_eq!(rest.as_slice().len(), 2);
        rest.add(&all);
        assert_eq!(rest, all);
        assert_eq!(all.first(u64::MAX), Ranges::of(0, u64::MAX - 1));
    }

    fn model(ranges: &[(u64, u64)]) -> (Ranges, BTreeSet<u64>) {
        let ranges = ranges.iter().map(|(begin, length)| Range { begin: *begin, end: begin + length });
        (ranges.clone().collect(), ranges.flat_map(|r| r.begin..=r.end).collect())
    }

    proptest! {
        #[test]
        fn behaves_as_a_set(a in vec((0u64..60, 0u64..8), 0..7), b in vec((0u64..60, 0u64..8), 0..7), n in 0u64..40) {
            let ((left, a), (right, b)) = (model(&a), model(&b));
            let values = |ranges: &Ranges| ranges.values().collect::<BTreeSet<_>>();
            let (mut sum, mut difference) = (left.clone(), left.clone());
            sum.add(&right);
            difference.subtract(&right);
            prop_assert_eq!(values(&sum), &a | &b);
            prop_assert_eq!(values(&difference), &a - &b);
            prop_assert_eq!(values(&left.intersection(&right)), &a & &b);
            prop_assert_eq!(left.contains_all(&right), a.is_superset(&b));
            prop_assert_eq!(left.count(), a.len() as u64);
            prop_assert_eq!(values(&left.first(n)), a.iter().copied().take(n as usize).collect::<BTreeSet<_>>());
            for value in 0..70 {
                prop_assert_eq!(left.contains(value), a.contains(&value));
            }
            for set in [&sum, &difference] {
                // Canonical: equal sets have equal ranges, and text reads back.
                prop_assert_eq!(&set.values().collect::<Ranges>(), set);
                prop_assert_eq!(set.to_string().parse::<Ranges>(), Ok(set.clone()));
            }
        }
    }
}
