//! A view that one task writes and all requests read.

use std::{
    sync::{
        Arc, Mutex, PoisonError, RwLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;

/// How far a view has come: (epoch, revision). Grows while one leader leads, and with the leader.
pub(crate) type Position = (u64, u64);

/// A view with its position; clones share it.
#[derive(Debug)]
pub(crate) struct Shared<V> {
    view: Arc<RwLock<V>>,
    /// None until the first snapshot.
    position: watch::Sender<Option<Position>>,
    /// How often it was changed.
    changes: Arc<AtomicU64>,
    /// The newest copy and which change it shows, while somebody uses it.
    picture: Arc<Mutex<(u64, Weak<V>)>>,
}

impl<V> Clone for Shared<V> {
    fn clone(&self) -> Self {
        Self {
            view: Arc::clone(&self.view),
            position: self.position.clone(),
            changes: Arc::clone(&self.changes),
            picture: Arc::clone(&self.picture),
        }
    }
}

impl<V: Default> Default for Shared<V> {
    fn default() -> Self {
        Self {
            view: Arc::default(),
            position: watch::Sender::new(None),
            changes: Arc::default(),
            picture: Arc::default(),
        }
    }
}

impl<V: Clone> Shared<V> {
    /// A copy of the view, to be rendered while the view goes on; readers at one position share it. None before the
    /// first snapshot.
    pub(crate) fn picture(&self) -> Option<Arc<V>> {
        let mut kept = self.picture.lock().unwrap_or_else(PoisonError::into_inner);
        let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
        let change = self.changes()?;
        if let Some(picture) = kept.1.upgrade().filter(|_| kept.0 == change) {
            return Some(picture);
        }
        let picture = Arc::new(view.clone());
        *kept = (change, Arc::downgrade(&picture));
        Some(picture)
    }
}

impl<V> Shared<V> {
    /// How often the view has changed; none before the first snapshot.
    pub(crate) fn changes(&self) -> Option<u64> {
        self.position.borrow().map(|_| self.changes.load(Ordering::Acquire))
    }

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
    pub(crate) fn write<R>(&self, position: Position, write: impl FnOnce(&mut V) -> R) -> R {
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        let result = write(&mut view);
        self.changes.fetch_add(1, Ordering::Release);
        drop(view);
        self.position.send_replace(Some(position));
        result
    }

    /// Waits until the view contains `position`, or for `patience`. Returns whether it does.
    pub(crate) async fn wait(&self, position: Position, patience: Duration) -> bool {
        let mut positions = self.position.subscribe();
        let reached = positions.wait_for(|now| now.is_some_and(|now| now >= position));
        tokio::time::timeout(patience, reached).await.is_ok_and(|reached| reached.is_ok())
    }

    /// Waits until `wanted` holds of the view, or for `patience`. Returns whether it does.
    pub(crate) async fn wait_until(&self, wanted: impl Fn(&V) -> bool, patience: Duration) -> bool {
        let mut positions = self.position.subscribe();
        let reached = async {
            while !self.read(&wanted).unwrap_or_default() {
                // The sender lives as long as `self`.
                let _ = positions.changed().await;
            }
        };
        tokio::time::timeout(patience, reached).await.is_ok()
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
        assert!(!shared.wait_until(|view| *view == 8, patience).await);
        let writer = async { shared.write((0, 3), |view| *view = 8) };
        let (reached, ()) = tokio::join!(shared.wait_until(|view| *view == 8, patience), writer);
        assert!(reached);
    }

    #[test]
    fn readers_at_one_position_share_a_picture_that_stays_as_it_is() {
        let shared = Shared::<Vec<u32>>::default();
        assert_eq!(shared.picture(), None);
        shared.write((0, 1), |view| view.push(1));
        let first = shared.picture().unwrap();
        assert!(Arc::ptr_eq(&first, &shared.picture().unwrap()));
        shared.write((0, 2), |view| view.push(2));
        assert_eq!((&*first, &*shared.picture().unwrap()), (&vec![1], &vec![1, 2]));
    }
}
