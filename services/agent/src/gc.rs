//! Sandboxes of the past: which may go, and when (Mesos 10.7).

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

/// How old a sandbox may become: less, the fuller the disk. `usage` and `headroom` are parts of the whole disk.
#[must_use]
pub fn allowed_age(delay: Duration, headroom: f64, usage: f64) -> Duration {
    let part = (1.0 - headroom - usage).clamp(0.0, 1.0);
    delay.mul_f64(if part.is_finite() { part } else { 0.0 })
}

/// Sandboxes of ended containers by their age. Ages are measured on a clock that never goes back, so that a jump of
/// the machine's clock removes nothing early.
#[derive(Debug, Default)]
pub struct Gc {
    /// When they ended, in milliseconds on that clock; before its beginning: negative.
    ended: BTreeSet<(i64, PathBuf)>,
    by_path: BTreeMap<PathBuf, i64>,
}

impl Gc {
    /// Takes in a sandbox that has been over for `age` at `now`; of one that comes twice the later end holds.
    pub fn add(&mut self, sandbox: PathBuf, age: Duration, now: Duration) {
        let mut ended = millis(now).saturating_sub(millis(age));
        if let Some(known) = self.by_path.get(&sandbox) {
            self.ended.remove(&(*known, sandbox.clone()));
            ended = ended.max(*known);
        }
        self.by_path.insert(sandbox.clone(), ended);
        self.ended.insert((ended, sandbox));
    }

    /// Takes out what is older than allowed.
    pub fn due(&mut self, allowed: Duration, now: Duration) -> Vec<PathBuf> {
        let newest = millis(now).saturating_sub(millis(allowed));
        let kept = self.ended.split_off(&(newest.saturating_add(1), PathBuf::new()));
        let due = std::mem::replace(&mut self.ended, kept).into_iter().map(|(_, sandbox)| sandbox);
        let due: Vec<_> = due.collect();
        for sandbox in &due {
            self.by_path.remove(sandbox);
        }
        due
    }

    /// How many are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ended.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ended.is_empty()
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_fuller_the_disk_the_sooner_they_go() {
        let week = Duration::from_secs(604_800);
        let age = |usage| allowed_age(week, 0.1, usage).as_secs();
        assert_eq!((age(0.0), age(0.4), age(0.9), age(1.0)), (544_320, 302_400, 0, 0));
        assert_eq!(allowed_age(week, f64::NAN, 0.5), Duration::ZERO);
    }

    #[test]
    fn of_one_that_comes_twice_the_later_end_holds() {
        let seconds = Duration::from_secs;
        let mut gc = Gc::default();
        for age in [9, 1, 5] {
            gc.add(PathBuf::from("a"), seconds(age), seconds(10));
        }
        assert_eq!(gc.len(), 1);
        assert!(gc.due(seconds(3), seconds(11)).is_empty());
        assert_eq!(gc.due(seconds(3), seconds(12)), [PathBuf::from("a")]);
        assert!(gc.is_empty() && gc.by_path.is_empty());
    }

    proptest! {
        #[test]
        fn what_is_old_enough_goes_and_nothing_else(
            ages in prop::collection::vec(0_u64..100, 0..20), later in 0_u64..50, allowed in 0_u64..120,
        ) {
            let seconds = Duration::from_secs;
            let (mut gc, start) = (Gc::default(), seconds(10));
            for (number, age) in ages.iter().enumerate() {
                gc.add(PathBuf::from(number.to_string()), seconds(*age), start);
            }
            let mut gone: Vec<_> = gc.due(seconds(allowed), start + seconds(later)).into_iter().collect();
            gone.sort();
            let old = ages.iter().enumerate().filter(|(_, age)| **age + later >= allowed);
            let mut wanted: Vec<_> = old.map(|(number, _)| PathBuf::from(number.to_string())).collect();
            wanted.sort();
            prop_assert_eq!(gc.len(), ages.len() - gone.len());
            prop_assert_eq!(gone, wanted);
        }
    }
}
