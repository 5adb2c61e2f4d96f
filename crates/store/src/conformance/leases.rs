use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::{changes_until, commit, keys, put, within};
use crate::SharedStore;
use crate::error::{Error, Result};
use crate::model::{Event, Txn};

/// A lease that is kept alive outlives its time; then it ends, and its keys with it.
pub async fn lease_is_kept_alive_and_expires(store: SharedStore) -> Result<()> {
    let ttl = Duration::from_secs(2);
    let lease = store.grant(ttl).await?;
    let written = commit(&*store, Txn::new().put_leased("mine", "1", lease).put("other", "1")).await?;
    assert_eq!(store.get("mine").await?.and_then(|kv| kv.lease), Some(lease));
    let mut watcher = store.watch("", written + 1).await?;
    let kept_until = Instant::now() + 2 * ttl;
    while Instant::now() < kept_until {
        store.keep_alive(lease).await?;
        sleep(ttl / 8).await;
    }
    assert_eq!(keys(&*store, "").await?, ["mine", "other"]);

    let batch = within("the end of the lease", watcher.next()).await?;
    assert!(Instant::now() >= kept_until + ttl / 2, "the lease ended too early");
    assert!(matches!(&batch.events[..], [Event::Delete { key, .. }] if key == "mine"));
    assert_eq!(keys(&*store, "").await?, ["other"]);
    assert_eq!(store.keep_alive(lease).await, Err(Error::LeaseNotFound(lease)));
    Ok(())
}

/// Revoking deletes the keys that are bound to the lease now, at one revision.
pub async fn revoke_deletes_its_keys(store: SharedStore) -> Result<()> {
    let (lease, other) =
        (store.grant(Duration::from_secs(60)).await?, store.grant(Duration::from_secs(60)).await?);
    assert_ne!(lease, other);
    for key in ["a", "b", "freed", "moved"] {
        commit(&*store, Txn::new().put_leased(key, "1", lease)).await?;
    }
    put(&*store, "freed", "2").await?;
    let last = commit(&*store, Txn::new().put_leased("moved", "2", other)).await?;
    let mut watcher = store.watch("", last + 1).await?;
    store.revoke(lease).await?;
    let seen = changes_until(&mut watcher, last + 1).await?;
    let mut deleted: Vec<&str> = seen[0].events.iter().map(Event::key).collect();
    deleted.sort_unstable();
    assert_eq!((seen.len(), deleted), (1, vec!["a", "b"]));
    assert_eq!(keys(&*store, "").await?, ["freed", "moved"]);
    assert_eq!(store.revoke(lease).await, Err(Error::LeaseNotFound(lease)));
    Ok(())
}

/// Holding a lease keeps it alive, dropped it stops, and it ends when the lease is lost.
pub async fn held_until_it_is_lost(store: SharedStore) -> Result<()> {
    let ttl = Duration::from_secs(2);
    let lease = store.grant(ttl).await?;
    commit(&*store, Txn::new().put_leased("mine", "1", lease)).await?;
    assert!(timeout(3 * ttl, store.hold(lease, ttl)).await.is_err(), "nothing ended it");
    assert_eq!(keys(&*store, "").await?, ["mine"]);
    let (revoked, lost) =
        within("the loss", async { tokio::join!(store.revoke(lease), store.hold(lease, ttl)) }).await;
    revoked?;
    assert_eq!(lost, Error::LeaseNotFound(lease));
    assert_eq!(keys(&*store, "").await?, [""; 0]);
    Ok(())
}
