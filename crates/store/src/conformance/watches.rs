use std::collections::BTreeMap;

use futures::future::try_join_all;

use super::{changes_until, commit, put, within};
use crate::SharedStore;
use crate::error::{Error, Result};
use crate::model::{Event, Revision, Txn};
use crate::resync::{Update, watch_resync};

/// A watch brings history from its revision on, then what is new, and only its prefix.
pub async fn watch_from_a_revision(store: SharedStore) -> Result<()> {
    put(&*store, "a/1", "too early").await?;
    let second = put(&*store, "a/2", "1").await?;
    put(&*store, "b/1", "beside").await?;
    let both = commit(&*store, Txn::new().put("a/3", "1").delete("a/1").put("b/2", "beside")).await?;
    let mut watcher = store.watch("a/", second).await?;
    let seen = changes_until(&mut watcher, both).await?;
    assert_eq!(seen.iter().map(|batch| batch.revision).collect::<Vec<_>>(), [second, both]);
    assert!(matches!(&seen[0].events[..], [Event::Put(kv)] if kv.key == "a/2" && &kv.value[..] == b"1"));
    assert!(matches!(
        &seen[1].events[..],
        [Event::Put(kv), Event::Delete { key, mod_revision }]
            if kv.key == "a/3" && key == "a/1" && *mod_revision == both
    ));

    put(&*store, "b/1", "beside").await?;
    let new = put(&*store, "a/2", "2").await?;
    let seen = changes_until(&mut watcher, new).await?;
    assert!(matches!(&seen[..], [batch] if batch.revision == new && batch.events.len() == 1));
    let current = store.get("a/2").await?.expect("written above");
    assert_eq!(seen[0].events, [Event::Put(current)]);
    Ok(())
}

/// A watch may start at a revision that is still to come.
pub async fn watch_from_the_future(store: SharedStore) -> Result<()> {
    let now = put(&*store, "a", "1").await?;
    let mut watcher = store.watch("", now + 3).await?;
    for value in ["2", "3", "4"] {
        put(&*store, "a", value).await?;
    }
    let seen = changes_until(&mut watcher, now + 3).await?;
    assert_eq!(seen.iter().map(|batch| batch.revision).collect::<Vec<_>>(), [now + 3]);
    Ok(())
}

/// Watches that start while others write miss nothing and see everything once and in order.
pub async fn no_gap_under_concurrent_writes(store: SharedStore) -> Result<()> {
    let start = put(&*store, "w/start", "").await?;
    let writer = async |name: usize| -> Result<Vec<Revision>> {
        let mut written = Vec::new();
        for n in 0..100 {
            written.push(put(&*store, &format!("w/{name}"), &n.to_string()).await?);
        }
        Ok(written)
    };
    let reader = async || -> Result<Vec<Revision>> {
        let mut watcher = store.watch("w/", start + 1).await?;
        let seen = changes_until(&mut watcher, start + 300).await?;
        Ok(seen.iter().map(|batch| batch.revision).collect())
    };
    let late_reader = async {
        // Starts in the middle of the writes, in the past.
        while store.list("w/start").await?.revision < start + 100 {
            tokio::task::yield_now().await;
        }
        reader().await
    };
    let (written, early, late) = futures::try_join!(try_join_all((0..3).map(writer)), reader(), late_reader)?;
    let mut expected = written.concat();
    expected.sort_unstable();
    assert_eq!(expected.len(), 300);
    assert_eq!(early, expected);
    assert_eq!(late, expected);
    Ok(())
}

/// History up to the compacted revision is gone; later history and current values stay.
pub async fn compaction_cuts_history(store: SharedStore) -> Result<()> {
    let first = put(&*store, "a", "1").await?;
    put(&*store, "b", "1").await?;
    let cut = commit(&*store, Txn::new().delete("b")).await?;
    let kept = put(&*store, "a", "2").await?;
    store.compact(cut).await?;
    store.compact(cut).await?;
    for from in [first, cut] {
        let error = match store.watch("", from).await {
            Ok(mut watcher) => {
                within("the compaction error", watcher.next()).await.expect_err("history is gone")
            }
            Err(error) => error,
        };
        assert!(matches!(error, Error::Compacted { requested, .. } if requested == from), "{error}");
        assert!(error.retryable());
    }
    let mut watcher = store.watch("", kept).await?;
    assert_eq!(changes_until(&mut watcher, kept).await?.len(), 1);
    assert_eq!(store.get("a").await?.map(|kv| kv.create_revision), Some(first));
    let future = store.compact(kept + 100).await;
    assert_eq!(future, Err(Error::FutureRevision { requested: kept + 100, current: kept }));
    Ok(())
}

/// A listing first, then all changes: the reader's view ends as the store does.
pub async fn resync_follows(store: SharedStore) -> Result<()> {
    put(&*store, "v/old", "1").await?;
    let mut follower = watch_resync(store.clone(), "v/", 1);
    let mut view = BTreeMap::new();
    let writer = async {
        for n in 0..50 {
            put(&*store, &format!("v/{}", n % 7), &n.to_string()).await?;
            if n == 25 {
                // A reader that is up to date does not notice.
                store.compact(store.list("").await?.revision).await?;
            }
        }
        commit(&*store, Txn::new().delete("v/old").put("v/end", "")).await
    };
    let reader = async {
        while !view.contains_key("v/end") {
            match within("an update", follower.next()).await? {
                Update::Resync(listing) => {
                    view = listing.items.into_iter().map(|kv| (kv.key.clone(), kv)).collect();
                }
                Update::Batch(batch) => batch.events.into_iter().for_each(|event| match event {
                    Event::Put(kv) => drop(view.insert(kv.key.clone(), kv)),
                    Event::Delete { key, .. } => drop(view.remove(&key)),
                }),
            }
        }
        Ok(())
    };
    futures::try_join!(writer, reader)?;
    assert_eq!(view.into_values().collect::<Vec<_>>(), store.list("v/").await?.items);
    Ok(())
}
