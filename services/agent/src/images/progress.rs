//! How far a pull got, for whoever waits for it.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

/// What has come of an image, and what is to come.
#[derive(Debug, Default)]
pub(super) struct Progress {
    received: AtomicU64,
    total: AtomicU64,
    layers: AtomicU64,
}

impl Progress {
    /// As many layers are to come, of as many bytes.
    pub(super) fn begin(&self, layers: u64, total: u64) {
        self.received.store(0, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
        self.layers.store(layers, Ordering::Relaxed);
    }

    pub(super) fn add(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let megabytes = |bytes: &AtomicU64| bytes.load(Ordering::Relaxed) / (1024 * 1024);
        let total = megabytes(&self.total);
        // What broke off and came again counts twice.
        let received = megabytes(&self.received).min(total);
        write!(formatter, "{received} of {total} MB in {} layers", self.layers.load(Ordering::Relaxed))
    }
}

/// The pulls under way.
#[derive(Debug)]
pub(super) struct Pulls<K>(Mutex<BTreeMap<K, Weak<Progress>>>);

impl<K> Default for Pulls<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Ord> Pulls<K> {
    /// Of a pull that begins, or that goes on; known while somebody has it.
    pub(super) fn of(&self, key: K) -> Arc<Progress> {
        let mut pulls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = pulls.get(&key).and_then(Weak::upgrade) {
            return known;
        }
        pulls.retain(|_, progress| progress.strong_count() > 0);
        let made = Arc::default();
        pulls.insert(key, Arc::downgrade(&made));
        made
    }

    /// Of one that is under way.
    pub(super) fn find(&self, key: &K) -> Option<Arc<Progress>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key)?.upgrade()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_one_pull_sees_the_same() {
        let pulls = Pulls::default();
        assert!(pulls.find(&1).is_none());
        let ours = pulls.of(1);
        ours.begin(2, 10 << 20);
        pulls.of(1).add(3 << 20);
        assert_eq!(pulls.find(&1).unwrap().to_string(), "3 of 10 MB in 2 layers");
        ours.add(30 << 20);
        assert_eq!(ours.to_string(), "10 of 10 MB in 2 layers");
        drop(ours);
        assert!(pulls.find(&1).is_none(), "nobody waits for it any more");
    }
}
