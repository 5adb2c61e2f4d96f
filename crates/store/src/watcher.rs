//! What a watch hands to its reader.

use std::fmt;

use futures::StreamExt;
use futures::stream::BoxStream;

use crate::error::{Error, Result};
use crate::model::WatchBatch;

/// The changes under a prefix, in order and without a gap.
///
/// After an error it has ended and has to be opened again.
pub struct Watcher {
    prefix: String,
    changes: BoxStream<'static, Result<WatchBatch>>,
}

impl Watcher {
    /// A watch whose changes come from `changes`: for stores that stand in front of another one.
    pub fn new(prefix: String, changes: BoxStream<'static, Result<WatchBatch>>) -> Self {
        Self { prefix, changes }
    }

    /// The next changes. No change is lost when the returned future is dropped.
    pub async fn next(&mut self) -> Result<WatchBatch> {
        match self.changes.next().await {
            Some(batch) => batch,
            None => Err(Error::Disconnected {
                prefix: self.prefix.clone(),
                why: "the watch has ended".to_owned(),
            }),
        }
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}
