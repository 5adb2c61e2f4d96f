//! The etcd store against a real etcd: it keeps the promises of all backends, and repairs itself when etcd goes
//! away and comes back.

mod server;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use meshos_store::{
    Error, Etcd, EtcdOptions, Event, Result, SharedStore, Store, Txn, TxnOutcome, Update, watch_resync,
};
use server::{EtcdServer, free_address};
use tokio::time::{sleep, timeout};

async fn with_store<F>(case: impl FnOnce(SharedStore) -> F)
where
    F: Future<Output = Result<()>>,
{
    let server = EtcdServer::start().await;
    case(Arc::new(server.client().await)).await.expect("the case runs without an error");
}

meshos_store::conformance_suite!(with_store);

/// Writes until the store takes it; the value makes the write repeatable.
async fn put_patiently(store: &dyn Store, key: &str) {
    loop {
        match store.txn(Txn::new().put(key, "1")).await {
            Ok(_) => return,
            Err(error) => assert!(error.retryable(), "{error}"),
        }
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn server_goes_away_and_comes_back() {
    let mut server = EtcdServer::start().await;
    let store: SharedStore = Arc::new(server.client().await);
    let mut follower = watch_resync(store.clone(), "k/", 3);
    let mut view = BTreeMap::new();
    let mut resyncs = 0;
    let writer = async {
        for n in 0..50 {
            put_patiently(&*store, &format!("k/{n:03}")).await;
        }
        server.kill();
        let away = store.txn(Txn::new().put("k/away", "1")).await.expect_err("etcd is away");
        assert!(matches!(away, Error::Unavailable { .. } | Error::DeadlineExceeded { .. }), "{away}");
        assert!(store.get("k/000").await.expect_err("etcd is away").retryable());
        server.restart().await;
        for n in 50..100 {
            put_patiently(&*store, &format!("k/{n:03}")).await;
        }
    };
    let reader = async {
        while !view.contains_key("k/099") {
            match follower.next().await.expect("it repairs itself") {
                Update::Resync(listing) => {
                    resyncs += 1;
                    view = listing.items.into_iter().map(|kv| (kv.key.clone(), kv)).collect();
                }
                Update::Batch(batch) => batch.events.into_iter().for_each(|event| match event {
                    Event::Put(kv) => drop(view.insert(kv.key.clone(), kv)),
                    Event::Delete { key, .. } => drop(view.remove(&key)),
                }),
            }
        }
    };
    timeout(Duration::from_secs(90), async { futures::join!(writer, reader) })
        .await
        .expect("the reader catches up");
    assert_eq!(resyncs, 1, "history was there, so one listing is enough");
    let stored = store.list("k/").await.expect("listed").items;
    assert!((0..100).all(|n| view.contains_key(&format!("k/{n:03}"))), "a key is lost");
    assert_eq!(view.into_values().collect::<Vec<_>>(), stored);
}

#[tokio::test]
async fn member_that_is_away_is_passed_over() {
    let server = EtcdServer::start().await;
    let nobody = free_address();
    let store =
        Etcd::connect(&[nobody, server.address()], EtcdOptions::default()).await.expect("two addresses");
    let put = store.txn(Txn::new().put("k", "1")).await;
    assert!(matches!(put, Ok(TxnOutcome::Committed(_))), "{put:?}");
    assert!(store.watch("k", 1).await.expect("watched").next().await.is_ok());
}

#[tokio::test]
async fn calls_end_when_nobody_is_there() {
    let options = EtcdOptions { call_timeout: Duration::from_millis(500), ..EtcdOptions::default() };
    let store = Etcd::connect(&[free_address()], options).await.expect("an address");
    let error = store.get("k").await.expect_err("nobody is there");
    assert!(matches!(&error, Error::Unavailable { outcome_unknown: false, .. }), "{error}");
    let error = store.txn(Txn::new().put("k", "1")).await.expect_err("nobody is there");
    assert!(error.retryable() && !error.outcome_unknown(), "{error}");
    assert!(store.watch("", 1).await.expect_err("nobody is there").retryable());
}

#[tokio::test]
async fn a_lease_is_held_while_the_process_is_busy_with_something_else() {
    let server = EtcdServer::start().await;
    let store: SharedStore = Arc::new(server.client().await);
    let ttl = Duration::from_secs(2);
    let lease = store.grant(ttl).await.expect("granted");
    store.txn(Txn::new().put_leased("leader", "1", lease)).await.expect("written");
    let mut holding = Box::pin(store.hold(lease, ttl));
    assert!(futures::poll!(&mut holding).is_pending());
    // Nothing else runs on this thread, which is the only one of the test's runtime.
    let elsewhere = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async { sleep(3 * ttl).await });
    });
    elsewhere.join().expect("it ends");
    let found = store.get("leader").await.expect("read");
    assert_eq!(found.and_then(|kv| kv.lease), Some(lease), "kept alive all the while");
    assert!(futures::poll!(&mut holding).is_pending());
    // Dropped, it stops, and the lease with it.
    drop(holding);
    let ends = async {
        while store.get("leader").await.expect("read").is_some() {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(Duration::from_secs(30), ends).await.expect("it ends");
}
