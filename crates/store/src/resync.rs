//! A watch that repairs itself.

use std::fmt;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::time::sleep;

use crate::SharedStore;
use crate::error::{Error, Result};
use crate::model::{Listing, Revision, WatchBatch};
use crate::watcher::Watcher;

const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// What a reader of [`watch_resync`] gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// Everything under the prefix: replaces all that the reader knows. Always the first update; comes again
    /// only when the history in between is no longer kept or the reader was too slow.
    Resync(Listing),
    /// Changes that follow what came before without a gap.
    Batch(WatchBatch),
}

/// The updates of [`watch_resync`].
pub struct WatchResync {
    prefix: String,
    updates: BoxStream<'static, Result<Update>>,
}

/// Follows all keys under `prefix`: a listing, then changes. Goes on after disconnects, compaction and an
/// unavailable store, with jittered backoff; `seed` feeds the jitter.
pub fn watch_resync(store: SharedStore, prefix: impl Into<String>, seed: u64) -> WatchResync {
    let prefix = prefix.into();
    let follower = Follower {
        store,
        prefix: prefix.clone(),
        rng: SmallRng::seed_from_u64(seed),
        backoff: FIRST_BACKOFF,
        position: Position::Lost,
    };
    let updates = stream::unfold(Some(follower), |follower| async move {
        let mut follower = follower?;
        match follower.next().await {
            Ok(update) => Some((Ok(update), Some(follower))),
            Err(error) => Some((Err(error), None)),
        }
    });
    WatchResync { prefix, updates: updates.boxed() }
}

impl WatchResync {
    /// The next update; waits while the store is away. Fails only for good: the prefix is refused or the store
    /// was closed. Nothing is lost or started over when the returned future is dropped.
    pub async fn next(&mut self) -> Result<Update> {
        self.updates.next().await.unwrap_or(Err(Error::Closed { what: "the watch" }))
    }
}

impl fmt::Debug for WatchResync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchResync").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

struct Follower {
    store: SharedStore,
    prefix: String,
    rng: SmallRng,
    backoff: Duration,
    position: Position,
}

enum Position {
    /// Has to list.
    Lost,
    /// Has everything before this revision and no watch.
    At(Revision),
    Following(Watcher, Revision),
}

impl Follower {
    async fn next(&mut self) -> Result<Update> {
        loop {
            match self.step().await {
                Ok(Some(update)) => {
                    self.backoff = FIRST_BACKOFF;
                    return Ok(update);
                }
                Ok(None) => {}
                Err(error) if error.retryable() => self.recover(error).await,
                Err(error) => return Err(error),
            }
        }
    }

    async fn step(&mut self) -> Result<Option<Update>> {
        match &mut self.position {
            Position::Lost => {
                let listing = self.store.list(&self.prefix).await?;
                self.position = Position::At(listing.revision + 1);
                Ok(Some(Update::Resync(listing)))
            }
            Position::At(from) => {
                let watcher = self.store.watch(&self.prefix, *from).await?;
                self.position = Position::Following(watcher, *from);
                Ok(None)
            }
            Position::Following(watcher, from) => {
                let batch = watcher.next().await?;
                *from = batch.revision + 1;
                Ok(Some(Update::Batch(batch)))
            }
        }
    }

    async fn recover(&mut self, error: Error) {
        self.position = match (&error, &self.position) {
            (Error::Compacted { .. } | Error::Lagged { .. }, _) | (_, Position::Lost) => Position::Lost,
            (_, Position::At(from) | Position::Following(_, from)) => Position::At(*from),
        };
        let wait = self.backoff.mul_f64(self.rng.random_range(0.5..1.0));
        self.backoff = (self.backoff * 2).min(MAX_BACKOFF);
        tracing::warn!(prefix = %self.prefix, %error, ?wait, "store watch broke");
        sleep(wait).await;
    }
}
