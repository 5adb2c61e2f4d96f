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

pub(crate) fn mebibytes(bytes: u64) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "shown with one decimal")]
    let bytes = bytes as f64;
    bytes / (1024.0 * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_by_nearest_rank() {
        let mut samples: Vec<_> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(percentile(&mut samples, 50.0), Duration::from_millis(50));
        assert_eq!(percentile(&mut samples, 99.0), Duration::from_millis(99));
        assert_eq!(percentile(&mut [], 50.0), Duration::ZERO);
    }
}
