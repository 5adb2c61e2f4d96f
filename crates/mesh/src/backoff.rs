//! Delays between attempts: exponential, bounded, with jitter.

use std::time::Duration;

use crate::Rng;

/// Grows by two from `first` to `max`; each delay is drawn from its upper half, so that many clients spread.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    next: Duration,
    rng: Rng,
}

impl Backoff {
    /// Starts at `first`.
    #[must_use]
    pub fn new(rng: &Rng, first: Duration, max: Duration) -> Self {
        Self { first, max, next: first, rng: rng.clone() }
    }

    /// The next delay.
    pub fn delay(&mut self) -> Duration {
        let base = self.next;
        self.next = (base * 2).min(self.max);
        let half = u64::try_from(base.as_micros() / 2).unwrap_or(u64::MAX);
        Duration::from_micros(half + self.rng.below(half.max(1)))
    }

    /// After a success: begin small again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }

    /// Waits for the next delay.
    pub async fn wait(&mut self) {
        let delay = self.delay();
        tokio::time::sleep(delay).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_bound_and_reset() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(&Rng::seeded(7), ms(10), ms(80));
        for base in [10, 20, 40, 80, 80] {
            let delay = backoff.delay();
            assert!(delay >= ms(base) / 2 && delay <= ms(base), "{delay:?} for {base}");
        }
        backoff.reset();
        assert!(backoff.delay() <= ms(10));
    }
}
