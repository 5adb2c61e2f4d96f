use std::time::Duration;

use super::{commit, keys, put};
use crate::SharedStore;
use crate::error::{Error, Result};
use crate::model::{Compare, LeaseId, MAX_TXN_BYTES, MAX_TXN_OPS, MAX_VALUE_BYTES, Op, Txn, TxnOutcome};

/// Large values, odd keys, too many operations, a key touched twice, an unknown lease.
pub async fn what_no_backend_takes(store: SharedStore) -> Result<()> {
    let refused = async |txn: Txn| store.txn(txn).await.expect_err("taken although it must be refused");
    let large = refused(Txn::new().put("a", vec![0; 2_000_000])).await;
    assert!(matches!(large, Error::ValueTooLarge { size: 2_000_000, .. }), "{large}");
    assert!(!large.retryable());
    for key in ["", "a\0b", "line\nbreak", &"x".repeat(5000)] {
        let odd = refused(Txn::new().put(key, "1")).await;
        assert!(matches!(odd, Error::InvalidKey { .. }), "{odd}");
        assert!(matches!(store.get(key).await, Err(Error::InvalidKey { .. })));
    }
    assert!(matches!(refused(Txn::new().delete_prefix("")).await, Error::InvalidKey { .. }));
    let many = (0..=MAX_TXN_OPS).fold(Txn::new(), |txn, n| txn.put(format!("k{n}"), "1"));
    assert!(matches!(refused(many).await, Error::TooManyOps { count: 129, .. }));
    for twice in [
        Txn::new().put("a", "1").put("a", "2"),
        Txn::new().put("a", "1").delete("a"),
        Txn::new().put("a/b", "1").delete_prefix("a/"),
        Txn::new().delete_prefix("a/").delete_prefix("a/b"),
    ] {
        assert!(matches!(refused(twice).await, Error::DuplicateKey { .. }));
    }
    let unknown = LeaseId(4711);
    assert_eq!(refused(Txn::new().put_leased("a", "1", unknown)).await, Error::LeaseNotFound(unknown));
    assert_eq!(store.keep_alive(unknown).await, Err(Error::LeaseNotFound(unknown)));
    assert_eq!(store.revoke(unknown).await, Err(Error::LeaseNotFound(unknown)));
    assert_eq!(keys(&*store, "").await?, Vec::<String>::new());
    Ok(())
}

/// What our own limits let through, the backend takes.
pub async fn largest_transaction_fits(store: SharedStore) -> Result<()> {
    put(&*store, "small", "1").await?;
    commit(&*store, Txn::new().put("large", vec![7; MAX_VALUE_BYTES])).await?;
    assert_eq!(store.get("large").await?.map(|kv| kv.value.len()), Some(MAX_VALUE_BYTES));

    let each = MAX_TXN_BYTES / MAX_TXN_OPS - Op::put("part/000", "").bytes();
    let lease = store.grant(Duration::from_secs(60)).await?;
    let full = (0..MAX_TXN_OPS)
        .fold(Txn::new(), |txn, n| txn.put_leased(format!("part/{n:03}"), vec![7; each], lease));
    commit(&*store, full).await?;
    assert_eq!(keys(&*store, "part/").await?.len(), MAX_TXN_OPS);
    store.revoke(lease).await
}

/// A delete by prefix touches 128 keys at most, those beside it counted in.
pub async fn delete_prefix_is_bounded(store: SharedStore) -> Result<()> {
    let full = (0..MAX_TXN_OPS).fold(Txn::new(), |txn, n| txn.put(format!("p/{n:03}"), "1"));
    commit(&*store, full).await?;
    put(&*store, "p0", "beside").await?;
    let beside = store.txn(Txn::new().put("other", "1").delete_prefix("p/")).await;
    assert!(matches!(beside, Err(Error::PrefixTooWide { .. })), "{beside:?}");
    put(&*store, "p/one-too-many", "1").await?;
    let wide = store.txn(Txn::new().delete_prefix("p/")).await;
    assert!(matches!(wide, Err(Error::PrefixTooWide { .. })), "{wide:?}");
    assert_eq!(keys(&*store, "").await?.len(), MAX_TXN_OPS + 2);

    let refused = Txn::new().when(Compare::Absent("p0".to_owned())).delete_prefix("p/");
    assert_eq!(store.txn(refused).await?, TxnOutcome::Refused);
    commit(&*store, Txn::new().delete("p/one-too-many")).await?;
    commit(&*store, Txn::new().when(Compare::Present("p0".to_owned())).delete_prefix("p/")).await?;
    assert_eq!(keys(&*store, "").await?, ["p0"]);
    Ok(())
}
