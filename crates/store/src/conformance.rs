//! What every backend promises, as one suite of cases; [`conformance_suite!`](crate::conformance_suite) makes
//! tests of them. Each case gets an empty store of its own, with its leases running.

mod elections;
mod leases;
mod limits;
mod transactions;
mod watches;
mod writers;

use std::time::Duration;

use tokio::time::timeout;

use crate::error::Result;
use crate::model::{Revision, Txn, TxnOutcome, WatchBatch};
use crate::{Store, Watcher};

pub use elections::{deposing_needs_the_same_leader, election_and_fencing, waiting_for_a_change};
pub use leases::{held_until_it_is_lost, lease_is_kept_alive_and_expires, revoke_deletes_its_keys};
pub use limits::{delete_prefix_is_bounded, largest_transaction_fits, what_no_backend_takes};
pub use transactions::{compares, listing_is_ordered_and_pages, revisions, transactions_are_atomic};
pub use watches::{
    compaction_cuts_history, no_gap_under_concurrent_writes, resync_follows, watch_from_a_revision,
    watch_from_the_future,
};
pub use writers::{
    bad_submission_hurts_nobody_else, batches_fit_limits, batches_keep_order,
    compares_of_one_refuse_nobody_else, fence_ends_the_writer,
};

/// Makes a test of each case. `$with` is an async function that takes a case, gives it a new store and fails
/// when the case does.
#[macro_export]
macro_rules! conformance_suite {
    ($with:path) => {
        $crate::conformance_suite!($with:
            revisions, compares, transactions_are_atomic, listing_is_ordered_and_pages,
            what_no_backend_takes, largest_transaction_fits, delete_prefix_is_bounded,
            watch_from_a_revision, watch_from_the_future, no_gap_under_concurrent_writes,
            compaction_cuts_history, resync_follows,
            lease_is_kept_alive_and_expires, revoke_deletes_its_keys, held_until_it_is_lost,
            election_and_fencing, deposing_needs_the_same_leader, waiting_for_a_change,
            batches_fit_limits, batches_keep_order, compares_of_one_refuse_nobody_else,
            bad_submission_hurts_nobody_else, fence_ends_the_writer,
        );
    };
    ($with:path: $($case:ident),* $(,)?) => {
        $(
            #[tokio::test]
            async fn $case() {
                $with($crate::conformance::$case).await;
            }
        )*
    };
}

/// Longer than anything takes here; only a defect gets this far.
const PATIENCE: Duration = Duration::from_secs(30);

/// Fails the case when the future does not end.
async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {PATIENCE:?} for {what}"),
    }
}

/// Runs a transaction that must not be refused.
async fn commit(store: &dyn Store, txn: Txn) -> Result<Revision> {
    match store.txn(txn).await? {
        TxnOutcome::Committed(revision) => Ok(revision),
        TxnOutcome::Refused => panic!("a transaction whose compares hold was refused"),
    }
}

async fn put(store: &dyn Store, key: &str, value: &str) -> Result<Revision> {
    commit(store, Txn::new().put(key, value.to_owned())).await
}

async fn keys(store: &dyn Store, prefix: &str) -> Result<Vec<String>> {
    Ok(store.list(prefix).await?.items.into_iter().map(|kv| kv.key).collect())
}

/// The next changes of a watch, one batch for each revision.
async fn changes_until(watcher: &mut Watcher, last: Revision) -> Result<Vec<WatchBatch>> {
    let mut seen: Vec<WatchBatch> = Vec::new();
    while seen.last().is_none_or(|batch| batch.revision < last) {
        let batch = within("a change", watcher.next()).await?;
        assert_eq!(Some(batch.revision), batch.events.last().map(|event| event.mod_revision()));
        for event in batch.events {
            match seen.last_mut().filter(|batch| batch.revision == event.mod_revision()) {
                Some(same) => same.events.push(event),
                None => seen.push(WatchBatch { revision: event.mod_revision(), events: vec![event] }),
            }
        }
    }
    Ok(seen)
}
