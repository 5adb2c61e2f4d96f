//! Writes records in order, many in one transaction, guarded by the leader's epoch.
//!
//! The records of one input stay together unless they are too many for a transaction. While one transaction is
//! under way what comes next gathers, so the number of transactions follows the speed of the store.

use std::collections::BTreeMap;

use meshos_store::{Error, Fence, MAX_TXN_BYTES, MAX_TXN_OPS, Op, Revision, SharedStore, Txn, TxnOutcome};
use tokio::sync::mpsc;

/// Left for the fence.
const SPARE_BYTES: usize = 8 * 1024;
/// Inputs gathered at once.
const GATHER: usize = 1024;

/// The records of one input.
#[derive(Debug)]
pub(super) struct Unit {
    pub sequence: u64,
    pub ops: Vec<Op>,
}

/// All units up to this one are stored, and this revision contains them.
#[derive(Debug)]
pub(super) struct Committed {
    pub sequence: u64,
    pub revision: Revision,
}

/// Writes until the units end or a write fails.
pub(super) async fn run(
    store: SharedStore,
    fence: Fence,
    mut units: mpsc::UnboundedReceiver<Unit>,
    done: mpsc::UnboundedSender<Result<Committed, Error>>,
) {
    let mut gathered = Vec::new();
    while units.recv_many(&mut gathered, GATHER).await > 0 {
        for batch in batches(std::mem::take(&mut gathered)) {
            let result = commit(&store, &fence, batch.ops).await;
            let failed = result.is_err();
            let report = match (result, batch.complete) {
                (Ok(_), None) => continue,
                (Ok(revision), Some(sequence)) => Ok(Committed { sequence, revision }),
                (Err(error), _) => Err(error),
            };
            // Nobody listens once the lead is lost.
            if done.send(report).is_err() || failed {
                return;
            }
        }
    }
}

async fn commit(store: &SharedStore, fence: &Fence, ops: Vec<Op>) -> Result<Revision, Error> {
    let txn = fence.guard(Txn { compares: Vec::new(), ops });
    match store.txn(txn).await? {
        TxnOutcome::Committed(revision) => Ok(revision),
        TxnOutcome::Refused => Err(fence.fenced()),
    }
}

/// One transaction.
#[derive(Debug, Default)]
struct Batch {
    ops: Vec<Op>,
    /// The last unit that is whole once this is written.
    complete: Option<u64>,
}

/// Groups units into transactions. A later write of a key replaces an earlier one in the same transaction.
fn batches(units: Vec<Unit>) -> Vec<Batch> {
    let mut batches = Vec::new();
    let mut open: BTreeMap<String, Op> = BTreeMap::new();
    let mut complete = None;
    let mut bytes = 0;
    let close = |open: &mut BTreeMap<String, Op>, bytes: &mut usize, complete: &mut Option<u64>| {
        *bytes = 0;
        Batch { ops: std::mem::take(open).into_values().collect(), complete: complete.take() }
    };
    for unit in units {
        let size: usize = unit.ops.iter().map(Op::bytes).sum();
        let fits = open.len() + unit.ops.len() <= MAX_TXN_OPS && bytes + size <= MAX_TXN_BYTES - SPARE_BYTES;
        if !fits && !open.is_empty() {
            batches.push(close(&mut open, &mut bytes, &mut complete));
        }
        for op in unit.ops {
            let full = open.len() >= MAX_TXN_OPS || bytes + op.bytes() > MAX_TXN_BYTES - SPARE_BYTES;
            if full && !open.contains_key(op.key()) {
                batches.push(close(&mut open, &mut bytes, &mut complete));
            }
            bytes += op.bytes();
            open.insert(op.key().to_owned(), op);
        }
        complete = Some(unit.sequence);
    }
    if complete.is_some() {
        batches.push(close(&mut open, &mut bytes, &mut complete));
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(sequence: u64, keys: std::ops::Range<u32>) -> Unit {
        Unit { sequence, ops: keys.map(|key| Op::put(format!("k{key:05}"), format!("{sequence}"))).collect() }
    }

    fn shape(units: Vec<Unit>) -> Vec<(usize, Option<u64>)> {
        batches(units).into_iter().map(|batch| (batch.ops.len(), batch.complete)).collect()
    }

    #[test]
    fn small_units_share_a_transaction_and_the_last_write_of_a_key_counts() {
        assert_eq!(shape(vec![unit(1, 0..3), unit(2, 2..5)]), [(5, Some(2))]);
        let ops = batches(vec![unit(1, 0..1), unit(2, 0..1)]).remove(0).ops;
        assert_eq!(ops, [Op::put("k00000", "2")]);
    }

    #[test]
    fn a_unit_stays_whole_when_it_can() {
        assert_eq!(shape(vec![unit(1, 0..100), unit(2, 100..200)]), [(100, Some(1)), (100, Some(2))]);
        assert_eq!(
            shape(vec![unit(1, 0..1), unit(2, 10..310), unit(3, 400..401)]),
            [(1, Some(1)), (128, None), (128, None), (45, Some(3))]
        );
    }

    #[test]
    fn a_transaction_has_no_more_bytes_than_the_store_takes() {
        let big = |sequence, key: &str| Unit { sequence, ops: vec![Op::put(key, vec![0; 1_000_000])] };
        assert_eq!(shape(vec![big(1, "a"), big(2, "b")]), [(1, Some(1)), (1, Some(2))]);
    }
}
