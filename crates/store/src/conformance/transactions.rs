use super::{commit, keys, put};
use crate::SharedStore;
use crate::error::Result;
use crate::model::{Compare, Txn, TxnOutcome};

/// Each change has its own growing revision; a key counts its writes since it was created.
pub async fn revisions(store: SharedStore) -> Result<()> {
    let first = put(&*store, "a", "1").await?;
    let second = put(&*store, "a", "2").await?;
    assert!(second > first);
    let kv = store.get("a").await?.expect("written above");
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (first, second, 2));
    assert_eq!((kv.key.as_str(), &kv.value[..], kv.lease), ("a", &b"2"[..], None));

    let deleted = commit(&*store, Txn::new().delete("a")).await?;
    assert!(deleted > second);
    assert_eq!(store.get("a").await?, None);
    // Nothing changes, so there is no new revision.
    assert_eq!(commit(&*store, Txn::new().delete("a")).await?, deleted);
    assert_eq!(store.list("").await?.revision, deleted);

    let again = put(&*store, "a", "3").await?;
    let kv = store.get("a").await?.expect("written above");
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (again, again, 1));
    Ok(())
}

/// Every kind of compare, holding and not holding; a refused transaction changes nothing.
pub async fn compares(store: SharedStore) -> Result<()> {
    let created = put(&*store, "here", "1").await?;
    let written = put(&*store, "here", "2").await?;
    let (here, gone) = ("here".to_owned(), "gone".to_owned());
    let hold = [
        Compare::Absent(gone.clone()),
        Compare::Present(here.clone()),
        Compare::CreateRevision(here.clone(), created),
        Compare::ModRevision(here.clone(), written),
    ];
    let fail = [
        Compare::Absent(here.clone()),
        Compare::Present(gone.clone()),
        Compare::CreateRevision(here.clone(), written),
        Compare::CreateRevision(gone.clone(), created),
        Compare::CreateRevision(gone.clone(), 0),
        Compare::ModRevision(here, created),
        Compare::ModRevision(gone, 0),
    ];
    for compare in &hold {
        let outcome = store.txn(Txn::new().when(compare.clone()).put("mark", "yes")).await?;
        assert!(matches!(outcome, TxnOutcome::Committed(_)), "{compare:?}");
    }
    let before = store.list("").await?;
    for compare in &fail {
        // One that holds beside it does not help.
        let txn = Txn::new().when(hold[0].clone()).when(compare.clone()).put("mark", "no").delete("here");
        assert_eq!(store.txn(txn).await?, TxnOutcome::Refused, "{compare:?}");
    }
    assert_eq!(store.list("").await?, before);
    Ok(())
}

/// All operations of a transaction have one revision.
pub async fn transactions_are_atomic(store: SharedStore) -> Result<()> {
    put(&*store, "old", "1").await?;
    put(&*store, "many/1", "1").await?;
    put(&*store, "many/2", "1").await?;
    let txn = Txn::new().put("b", "1").put("a", "1").delete("old").delete_prefix("many/");
    let revision = commit(&*store, txn).await?;
    let listing = store.list("").await?;
    assert_eq!(listing.revision, revision);
    let found: Vec<_> = listing.items.iter().map(|kv| (kv.key.as_str(), kv.mod_revision)).collect();
    assert_eq!(found, [("a", revision), ("b", revision)]);
    Ok(())
}

/// A listing has all keys of its prefix and no others, in order, however many there are.
pub async fn listing_is_ordered_and_pages(store: SharedStore) -> Result<()> {
    const KEYS: usize = 1100;
    for key in ["ite", "item", "item0", "itemz"] {
        put(&*store, key, "not below the prefix").await?;
    }
    let numbers: Vec<usize> = (0..KEYS).rev().collect();
    for part in numbers.chunks(100) {
        let txn = part.iter().fold(Txn::new(), |txn, n| txn.put(format!("item/{n:05}"), n.to_string()));
        commit(&*store, txn).await?;
    }
    let expected: Vec<String> = (0..KEYS).map(|n| format!("item/{n:05}")).collect();
    assert_eq!(keys(&*store, "item/").await?, expected);
    assert_eq!(keys(&*store, "").await?.len(), KEYS + 4);
    assert_eq!(keys(&*store, "none/").await?, Vec::<String>::new());
    Ok(())
}
