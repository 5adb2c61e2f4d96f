//! A view that one task writes and all requests read.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use tokio::sync::watch;

/// How far a view has come: (epoch, revision). Grows.
pub(crate) type Position = (u64, u64);

/// A view with its position; clones share it.
#[derive(Debug)]
pub(crate) struct Shared<V> {
    view: Arc<RwLock<V>>,
    /// None until the first snapshot.
    position: watch::Sender<Option<Position>>,
}

impl<V> Clone for Shared<V> {
    fn clone(&self) -> Self {
        Self { view: Arc::clone(&self.view), position: self.position.clone() }
    }
}

impl<V: Default> Default for Shared<V> {
    fn default() -> Self {
        Self { view: Arc::default(), position: watch::Sender::new(None) }
    }
}

impl<V> Shared<V> {
    /// What `read` makes of the view; none before the first snapshot.
    pub(crate) fn read<R>(&self, read: impl FnOnce(&V) -> R) -> Option<R> {
        if self.position.borrow().is_none() {
            return None;
        }
        Some(read(&self.view.read().unwrap_or_else(PoisonError::into_inner)))
    }

    /// What `read` makes of the view, even before the first snapshot.
    pub(crate) fn peek<R>(&self, read: impl FnOnce(&V) -> R) -> R {
        read(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the view, then says how far it has come.
    pub(crate) fn write(&self, position: Position, write: impl FnOnce(&mut V)) {
        write(&mut self.view.write().unwrap_or_else(PoisonError::into_inner));
        self.position.send_replace(Some(position));
    }

    /// Waits until the view contains `position`, or for `patience`. Returns whether it does.
    pub(crate) async fn wait(&self, position: Position, patience: Duration) -> bool {
        let mut positions = self.position.subscribe();
        let reached = positions.wait_for(|now| now.is_some_and(|now| now >= position));
        tokio::time::timeout(patience, reached).await.is_ok_and(|reached| reached.is_ok())
    }

    /// Waits until the view is as `wanted`, or for `patience`. Returns whether it is.
    pub(crate) async fn until(&self, wanted: impl Fn(&V) -> bool + Send, patience: Duration) -> bool
    where
        V: Send + Sync,
    {
        let mut positions = self.position.subscribe();
        let reached = async {
            while self.read(&wanted) != Some(true) {
                if positions.changed().await.is_err() {
                    return false;
                }
            }
            true
        };
        tokio::time::timeout(patience, reached).await.unwrap_or(false)
    }

    /// Waits for the first snapshot.
    pub(crate) async fn synced(&self) {
        let mut positions = self.position.subscribe();
        // The sender lives as long as `self`.
        let _ = positions.wait_for(Option::is_some).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reader_waits_for_its_revision_but_not_for_ever() {
        let shared = Shared::<u32>::default();
        assert_eq!(shared.read(|view| *view), None);
        let patience = Duration::from_secs(1);
        assert!(!shared.wait((0, 1), patience).await);
        let writer = async { shared.write((0, 2), |view| *view = 7) };
        let (reached, ()) = tokio::join!(shared.wait((0, 2), patience), writer);
        assert!(reached);
        assert_eq!(shared.read(|view| *view), Some(7));
        assert!(!shared.wait((0, 3), patience).await);
        assert!(shared.wait((0, 1), patience).await);
    }
}
