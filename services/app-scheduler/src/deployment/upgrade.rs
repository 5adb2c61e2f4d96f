//! The arithmetic of a rolling restart (Marathon's RestartApplication).
//!
//! It is written as a function of what is there now, not of what was done before, so that a restart resumes by
//! itself after a change of leader. The course is that of the original: old instances beyond the minimum of healthy
//! ones go at once, new ones start as far as the capacity allows (an old one that is still dying takes its place),
//! and each new one that is ready lets one old one go. Old instances that are not ready go first and at once: they
//! are no part of the healthy minimum.
//!
//! One case has no solution by the letter: no spare capacity, and every instance must stay healthy. Then one extra
//! instance is allowed.

/// What an upgrade strategy means for `n` instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub min_healthy: usize,
    pub max_capacity: usize,
}

impl Limits {
    /// `minimum` and `over` are the strategy's `minimumHealthCapacity` and `maximumOverCapacity`.
    pub fn new(n: usize, minimum: f64, over: f64) -> Self {
        let min_healthy = (n as f64 * minimum).ceil() as usize;
        let max_capacity = (n as f64 * (1.0 + over)).floor() as usize;
        Self {
            min_healthy,
            max_capacity: if min_healthy >= max_capacity { min_healthy + 1 } else { max_capacity },
        }
    }
}

/// Instances of one app, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Old ones that are to run, and are running and healthy.
    pub old_ready: usize,
    /// Old ones that are to run, and are not ready.
    pub old_unready: usize,
    /// New ones that are to run, and are ready.
    pub new_ready: usize,
    /// New ones that are to run, and are not ready yet.
    pub new_unready: usize,
    /// Told to end and not ended yet, old or new.
    pub dying: usize,
}

/// What to do now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moves {
    /// End all old ones that are not ready.
    pub kill_unready_old: usize,
    /// End this many old ones that are ready.
    pub kill_ready_old: usize,
    /// End this many surplus new ones.
    pub kill_new: usize,
    pub start: usize,
    pub done: bool,
}

/// The next moves of a restart to `n` new instances.
pub fn next(n: usize, limits: Limits, counts: Counts) -> Moves {
    let new = counts.new_ready + counts.new_unready;
    let healthy = counts.old_ready + counts.new_ready;
    let kill_ready_old = healthy.saturating_sub(limits.min_healthy).min(counts.old_ready);
    // What is told to end now still takes its place.
    let alive = counts.old_ready + counts.old_unready + new + counts.dying;
    let start = n.saturating_sub(new).min(limits.max_capacity.saturating_sub(alive));
    let old = counts.old_ready + counts.old_unready;
    Moves {
        kill_unready_old: counts.old_unready,
        kill_ready_old,
        kill_new: new.saturating_sub(n),
        start,
        done: old == 0 && counts.dying == 0 && new == n && counts.new_ready == n,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn first(n: usize, min: f64, over: f64) -> (Limits, Moves) {
        let limits = Limits::new(n, min, over);
        (limits, next(n, limits, Counts { old_ready: n, ..Counts::default() }))
    }

    #[test]
    fn the_table_of_the_original() {
        // n, min, over, minHealthy, maxCapacity, killed at once, started at once
        for (n, min, over, healthy, capacity, kill, start) in [
            (1, 1.0, 1.0, 1, 2, 0, 1),
            (4, 1.0, 1.0, 4, 8, 0, 4),
            (4, 0.5, 1.0, 2, 8, 2, 4),
            (4, 1.0, 0.0, 4, 5, 0, 1),
            (4, 0.5, 0.0, 2, 4, 2, 0),
            (4, 0.0, 0.0, 0, 4, 4, 0),
            (3, 0.5, 0.2, 2, 3, 1, 0),
        ] {
            let (limits, moves) = first(n, min, over);
            assert_eq!((limits.min_healthy, limits.max_capacity), (healthy, capacity), "{n} {min} {over}");
            assert_eq!((moves.kill_ready_old, moves.start), (kill, start), "{n} {min} {over}");
        }
    }

    #[test]
    fn each_new_ready_one_lets_one_old_one_go() {
        let limits = Limits::new(4, 1.0, 1.0);
        let counts = Counts { old_ready: 4, new_ready: 1, new_unready: 3, ..Counts::default() };
        assert_eq!(next(4, limits, counts), Moves { kill_ready_old: 1, ..Moves::default() });
    }

    #[test]
    fn unready_old_ones_go_at_once_and_surplus_new_ones_too() {
        let counts = Counts { old_unready: 2, new_unready: 3, ..Counts::default() };
        let moves = next(2, Limits::new(2, 1.0, 1.0), counts);
        assert_eq!((moves.kill_unready_old, moves.kill_new, moves.start), (2, 1, 0));
    }

    /// Plays a restart: every step one random thing happens to one instance.
    fn play(n: usize, old: usize, strategy: (f64, f64), choices: &[u8]) -> (Counts, bool) {
        let limits = Limits::new(n, strategy.0, strategy.1);
        let mut c = Counts { old_ready: old, ..Counts::default() };
        let most = limits.max_capacity.max(old);
        let least = limits.min_healthy.min(old);
        for choice in choices.iter().copied().chain((0..200).map(|i| i % 2)) {
            let moves = next(n, limits, c);
            if moves.done {
                return (c, true);
            }
            c.dying += moves.kill_unready_old + moves.kill_ready_old + moves.kill_new;
            c.old_unready -= moves.kill_unready_old;
            c.old_ready -= moves.kill_ready_old;
            c.new_unready = c.new_unready + moves.start - moves.kill_new.min(c.new_unready);
            assert!(c.old_ready + c.new_ready >= least, "{c:?} {limits:?}");
            let alive = c.old_ready + c.old_unready + c.new_ready + c.new_unready + c.dying;
            assert!(alive <= most, "{c:?} {limits:?}");
            match choice % 2 {
                0 if c.new_unready > 0 => (c.new_unready, c.new_ready) = (c.new_unready - 1, c.new_ready + 1),
                1 if c.dying > 0 => c.dying -= 1,
                _ => {}
            }
        }
        (c, next(n, limits, c).done)
    }

    proptest! {
        #[test]
        fn every_restart_ends_within_its_bounds(
            n in 1usize..12, old in 0usize..12, min in 0.0f64..=1.0, over in 0.0f64..=1.0,
            choices in prop::collection::vec(0u8..4, 0..60),
        ) {
            let (counts, done) = play(n, old, (min, over), &choices);
            prop_assert!(done, "{:?}", counts);
        }
    }
}
