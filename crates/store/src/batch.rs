//! Group commit: many small writes share one transaction.
//!
//! While one transaction is under way further submissions queue; then as many as fit go out together.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, OnceLock};

use tokio::sync::{mpsc, oneshot};

use crate::SharedStore;
use crate::election::Fence;
use crate::error::{Error, Result};
use crate::model::{Compare, MAX_TXN_BYTES, MAX_TXN_OPS, Op, Revision, Txn, TxnOutcome};

/// Bytes left for the fence's compare, and for each compare of a submission.
const FENCE_BYTES: usize = 4096;
const COMPARE_BYTES: usize = 64;

/// Takes writes in. A clone submits to the same queue.
#[derive(Debug, Clone)]
pub struct BatchWriter {
    queue: mpsc::Sender<Submission>,
    ended: Arc<OnceLock<Error>>,
}

/// Writes what was submitted; [`BatchRunner::run`] has to be spawned.
#[derive(Debug)]
pub struct BatchRunner {
    store: SharedStore,
    fence: Option<Fence>,
    queue: mpsc::Receiver<Submission>,
    /// Taken from the queue, not written yet.
    waiting: VecDeque<Submission>,
    ended: Arc<OnceLock<Error>>,
}

#[derive(Debug)]
struct Submission {
    compares: Vec<Compare>,
    ops: Vec<Op>,
    answer: oneshot::Sender<Result<TxnOutcome>>,
}

/// A writer whose transactions are guarded by `fence`; at most `capacity` submissions queue, further callers
/// wait for room.
pub fn batch_writer(store: SharedStore, fence: Option<Fence>, capacity: usize) -> (BatchWriter, BatchRunner) {
    let (sender, queue) = mpsc::channel(capacity.max(1));
    let ended = Arc::new(OnceLock::new());
    let writer = BatchWriter { queue: sender, ended: ended.clone() };
    (writer, BatchRunner { store, fence, queue, waiting: VecDeque::new(), ended })
}

impl BatchWriter {
    /// Writes all operations in one transaction (shared with others) and returns a revision that contains them.
    ///
    /// Submissions are applied in order. Fails with [`Error::Fenced`] when the fence no longer holds.
    pub async fn submit(&self, ops: Vec<Op>) -> Result<Revision> {
        match self.submit_txn(Txn { compares: Vec::new(), ops }).await? {
            TxnOutcome::Committed(revision) => Ok(revision),
            TxnOutcome::Refused => Err(refused_without_compares()),
        }
    }

    /// As [`BatchWriter::submit`], for a transaction with compares of its own: it is refused by itself, and does not
    /// hurt those that it shares a transaction with.
    pub async fn submit_txn(&self, txn: Txn) -> Result<TxnOutcome> {
        txn.validate()?;
        let size = bytes(&txn);
        if size > MAX_TXN_BYTES - FENCE_BYTES {
            return Err(Error::TxnTooLarge { size, limit: MAX_TXN_BYTES - FENCE_BYTES });
        }
        let (answer, answered) = oneshot::channel();
        let submission = Submission { compares: txn.compares, ops: txn.ops, answer };
        self.queue.send(submission).await.map_err(|_| self.ended())?;
        answered.await.map_err(|_| self.ended())?
    }

    fn ended(&self) -> Error {
        self.ended.get().cloned().unwrap_or(Error::Closed { what: "the batch writer" })
    }
}

