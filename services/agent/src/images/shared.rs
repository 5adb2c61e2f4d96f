//! Work that several wait for: done once, and given up when the last of them is gone.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, PoisonError},
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared},
};

type Work<T> = Shared<BoxFuture<'static, T>>;

/// Work under way, by what it is for. It gets on while somebody who waits for it is polled.
pub(super) struct Sharing<K, T: Clone> {
    under_way: Mutex<BTreeMap<K, WeakShared<BoxFuture<'static, T>>>>,
}

impl<K, T: Clone> Default for Sharing<K, T> {
    fn default() -> Self {
        Self { under_way: Mutex::default() }
    }
}

impl<K, T: Clone> fmt::Debug for Sharing<K, T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Sharing")
    }
}

impl<K: Ord, T: Clone> Sharing<K, T> {
    /// Joins the work for a key, or begins it; whether it was begun.
    pub(super) fn join(&self, key: K, begin: impl FnOnce() -> BoxFuture<'static, T>) -> (Work<T>, bool) {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        // What is done may be out of date.
        let going = under_way.get(&key).and_then(WeakShared::upgrade).filter(|work| work.peek().is_none());
        if let Some(work) = going {
            return (work, false);
        }
        under_way.retain(|_, work| work.upgrade().is_some());
        let work = begin().shared();
        if let Some(weak) = work.downgrade() {
            under_way.insert(key, weak);
        }
        (work, true)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::Poll,
    };

    use futures::poll;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn one_does_it_for_all_and_another_takes_over() {
        let sharing = Sharing::<u8, u8>::default();
        let begun = Arc::new(AtomicUsize::new(0));
        let (done, wait) = oneshot::channel();
        let count = Arc::clone(&begun);
        let (mut first, ours) = sharing.join(1, || {
            count.fetch_add(1, Ordering::Relaxed);
            async move { wait.await.unwrap_or(0) }.boxed()
        });
        assert!(ours && poll!(&mut first) == Poll::Pending);
        let (mut second, ours) = sharing.join(1, || unreachable!());
        assert!(!ours && poll!(&mut second) == Poll::Pending);
        // Whoever began it goes; the other one gets it.
        drop(first);
        done.send(7).unwrap();
        assert_eq!((second.await, begun.load(Ordering::Relaxed)), (7, 1));
        let (done, wait) = oneshot::channel::<u8>();
        let (abandoned, ours) = sharing.join(1, || async move { wait.await.unwrap_or(0) }.boxed());
        assert!(ours);
        drop(abandoned);
        assert!(done.is_closed(), "nobody waits for it any more");
        assert_eq!(sharing.join(2, || async { 1 }.boxed()).0.await, 1);
        assert!(sharing.under_way.lock().unwrap().get(&1).is_none(), "nothing is kept");
    }
}
