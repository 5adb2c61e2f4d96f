//! Percentiles and units.

use std::time::Duration;

/// The `p`-th percentile by nearest rank; zero for no samples.
pub(crate) fn percentile(samples: &mut [Duration], p: f64) -> Duration {
    samples.sort();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let rank = ((p / 100.0 * samples.len() as f64).ceil() as usize).max(1);
    samples.get(rank - 1).copied().unwrap_or_default()
}

/// `| name | p50 …, p99 …, max … |`
pub(crate) fn row(name: &str, samples: &mut [Duration]) -> String {
    let ms = |duration: Duration| duration.as_secs_f64() * 1000.0;
    let (p50, p99, max) = (percentile(samples, 50.0), percentile(samples, 99.0), percentile(samples, 100.0));
    format!(
        "| {name} | p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms ({}) |",
        ms(p50),
        ms(p99),
        ms(max),
        samples.len()
    )
}

/// Durations, of which every n-th is kept when there are very many.
#[derive(Clone, Debug)]
pub(crate) struct Samples {
    kept: Vec<Duration>,
    every: usize,
    seen: usize,
}

impl Default for Samples {
    fn default() -> Self {
        Self { kept: Vec::new(), every: 1, seen: 0 }
    }
}

impl Samples {
    /// Kept ones: 16 MiB.
    const MOST: usize = 1 << 20;

    pub(crate) fn add(&mut self, sample: Duration) {
        if self.seen.is_multiple_of(self.every) {
            self.kept.push(sample);
        }
        self.seen += 1;
        if self.kept.len() == Self::MOST {
            let mut odd = false;
            self.kept.retain(|_| {
                odd = !odd;
                odd
            });
            self.every *= 2;
        }
    }

    /// As [`row`]; the number is of all.
    pub(crate) fn row(mut self, name: &str) -> String {
        let seen = self.seen;
        let text = row(name, &mut self.kept);
        let text = text.rsplit_once(" (").map_or(text.as_str(), |(start, _)| start);
        format!("{text} ({seen}) |")
    }
}

pub(crate) fn mebibytes(bytes: u64) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "shown with one decimal")]
    let bytes = bytes as f64;
    bytes / (1024.0 * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn very_many_samples_take_no_more_room() {
        let mut samples = Samples::default();
        for number in 0..3 * Samples::MOST as u64 {
            samples.add(Duration::from_micros(number % 1000));
        }
        assert!(samples.kept.len() < Samples::MOST);
        assert!(samples.row("x").contains(&format!("({})", 3 * Samples::MOST)));
    }

    #[test]
    fn percentiles_by_nearest_rank() {
        let mut samples: Vec<_> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(percentile(&mut samples, 50.0), Duration::from_millis(50));
        assert_eq!(percentile(&mut samples, 99.0), Duration::from_millis(99));
        assert_eq!(percentile(&mut [], 50.0), Duration::ZERO);
    }
}
