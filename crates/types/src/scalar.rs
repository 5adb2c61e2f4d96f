//! Fixed-point scalars: thousandths, as Mesos compares and adds them.

use std::{fmt, iter::Sum, str::FromStr};

/// Why a number cannot be a scalar resource.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ScalarError {
    /// NaN or an infinity.
    #[error("{0} is not a finite number")]
    NotFinite(f64),
    /// Below zero.
    #[error("{0} is negative")]
    Negative(f64),
    /// So near zero that it has lost its precision.
    #[error("{0:e} is subnormal")]
    Subnormal(f64),
    /// Beyond what thousandths in 64 bits can hold.
    #[error("{0:e} is too large")]
    TooLarge(f64),
    /// Not a decimal number.
    #[error("'{0}' is not a number")]
    NotANumber(String),
}

/// A quantity in thousandths of its unit (cores, MB, devices), so that sums are exact: 0.1 + 0.2 is 0.3.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Milli(pub i64);

impl Milli {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// One whole unit.
    pub const ONE: Self = Self(1000);

    /// `units` whole units.
    pub const fn whole(units: i64) -> Self {
        Self(units.saturating_mul(1000))
    }

    /// Rounds to thousandths, half away from zero. Refuses what no resource can be: negative, NaN, infinite,
    /// subnormal, too large.
    pub fn from_f64(value: f64) -> Result<Self, ScalarError> {
        if !value.is_finite() {
            return Err(ScalarError::NotFinite(value));
        }
        if value < 0.0 {
            return Err(ScalarError::Negative(value));
        }
        if value.is_subnormal() {
            return Err(ScalarError::Subnormal(value));
        }
        let milli = (value * 1000.0).round();
        // The largest i64 is not an f64; the comparison is with the power of two above it.
        if milli >= i64::MAX as f64 { Err(ScalarError::TooLarge(value)) } else { Ok(Self(milli as i64)) }
    }

    /// Rounds to thousandths, half away from zero; clamps what does not fit, and takes NaN for nothing.
    pub fn round(value: f64) -> Self {
        Self((value * 1000.0).round() as i64)
    }

    /// The quantity in units.
    pub fn to_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// Whether this is a whole number of units.
    pub const fn is_whole(self) -> bool {
        self.0 % 1000 == 0
    }

    /// Whether this is nothing.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The sum, if it fits.
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// The difference, if it is not negative.
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(difference) if difference >= 0 => Some(Self(difference)),
            _ => None,
        }
    }

    /// The sum, or the largest quantity.
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, or nothing where `other` is more.
    pub const fn saturating_sub(self, other: Self) -> Self {
        let difference = self.0.saturating_sub(other.0);
        Self(if difference < 0 { 0 } else { difference })
    }

    /// This many times as much, or the largest quantity.
    pub const fn saturating_mul(self, times: i64) -> Self {
        Self(self.0.saturating_mul(times))
    }
}

impl Sum for Milli {
    fn sum<I: Iterator<Item = Self>>(values: I) -> Self {
        values.fold(Self::ZERO, Self::saturating_add)
    }
}

impl fmt::Display for Milli {
    /// As few digits as needed: `1`, `0.5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (units, milli) = (self.0.unsigned_abs() / 1000, self.0.unsigned_abs() % 1000);
        let sign = if self.0 < 0 { "-" } else { "" };
        if milli == 0 {
            return f.pad(&format!("{sign}{units}"));
        }
        f.pad(format!("{sign}{units}.{milli:03}").trim_end_matches('0'))
    }
}

impl FromStr for Milli {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, ScalarError> {
        Self::from_f64(parse_number(text).ok_or_else(|| ScalarError::NotANumber(text.to_owned()))?)
    }
}

/// Reads a decimal number; unlike Rust's own parser, not `inf` or `nan`, which are words in an attribute.
pub(crate) fn parse_number(text: &str) -> Option<f64> {
    let numeric = |b: u8| b.is_ascii_digit() || matches!(b, b'.' | b'+' | b'-' | b'e' | b'E');
    if !text.bytes().all(numeric) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rounds_half_away_from_zero() {
        for (value, milli) in
            [(0.1, 100), (0.0005, 1), (0.0004, 0), (1.2345, 1235), (1.0e9, 1_000_000_000_000)]
        {
            assert_eq!(Milli::from_f64(value), Ok(Milli(milli)), "{value}");
        }
        assert_eq!(Milli::round(-0.0005), Milli(-1));
        assert_eq!(Milli(100).saturating_add(Milli(200)).to_f64(), 0.3);
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for value in [
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            -1.0,
            -0.0001,
            f64::MIN_POSITIVE / 2.0,
            1e16,
            f64::MAX,
        ] {
            assert!(Milli::from_f64(value).is_err(), "{value}");
        }
        for text in ["", "inf", "nan", "0x10", "1,5", "1 ", "--1", "e"] {
            assert!(text.parse::<Milli>().is_err(), "{text:?}");
        }
        assert_eq!("1e3".parse(), Ok(Milli(1_000_000)));
    }

    #[test]
    fn prints_few_digits() {
        for (milli, text) in
            [(0, "0"), (1000, "1"), (500, "0.5"), (1234, "1.234"), (50, "0.05"), (-1500, "-1.5")]
        {
            assert_eq!(Milli(milli).to_string(), text);
        }
        assert_eq!(Milli(i64::MIN).to_string(), "-9223372036854775.808");
    }

    proptest! {
        #[test]
        fn arithmetic_is_that_of_wide_integers(a in any::<i64>(), b in any::<i64>()) {
            let (wide_a, wide_b) = (i128::from(a), i128::from(b));
            let clamp = |v: i128| v.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64;
            prop_assert_eq!(Milli(a).saturating_add(Milli(b)).0, clamp(wide_a + wide_b));
            prop_assert_eq!(Milli(a).saturating_sub(Milli(b)).0, clamp(wide_a - wide_b).max(0));
            prop_assert_eq!(Milli(a).checked_add(Milli(b)).map(|m| m.0), i64::try_from(wide_a + wide_b).ok());
            let difference = i64::try_from(wide_a - wide_b).ok().filter(|d| *d >= 0);
            prop_assert_eq!(Milli(a).checked_sub(Milli(b)).map(|m| m.0), difference);
        }

        #[test]
        fn text_and_float_round_trip(milli in 0i64..1 << 50) {
            prop_assert_eq!(Milli::from_f64(Milli(milli).to_f64()), Ok(Milli(milli)));
            prop_assert_eq!(Milli(milli).to_string().parse(), Ok(Milli(milli)));
        }
    }
}