impl BatchRunner {
    /// Writes until all writers are dropped, or until the fence no longer holds: then every submission, queued
    /// or later, fails with [`Error::Fenced`], and so does this.
    pub async fn run(mut self) -> Result<()> {
        while self.fill().await {
            let group = self.take_group();
            if let Err(error) = self.write(group).await {
                // An epoch that was lost never comes back.
                let _ = self.ended.set(error.clone());
                self.queue.close();
                self.fail_all(&error).await;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Takes in what is queued, waiting for the first; false at the end.
    async fn fill(&mut self) -> bool {
        if self.waiting.is_empty() {
            match self.queue.recv().await {
                Some(submission) => self.waiting.push_back(submission),
                None => return false,
            }
        }
        while self.waiting.len() < MAX_TXN_OPS
            && let Ok(submission) = self.queue.try_recv()
        {
            self.waiting.push_back(submission);
        }
        true
    }

    /// The longest run of waiting submissions that fits into one transaction.
    fn take_group(&mut self) -> Vec<Submission> {
        let mut group: Vec<Submission> = Vec::new();
        let mut keys = BTreeSet::new();
        let mut size = 0;
        let mut wide = false;
        while let Some(next) = self.waiting.front() {
            let more = next.bytes();
            let fits = keys.len() + next.ops.len() <= MAX_TXN_OPS
                && size + more <= MAX_TXN_BYTES - FENCE_BYTES
                && !(wide || is_wide(&next.ops))
                // Two writes of one key cannot share a transaction, nor can a write and what depends on it: the later
                // one starts the next group.
                && !next.ops.iter().any(|op| keys.contains(op.key()))
                && !next.compares.iter().any(|compare| keys.contains(compare.key()));
            if !group.is_empty() && !fits {
                break;
            }
            keys.extend(next.ops.iter().map(|op| op.key().to_owned()));
            size += more;
            wide = is_wide(&next.ops);
            group.extend(self.waiting.pop_front());
        }
        group
    }

    /// Writes a group and answers it; fails only when the fence no longer holds.
    async fn write(&self, group: Vec<Submission>) -> Result<()> {
        let result = self.commit(&group).await;
        let alone = group.len() == 1;
        let compared = group.iter().any(|submission| !submission.compares.is_empty());
        match result {
            // What is wrong with one submission must not hurt the others: each goes by itself.
            Err(ref error) if !alone && concerns_one(error) => self.write_each(group).await,
            Ok(TxnOutcome::Refused) if !alone && compared => self.write_each(group).await,
            result => {
                let result = self.checked(result, compared).await;
                let mut end = Ok(());
                for submission in group {
                    end = end.and(answer(submission, result.clone()));
                }
                end
            }
        }
    }

    async fn write_each(&self, group: Vec<Submission>) -> Result<()> {
        for submission in group {
            let result = self.commit(std::slice::from_ref(&submission)).await;
            let result = self.checked(result, !submission.compares.is_empty()).await;
            answer(submission, result)?;
        }
        Ok(())
    }

    /// Tells a refusal by the fence from one by a submission's own compares.
    async fn checked(&self, result: Result<TxnOutcome>, compared: bool) -> Result<TxnOutcome> {
        match (result, &self.fence) {
            (Ok(TxnOutcome::Refused), Some(fence)) if compared && fence.holds(&*self.store).await? => {
                Ok(TxnOutcome::Refused)
            }
            (Ok(TxnOutcome::Refused), Some(fence)) => Err(fence.fenced()),
            (Ok(TxnOutcome::Refused), None) if !compared => Err(refused_without_compares()),
            (result, _) => result,
        }
    }

    async fn commit(&self, group: &[Submission]) -> Result<TxnOutcome> {
        let compares = group.iter().flat_map(|submission| submission.compares.iter().cloned()).collect();
        let ops = group.iter().flat_map(|submission| submission.ops.iter().cloned()).collect();
        let mut txn = Txn { compares, ops };
        if let Some(fence) = &self.fence {
            txn = fence.guard(txn);
        }
        self.store.txn(txn).await
    }

    async fn fail_all(&mut self, error: &Error) {
        for submission in self.waiting.drain(..) {
            let _ = submission.answer.send(Err(error.clone()));
        }
        while let Some(submission) = self.queue.recv().await {
            let _ = submission.answer.send(Err(error.clone()));
        }
    }
}

/// Answers a submission; passes the error on when it ends the writer.
fn answer(submission: Submission, result: Result<TxnOutcome>) -> Result<()> {
    let fenced = matches!(result, Err(Error::Fenced { .. })).then(|| result.clone());
    // A caller that has gone does not want its answer.
    let _ = submission.answer.send(result);
    match fenced {
        Some(result) => result.map(|_| ()),
        None => Ok(()),
    }
}

fn concerns_one(error: &Error) -> bool {
    !matches!(error, Error::Fenced { .. }) && !error.retryable() && !error.outcome_unknown()
}

/// A delete by prefix may touch as many keys as a whole transaction, so it goes alone.
fn is_wide(ops: &[Op]) -> bool {
    ops.iter().any(|op| matches!(op, Op::DeletePrefix { .. }))
}

impl Submission {
    fn bytes(&self) -> usize {
        size_of(&self.compares, &self.ops)
    }
}

fn bytes(txn: &Txn) -> usize {
    size_of(&txn.compares, &txn.ops)
}

fn size_of(compares: &[Compare], ops: &[Op]) -> usize {
    let compares: usize = compares.iter().map(|compare| compare.key().len() + COMPARE_BYTES).sum();
    compares + ops.iter().map(Op::bytes).sum::<usize>()
}

fn refused_without_compares() -> Error {
    Error::Refused { call: "txn", why: "a transaction without compares was refused".to_owned() }
}
