use std::time::Duration;

use futures::future::join_all;

use super::{commit, keys, put, within};
use crate::SharedStore;
use crate::batch::batch_writer;
use crate::election::{Campaign, Fence, campaign};
use crate::error::{Error, Result};
use crate::model::{Compare, LeaseId, MAX_TXN_OPS, Op, Revision, Txn, TxnOutcome};

/// Submissions share transactions of up to 128 keys; none is split; too large ones are refused.
pub async fn batches_fit_limits(store: SharedStore) -> Result<()> {
    let before = store.list("").await?.revision;
    let (writer, runner) = batch_writer(store.clone(), None, 1000);
    let submissions = async move {
        let pair = |n: usize| vec![Op::put(format!("k/{n:03}/a"), "1"), Op::put(format!("k/{n:03}/b"), "1")];
        let answers = join_all((0..200).map(|n| writer.submit(pair(n)))).await;
        let large = (0..=MAX_TXN_OPS).map(|n| Op::put(format!("large/{n}"), "1")).collect();
        (answers, writer.submit(large).await)
    };
    let (ran, (answers, large)) =
        within("the writer", async { futures::join!(runner.run(), submissions) }).await;
    ran?;
    assert_eq!(large, Err(Error::TooManyOps { count: 129, limit: 128 }));
    let revisions = answers.into_iter().collect::<Result<Vec<Revision>>>()?;
    let listing = store.list("k/").await?;
    assert_eq!(listing.items.len(), 400);
    for (pair, revision) in listing.items.chunks(2).zip(revisions) {
        assert!(pair.iter().all(|kv| kv.mod_revision == revision), "{pair:?} is not of {revision}");
    }
    let transactions = listing.revision - before;
    assert!((4..50).contains(&transactions), "400 keys went in {transactions} transactions");
    Ok(())
}

/// Writes of one key are applied in the order of their submission.
pub async fn batches_keep_order(store: SharedStore) -> Result<()> {
    let (writer, runner) = batch_writer(store.clone(), None, 100);
    let submissions = async move {
        let one = |n: usize| vec![Op::put("counter", n.to_string()), Op::put(format!("n/{n:02}"), "1")];
        join_all((0..30).map(|n| writer.submit(one(n)))).await
    };
    let (ran, answers) = within("the writer", async { futures::join!(runner.run(), submissions) }).await;
    ran?;
    let revisions = answers.into_iter().collect::<Result<Vec<Revision>>>()?;
    assert!(revisions.is_sorted());
    assert_eq!(store.get("counter").await?.map(|kv| kv.value), Some("29".into()));
    assert_eq!(keys(&*store, "n/").await?.len(), 30);
    Ok(())
}

/// Submissions with compares of their own share transactions, and each is refused by itself.
pub async fn compares_of_one_refuse_nobody_else(store: SharedStore) -> Result<()> {
    put(&*store, "k/5", "old").await?;
    let before = store.list("").await?.revision;
    let (writer, runner) = batch_writer(store.clone(), None, 100);
    let new = |n: usize| {
        let key = format!("k/{n}");
        Txn::new().when(Compare::Absent(key.clone())).put(key, "new")
    };
    let submissions = async move {
        let all_new = join_all((10..60).map(|n| writer.submit_txn(new(n)))).await;
        // The second of a key depends on the first.
        let twice = join_all([7, 7].map(|n| writer.submit_txn(new(n)))).await;
        let one_old = join_all((0..10).filter(|n| *n != 7).map(|n| writer.submit_txn(new(n)))).await;
        (all_new, twice, one_old)
    };
    let (ran, (all_new, twice, one_old)) =
        within("the writer", async { futures::join!(runner.run(), submissions) }).await;
    ran?;
    let refused = |outcomes: Vec<Result<TxnOutcome>>| -> Result<Vec<usize>> {
        let outcomes = outcomes.into_iter().collect::<Result<Vec<_>>>()?;
        Ok((0..outcomes.len()).filter(|at| outcomes[*at] == TxnOutcome::Refused).collect())
    };
    assert_eq!((refused(all_new)?, refused(twice)?, refused(one_old)?), (vec![], vec![1], vec![5]));
    assert_eq!(store.get("k/5").await?.map(|kv| kv.value), Some("old".into()));
    assert_eq!(keys(&*store, "k/").await?.len(), 60);
    let transactions = store.list("").await?.revision - before;
    assert!(transactions < 30, "59 keys went in {transactions} transactions");
    Ok(())
}

/// A submission that the store refuses fails alone.
pub async fn bad_submission_hurts_nobody_else(store: SharedStore) -> Result<()> {
    let (writer, runner) = batch_writer(store.clone(), None, 100);
    let unknown = LeaseId(4711);
    let submissions = async move {
        join_all((0..10).map(|n| {
            let key = format!("k/{n}");
            writer.submit(vec![if n == 5 { Op::put_leased(key, "1", unknown) } else { Op::put(key, "1") }])
        }))
        .await
    };
    let (ran, answers) = within("the writer", async { futures::join!(runner.run(), submissions) }).await;
    ran?;
    for (n, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.is_ok(), n != 5, "{n}: {answer:?}");
    }
    assert_eq!(keys(&*store, "k/").await?.len(), 9);
    Ok(())
}

/// Once its fence is refused, a writer fails everything, queued or later, and nothing of it is written.
pub async fn fence_ends_the_writer(store: SharedStore) -> Result<()> {
    let lease = store.grant(Duration::from_secs(60)).await?;
    let Campaign::Won { epoch } = campaign(&*store, "leaders/x", "me", lease).await? else {
        panic!("nobody else is there");
    };
    let fence = Fence::new("leaders/x", epoch);
    let (writer, runner) = batch_writer(store.clone(), Some(fence.clone()), 10);
    let submissions = async {
        writer.submit(vec![Op::put("k/1", "1")]).await?;
        commit(&*store, crate::Txn::new().delete("leaders/x")).await?;
        let answers = join_all((2..9).map(|n| writer.submit(vec![Op::put(format!("k/{n}"), "1")]))).await;
        assert!(answers.iter().all(|answer| *answer == Err(fence.fenced())), "{answers:?}");
        Ok::<_, Error>(())
    };
    let (ran, submitted) = within("the writer", async { futures::join!(runner.run(), submissions) }).await;
    submitted?;
    assert_eq!(ran, Err(fence.fenced()));
    assert_eq!(writer.submit(vec![Op::put("k/later", "1")]).await, Err(fence.fenced()));
    assert_eq!(keys(&*store, "k/").await?, ["k/1"]);
    Ok(())
}
