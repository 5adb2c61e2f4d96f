//! Where in a container's log the agent is.

use bytes::Bytes;

/// One piece of output: a line, or a part of a long one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Nanoseconds since the Unix epoch; 0 where the log has no times.
    pub(super) time: u64,
    pub(super) text: Bytes,
}

impl Entry {
    /// Takes the time off an entry as the engine sends it.
    pub(super) fn parse(message: Bytes, terminal: bool) -> Option<Self> {
        if terminal {
            return Some(Self { time: 0, text: message });
        }
        let at = message.iter().position(|byte| *byte == b' ')?;
        let time = nanoseconds(std::str::from_utf8(message.get(..at)?).ok()?)?;
        Some(Self { time, text: message.slice(at + 1..) })
    }
}

/// Reads `2026-01-02T03:04:05.123456789Z`.
fn nanoseconds(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let mut clock = time.splitn(3, ':');
    let (hour, minute) = (clock.next()?.parse::<i64>().ok()?, clock.next()?.parse::<i64>().ok()?);
    let (second, fraction) = clock.next()?.split_once('.').unwrap_or(("0", "0"));
    let fraction = format!("{fraction:0<9}");
    let nanos: u64 = fraction.get(..9)?.parse().ok()?;
    // Days since 1970-01-01 of the Gregorian calendar, its years beginning in March.
    let years = if month <= 2 { year - 1 } else { year };
    let era = years.div_euclid(400);
    let of_era = years.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second.parse::<i64>().ok()?;
    u64::try_from(seconds).ok()?.checked_mul(1_000_000_000)?.checked_add(nanos)
}

/// Everything before it was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// Of the newest entry that was taken.
    pub(super) time: u64,
    /// Entries of that time that were taken; bytes of the whole stream where there are no times.
    pub(super) count: u64,
}

impl Place {
    /// Goes past what is new of an entry.
    pub(super) fn pass(&mut self, entry: &Entry) {
        if entry.time == 0 {
            self.count += entry.text.len() as u64;
        } else if entry.time == self.time {
            self.count += 1;
        } else {
            *self = Self { time: entry.time, count: 1 };
        }
    }

    /// Where it is when so many bytes after it were written, and what to leave out when the log is read again.
    pub(super) fn resume(self, written: u64, terminal: bool) -> (Self, Skip) {
        if terminal {
            let place = Self { count: self.count + written, ..self };
            return (place, Skip { from: Self::default(), bytes: place.count });
        }
        (self, Skip { from: self, bytes: written })
    }
}

/// Leaves out what was taken, when a log is read again from a place on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Skip {
    /// Its count: entries of this time that are still to be left out.
    from: Place,
    /// Of what comes then, so many bytes were written.
    bytes: u64,
}

impl Skip {
    /// What is still to be left out.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What is new of an entry; none: it was passed. What is new may be empty when all of it was written.
    pub(super) fn rest(&mut self, entry: Entry) -> Option<Entry> {
        if entry.time < self.from.time {
            return None;
        }
        if entry.time == self.from.time && self.from.count > 0 {
            self.from.count -= 1;
            return None;
        }
        let cut = usize::try_from(self.bytes).unwrap_or(usize::MAX).min(entry.text.len());
        self.bytes -= cut as u64;
        Some(Entry { text: entry.text.slice(cut..), ..entry })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        assert_eq!(nanoseconds("1970-01-01T00:00:00.000000001Z"), Some(1));
        assert_eq!(nanoseconds("2000-03-01T00:00:00.5Z"), Some(951_868_800_500_000_000));
        assert_eq!(nanoseconds("2026-11-20T12:34:56.123456789Z"), Some(1_795_178_096_123_456_789));
        assert_eq!(nanoseconds("1969-12-31T23:59:59.0Z"), None);
        assert_eq!(nanoseconds("yesterday"), None);
        let entry = Entry::parse(Bytes::from_static(b"1970-01-01T00:00:01.0Z a b\n"), false).unwrap();
        assert_eq!((entry.time, &entry.text[..]), (1_000_000_000, &b"a b\n"[..]));
        assert_eq!(Entry::parse(Bytes::from_static(b"no time"), false), None);
    }
}
