//! The launch delay of an app whose tasks keep ending (Marathon's rate limiter).

/// An app's settings, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BackoffPolicy {
    pub first_ms: u64,
    pub factor: f64,
    pub max_ms: u64,
}

/// The delay at the moment. It grows with each failure, never shrinks, and is forgotten after a quiet time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Backoff {
    /// Current delay; none before the first failure.
    delay_ms: Option<f64>,
    until_ms: u64,
    /// When it was last heard of.
    touched_ms: u64,
}

impl Backoff {
    /// A task ended: the delay begins or grows, and the next launch waits for it from now on.
    pub fn failed(&mut self, policy: BackoffPolicy, now_ms: u64) {
        self.forget(policy, now_ms);
        let max = policy.max_ms as f64;
        let delay = self.delay_ms.map_or(policy.first_ms as f64, |delay| delay * policy.factor).min(max);
        self.delay_ms = Some(delay);
        self.touch(now_ms);
    }

    /// A task came up: the next launch waits for the same delay from now on.
    pub fn advanced(&mut self, policy: BackoffPolicy, now_ms: u64) {
        self.forget(policy, now_ms);
        if self.delay_ms.is_some() {
            self.touch(now_ms);
        }
    }

    /// No delay any more.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Unix time in milliseconds at which the delay ends; none when nothing waits for it.
    pub fn until(&self, now_ms: u64) -> Option<u64> {
        (self.delay_ms.is_some() && self.until_ms > now_ms).then_some(self.until_ms)
    }

    fn touch(&mut self, now_ms: u64) {
        self.touched_ms = now_ms;
        // The cast saturates, so a delay without a bound stays one.
        self.until_ms = now_ms.saturating_add(self.delay_ms.unwrap_or(0.0).round() as u64);
    }

    fn forget(&mut self, policy: BackoffPolicy, now_ms: u64) {
        if self.delay_ms.is_some() && now_ms > self.touched_ms.saturating_add(policy.max_ms) {
            self.reset();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: BackoffPolicy = BackoffPolicy { first_ms: 1000, factor: 1.15, max_ms: 300_000 };

    #[test]
    fn marathon_c66_delays_grow_by_the_factor_up_to_the_maximum() {
        let mut backoff = Backoff::default();
        let mut delays = Vec::new();
        let mut now = 0;
        for _ in 0..50 {
            backoff.failed(DEFAULT, now);
            let until = backoff.until(now).unwrap();
            delays.push(until - now);
            now = until;
        }
        assert_eq!(delays[..6], [1000, 1150, 1323, 1521, 1749, 2011]);
        assert!(delays[40] < 300_000 && delays[41] == 300_000, "{delays:?}");
    }

    #[test]
    fn a_success_keeps_the_delay_and_quiet_forgets_it() {
        let mut backoff = Backoff::default();
        backoff.advanced(DEFAULT, 10);
        assert_eq!(backoff.until(10), None);
        backoff.failed(DEFAULT, 10);
        backoff.advanced(DEFAULT, 500);
        assert_eq!(backoff.until(500), Some(1500));
        backoff.failed(DEFAULT, 500 + 300_001);
        assert_eq!(backoff.until(300_501), Some(301_501));
        backoff.reset();
        assert_eq!(backoff.until(300_501), None);
    }

    #[test]
    fn delays_without_a_bound_do_not_overflow() {
        let policy = BackoffPolicy { first_ms: u64::MAX, factor: f64::MAX, max_ms: u64::MAX };
        let mut backoff = Backoff::default();
        for now in [10, 20] {
            backoff.failed(policy, now);
            backoff.advanced(policy, now);
            assert_eq!(backoff.until(now), Some(u64::MAX));
        }
    }

    #[test]
    fn the_first_delay_is_capped_too() {
        let mut backoff = Backoff::default();
        backoff.failed(BackoffPolicy { first_ms: 5000, factor: 2.0, max_ms: 100 }, 0);
        assert_eq!(backoff.until(0), Some(100));
    }
}
