//! Points in time as the APIs write them.

use std::{fmt, str::FromStr};

const DAY_MS: i64 = 86_400_000;

/// Milliseconds since 1970-01-01T00:00:00 UTC. Printed `2026-03-01T09:05:07.012Z`, as Marathon does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// The text is no ISO 8601 time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Invalid timestamp provided '{0}'. Expecting ISO-8601 datetime string.")]
pub struct TimestampError(pub String);

impl Timestamp {
    /// From milliseconds since 1970.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// From seconds since 1970, rounded to milliseconds.
    pub fn from_seconds(seconds: f64) -> Self {
        Self((seconds * 1000.0).round() as i64)
    }

    /// Milliseconds since 1970.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Seconds since 1970, as in the JSON of Mesos.
    pub fn seconds(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// Reads an ISO 8601 time: a date, or date and time with optional seconds and fraction, and `Z`, an offset
    /// `+hh:mm` or nothing (UTC). Digits beyond milliseconds are cut off.
    pub fn parse(text: &str) -> Result<Self, TimestampError> {
        read(text).map(Self).ok_or_else(|| TimestampError(text.to_owned()))
    }
}

fn read(text: &str) -> Option<i64> {
    let (date, time) = match text.split_once('T') {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let [year, month, day] = numbers(date, '-', &[4, 2, 2])?.try_into().ok()?;
    if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
        return None;
    }
    let midnight = days_from_civil(year, month, day) * DAY_MS;
    Some(midnight + time.map_or(Some(0), read_time)?)
}

/// Milliseconds since midnight UTC.
fn read_time(text: &str) -> Option<i64> {
    let (clock, offset_minutes) = split_offset(text)?;
    let (clock, fraction) = clock.split_once(['.', ',']).map_or((clock, None), |(c, f)| (c, Some(f)));
    let widths: &[usize] = if clock.len() > 5 || fraction.is_some() { &[2, 2, 2] } else { &[2, 2] };
    let parts = numbers(clock, ':', widths)?;
    let (hour, minute, second) = (parts[0], parts[1], parts.get(2).copied().unwrap_or(0));
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let millis = fraction.map_or(Some(0), read_fraction)?;
    Some(((hour * 60 + minute - offset_minutes) * 60 + second) * 1000 + millis)
}

/// Milliseconds from the digits after the point.
fn read_fraction(digits: &str) -> Option<i64> {
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    format!("{digits:0<3}")[..3].parse().ok()
}

/// The clock's text, and the offset from UTC in minutes.
fn split_offset(text: &str) -> Option<(&str, i64)> {
    if let Some(clock) = text.strip_suffix('Z') {
        return Some((clock, 0));
    }
    let Some(at) = text.find(['+', '-']) else { return Some((text, 0)) };
    let (clock, offset) = text.split_at(at);
    let sign = if offset.starts_with('-') { -1 } else { 1 };
    let digits = offset[1..].replace(':', "");
    if digits.len() != 4 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (hours, minutes): (i64, i64) = (digits[..2].parse().ok()?, digits[2..].parse().ok()?);
    (hours <= 23 && minutes <= 59).then_some((clock, sign * (hours * 60 + minutes)))
}

/// Whole numbers of exactly these widths with the separator between.
fn numbers(text: &str, separator: char, widths: &[usize]) -> Option<Vec<i64>> {
    let parts: Vec<&str> = text.split(separator).collect();
    if parts.len() != widths.len() {
        return None;
    }
    let number = |(part, width): (&&str, &usize)| {
        let digits = part.len() == *width && part.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| part.parse().ok()).flatten()
    };
    parts.iter().zip(widths).map(number).collect()
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the Gregorian calendar. Years are counted from March, so that the leap day is the last.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Year, month and day of a number of days since 1970-01-01.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil_from_days(self.0.div_euclid(DAY_MS));
        let rest = self.0.rem_euclid(DAY_MS);
        let (hour, minute) = (rest / 3_600_000, rest / 60_000 % 60);
        let (second, milli) = (rest / 1000 % 60, rest % 1000);
        if !(0..=9999).contains(&year) {
            return write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z");
        }
        // Lists of tasks have very many: digit by digit this takes a fraction of the time.
        let mut text = *b"0000-00-00T00:00:00.000Z";
        for (end, digits, mut number) in [
            (4, 4, year),
            (7, 2, month),
            (10, 2, day),
            (13, 2, hour),
            (16, 2, minute),
            (19, 2, second),
            (23, 3, milli),
        ] {
            for digit in text[end - digits..end].iter_mut().rev() {
                *digit = b'0' + (number % 10) as u8;
                number /= 10;
            }
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, TimestampError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_times() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_431_413_263_123, "2015-05-12T06:47:43.123Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(Timestamp::from_millis(millis).to_string(), text);
            assert_eq!(Timestamp::parse(text), Ok(Timestamp(millis)));
        }
    }

    #[test]
    fn other_forms_are_read() {
        let want = Timestamp::parse("2015-05-12T06:47:43.120Z").unwrap();
        for text in
            ["2015-05-12T06:47:43.12Z", "2015-05-12T08:47:43.120+02:00", "2015-05-12T05:17:43.120999-0130"]
        {
            assert_eq!(Timestamp::parse(text), Ok(want), "{text}");
        }
        assert_eq!(Timestamp::parse("2015-05-12"), Timestamp::parse("2015-05-12T00:00Z"));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "x",
            "2015",
            "2015-13-01",
            "2015-02-29",
            "2015-00-10",
            "2015-01-01T24:00:00Z",
            "2015-01-01T",
            "2015-01-01T00:00:00.Z",
            "2015-01-01T00:00:00.000+2",
            "+2015-01-01",
            "2015-01-01T00:60Z",
            "2015-01-01T00:00:00é",
            "2015-01-01T00:00:00+é12",
        ] {
            assert_eq!(Timestamp::parse(text), Err(TimestampError(text.to_owned())));
        }
    }

    #[test]
    fn days_follow_one_another() {
        let (mut year, mut month, mut day) = (1899, 12, 31);
        for days in -25_568..60_000 {
            day += 1;
            if day > days_in_month(year, month) {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
            assert_eq!(civil_from_days(days + 1), (year, month, day));
            assert_eq!(days_from_civil(year, month, day), days + 1);
        }
    }

    proptest! {
        #[test]
        fn text_round_trips(millis in -62_167_219_200_000i64..253_402_300_800_000) {
            prop_assert_eq!(Timestamp::parse(&Timestamp(millis).to_string()), Ok(Timestamp(millis)));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,30}") {
            let _ = Timestamp::parse(&text);
        }
    }
}
