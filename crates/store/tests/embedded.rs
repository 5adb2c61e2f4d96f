//! The embedded store: on disk and in memory it keeps the promises of all backends, and some of its own.

use std::sync::Arc;
use std::time::Duration;

use meshos_store::{Embedded, Error, Result, SharedStore, Store, Txn, TxnOutcome, Update, watch_resync};
use tokio::time::{Instant, sleep};

/// Runs a case while the store's leases run beside it.
async fn run_case<F>(store: Embedded, case: impl FnOnce(SharedStore) -> F)
where
    F: Future<Output = Result<()>>,
{
    let leases = store.run_leases();
    tokio::select! {
        biased;
        result = case(Arc::new(store)) => result.expect("the case runs without an error"),
        () = leases => panic!("the leases ended before the store"),
    }
}

mod on_disk {
    use super::*;

    async fn with_store<F>(case: impl FnOnce(SharedStore) -> F)
    where
        F: Future<Output = Result<()>>,
    {
        let dir = tempfile::tempdir().expect("a temporary directory");
        run_case(Embedded::open(dir.path()).expect("a new store opens"), case).await;
    }

    meshos_store::conformance_suite!(with_store);
}

mod in_memory {
    use super::*;

    async fn with_store<F>(case: impl FnOnce(SharedStore) -> F)
    where
        F: Future<Output = Result<()>>,
    {
        run_case(Embedded::in_memory(), case).await;
    }

    meshos_store::conformance_suite!(with_store);
}

async fn put(store: &dyn Store, key: &str, value: &str) -> u64 {
    match store.txn(Txn::new().put(key, value.to_owned())).await.expect("the store takes it") {
        TxnOutcome::Committed(revision) => revision,
        TxnOutcome::Refused => panic!("refused without a compare"),
    }
}

#[tokio::test]
async fn reopened_store_has_everything() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = Embedded::open(dir.path()).expect("a new store opens");
    let lease = store.grant(Duration::from_secs(60)).await.expect("granted");
    put(&store, "a", "1").await;
    store.txn(Txn::new().put_leased("leased", "1", lease)).await.expect("written");
    let last = put(&store, "a", "2").await;
    let before = store.list("").await.expect("listed");
    drop(store);

    let store = Embedded::open(dir.path()).expect("the directory is free again");
    assert_eq!(store.list("").await.expect("listed"), before);
    // History is not kept over a restart: its reader has to list again.
    let old = store.watch("", last).await.expect_err("history is gone");
    assert_eq!(old, Error::Compacted { requested: last, compacted: last });
    store.keep_alive(lease).await.expect("the lease lives on");
    let next = store.grant(Duration::from_secs(60)).await.expect("granted");
    assert_ne!(next, lease, "ids of leases are not used again");
    assert_eq!(put(&store, "a", "3").await, last + 1);
}

#[tokio::test]
async fn lease_ends_after_a_restart() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = Embedded::open(dir.path()).expect("a new store opens");
    let lease = store.grant(Duration::from_millis(200)).await.expect("granted");
    store.txn(Txn::new().put_leased("leased", "1", lease)).await.expect("written");
    drop(store);

    let store = Embedded::open(dir.path()).expect("the directory is free again");
    let opened = Instant::now();
    let from = store.list("").await.expect("listed").revision + 1;
    let mut watcher = store.watch("", from).await.expect("watched");
    let leases = store.run_leases();
    let ended = tokio::select! {
        biased;
        batch = watcher.next() => batch.expect("the lease ends"),
        () = leases => panic!("the leases ended before the store"),
        () = sleep(Duration::from_secs(30)) => panic!("the lease did not end"),
    };
    assert_eq!(ended.events[0].key(), "leased");
    assert!(opened.elapsed() >= Duration::from_millis(200), "it has its full time again");
}

#[tokio::test(start_paused = true)]
async fn leases_in_memory_follow_simulated_time() {
    let store = Embedded::in_memory();
    let leases = store.run_leases();
    let case = async {
        let lease = store.grant(Duration::from_secs(3600)).await.expect("granted");
        store.txn(Txn::new().put_leased("leased", "1", lease)).await.expect("written");
        sleep(Duration::from_secs(3599)).await;
        assert!(store.get("leased").await.expect("read").is_some());
        sleep(Duration::from_secs(2)).await;
        assert_eq!(store.get("leased").await.expect("read"), None);
    };
    tokio::select! {
        biased;
        () = leases => panic!("the leases ended before the store"),
        () = case => {}
    }
}

#[tokio::test]
async fn lease_loop_ends_with_the_store() {
    let store = Embedded::in_memory();
    let leases = store.run_leases();
    futures::join!(leases, async move { drop(store) });
}

#[test]
fn second_owner_of_a_directory_is_refused() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let _first = Embedded::open(dir.path()).expect("a new store opens");
    let error = Embedded::open(dir.path()).expect_err("it is locked");
    assert_eq!(error, Error::Locked { path: dir.path().to_owned() });
    let message = error.to_string();
    assert!(
        message.contains(&dir.path().display().to_string()) && message.contains("held by another process")
    );
}

#[test]
fn directory_that_cannot_be_written_is_named() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let error = Embedded::open(file.path().join("below")).expect_err("a file is no directory");
    assert!(
        matches!(&error, Error::NotWritable { path, .. } if *path == file.path().join("below")),
        "{error}"
    );
}

#[test]
fn foreign_file_is_refused() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(dir.path().join("store.redb"), b"not a store at all").expect("written");
    let error = Embedded::open(dir.path()).expect_err("it is no store");
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    assert_eq!(std::fs::read(dir.path().join("store.redb")).expect("read"), b"not a store at all");
}

#[tokio::test]
async fn slow_reader_is_cut_off_and_resynchronises() {
    let store = Embedded::in_memory_bounded(1000, 4);
    let mut watcher = store.watch("", 1).await.expect("watched");
    let shared: SharedStore = Arc::new(store.clone());
    let mut follower = watch_resync(shared, "", 7);
    assert!(matches!(follower.next().await, Ok(Update::Resync(listing)) if listing.items.is_empty()));
    put(&store, "k", "first").await;
    assert!(matches!(follower.next().await, Ok(Update::Batch(_))));
    for n in 0..10 {
        put(&store, "k", &n.to_string()).await;
    }
    let mut seen = Vec::new();
    let cut = loop {
        match watcher.next().await {
            Ok(batch) => seen.push(batch.revision),
            Err(error) => break error,
        }
    };
    assert_eq!(seen, [2, 3, 4, 5], "what was buffered comes before the error");
    assert_eq!(cut, Error::Lagged { prefix: String::new(), buffered: 4 });

    let resynced = loop {
        if let Update::Resync(listing) = follower.next().await.expect("it repairs itself") {
            break listing;
        }
    };
    assert_eq!(resynced, store.list("").await.expect("listed"));
}

#[tokio::test]
async fn history_is_bounded() {
    let store = Embedded::in_memory_bounded(5, 100);
    for n in 0..10 {
        put(&store, "k", &n.to_string()).await;
    }
    assert_eq!(
        store.watch("", 2).await.expect_err("that far back nothing is kept"),
        Error::Compacted { requested: 2, compacted: 6 }
    );
    let mut watcher = store.watch("", 7).await.expect("that is kept");
    assert_eq!(watcher.next().await.expect("history").revision, 7);
}

#[tokio::test]
async fn watches_end_with_the_store() {
    let store = Embedded::in_memory();
    let mut watcher = store.watch("", 1).await.expect("watched");
    drop(store);
    assert!(matches!(watcher.next().await, Err(Error::Closed { .. })));
}
