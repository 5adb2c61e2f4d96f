//! How long things take, as Mesos's timers show it: the last time, and statistics over a window of times.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// Times in the window.
const WINDOW: usize = 1000;

/// The parts of a window that are shown.
const PERCENTILES: [(&str, f64); 6] =
    [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("p999", 0.999), ("p9999", 0.9999)];

/// A timer; clones are the same timer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timing(Arc<Mutex<VecDeque<f64>>>);

impl Timing {
    /// Something took this long.
    pub(crate) fn took(&self, time: Duration) {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if window.len() == WINDOW {
            window.pop_front();
        }
        window.push_back(time.as_secs_f64() * 1000.0);
    }

    /// The metrics `<name>_ms` and, below it, those of the window; none before the first time.
    pub(crate) fn show(&self, name: &str, metrics: &mut BTreeMap<String, f64>) {
        let mut times: Vec<f64> = {
            let window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(last) = window.back() else { return };
            metrics.insert(format!("{name}_ms"), *last);
            window.iter().copied().collect()
        };
        times.sort_by(f64::total_cmp);
        let mut put = |part: &str, value: f64| metrics.insert(format!("{name}_ms/{part}"), value);
        #[allow(clippy::cast_precision_loss, reason = "a window is small")]
        put("count", times.len() as f64);
        put("min", times.first().copied().unwrap_or_default());
        put("max", times.last().copied().unwrap_or_default());
        for (part, rank) in PERCENTILES {
            put(part, percentile(&times, rank));
        }
    }
}

/// Between the two times that stand around the rank, in proportion. The times are sorted.
fn percentile(times: &[f64], rank: f64) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "a window is small")]
    let position = rank * times.len().saturating_sub(1) as f64;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the window")]
    let below = position.floor() as usize;
    let value = |at: usize| times.get(at).or(times.last()).copied().unwrap_or_default();
    value(below) + (value(below + 1) - value(below)) * position.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_shown_as_mesos_shows_it() {
        let timing = Timing::default();
        let mut metrics = BTreeMap::new();
        timing.show("x", &mut metrics);
        assert!(metrics.is_empty());
        for ms in (1..=5).rev() {
            timing.took(Duration::from_millis(ms));
        }
        timing.show("x", &mut metrics);
        let of = |name: &str| (metrics[name] * 1000.0).round() / 1000.0;
        assert_eq!((of("x_ms"), of("x_ms/count"), of("x_ms/min"), of("x_ms/max")), (1.0, 5.0, 1.0, 5.0));
        assert_eq!((of("x_ms/p50"), of("x_ms/p90"), of("x_ms/p99")), (3.0, 4.6, 4.96));
        assert_eq!(metrics.len(), 10);
    }

    #[test]
    fn old_times_leave_the_window() {
        let timing = Timing::default();
        (0..WINDOW).for_each(|_| timing.took(Duration::from_secs(1)));
        (0..WINDOW).for_each(|_| timing.took(Duration::from_millis(1)));
        let mut metrics = BTreeMap::new();
        timing.show("x", &mut metrics);
        assert_eq!((metrics["x_ms/count"], metrics["x_ms/max"]), (1000.0, 1.0));
    }
}
