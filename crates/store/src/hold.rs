//! Keeping a lease alive, for as long as it is needed.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, interval, sleep_until, timeout};

use crate::error::{Error, Result};

/// Asks again and again that a lease of this time to live lasts; returns why once it is lost, or may be. An ask does
/// not wait for the one before it: on a busy machine answers are late, and a late one counts from when it was asked for.
pub(crate) async fn hold<F>(keep_alive: impl Fn() -> F, ttl: Duration) -> Error
where
    F: Future<Output = Result<()>>,
{
    let mut ticks = interval(ttl / 4);
    let mut kept = Instant::now();
    let mut tries = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            Some((asked, answer)) = tries.next() => match answer {
                Ok(Ok(())) => kept = kept.max(asked),
                Ok(Err(error)) if !Error::retryable(&error) => return error,
                Ok(Err(_)) | Err(_) => {}
            },
            () = sleep_until(kept + ttl) => return silent(ttl),
            _ = ticks.tick() => {
                let (asked, ask) = (Instant::now(), keep_alive());
                tries.push(async move { (asked, timeout(ttl, ask).await) });
            }
        }
    }
}

/// Nothing was heard for as long as a lease lasts.
pub(crate) fn silent(ttl: Duration) -> Error {
    Error::DeadlineExceeded { call: "keep_alive", after: ttl }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const TTL: Duration = Duration::from_secs(2);

    fn away() -> Error {
        Error::Unavailable { call: "keep_alive", why: "away".to_owned(), outcome_unknown: false }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_lost_after_its_time_without_an_answer_and_not_before() {
        let (began, answers) = (Instant::now(), Cell::new(5));
        let keep_alive = || {
            let answers_left = answers.get();
            answers.set(answers_left - 1);
            async move { if answers_left > 0 { Ok(()) } else { Err(away()) } }
        };
        assert!(hold(keep_alive, TTL).await.retryable());
        // Five asks, the last after four quarters.
        assert_eq!(began.elapsed(), TTL * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn late_answers_count_from_when_they_were_asked_for() {
        let (began, asked) = (Instant::now(), Cell::new(0));
        let keep_alive = || {
            asked.set(asked.get() + 1);
            let patience = if asked.get() <= 8 { TTL * 3 / 4 } else { TTL * 2 };
            async move {
                tokio::time::sleep(patience).await;
                Ok(())
            }
        };
        hold(keep_alive, TTL).await;
        assert_eq!(
            began.elapsed(),
            TTL / 4 * 7 + TTL,
            "the eighth ask was the last that was answered in time"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_is_not_there_is_lost_at_once() {
        let began = Instant::now();
        let lost = Error::LeaseNotFound(crate::LeaseId(1));
        assert_eq!(hold(|| async { Err(lost.clone()) }, TTL).await, lost);
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
