//! Transactions on etcd.

use meshos_proto::etcdserverpb as pb;
use meshos_proto::etcdserverpb::request_op::Request;
use meshos_proto::etcdserverpb::response_op::Response;

use super::link::Call;
use super::{Etcd, codec, kv, link};
use crate::error::{Error, Result};
use crate::model::{MAX_TXN_OPS, Op, Txn, TxnOutcome};

/// Tries before a prefix that is written all the time counts as unavailable.
const ATTEMPTS: usize = 8;

impl Etcd {
    /// Runs a transaction that was validated.
    pub(super) async fn run_txn(&self, txn: Txn) -> Result<TxnOutcome> {
        let prefixes: Vec<String> = txn.ops.iter().filter_map(prefix_of).map(str::to_owned).collect();
        if !prefixes.is_empty() {
            return self.run_wide_txn(&txn, &prefixes).await;
        }
        let lease = txn.ops.iter().find_map(lease_of);
        let request = pb::TxnRequest {
            compare: txn.compares.iter().map(codec::compare).collect(),
            success: txn.ops.into_iter().map(codec::operation).collect(),
            failure: Vec::new(),
        };
        // A write must not be sent twice: its own first try may make the compares of the second fail.
        let call =
            if request.success.is_empty() { Call::read("txn") } else { Call::write("txn").of_lease(lease) };
        outcome(&self.send_txn(call, request).await?)
    }

    /// Deletes by prefix are bounded: the keys are counted first, and an inner transaction makes sure that none
    /// was written since.
    async fn run_wide_txn(&self, txn: &Txn, prefixes: &[String]) -> Result<TxnOutcome> {
        for _ in 0..ATTEMPTS {
            let mut touched = txn.ops.len() - prefixes.len();
            let mut revision = u64::MAX;
            for prefix in prefixes {
                let (count, at) = self.count(prefix).await?;
                touched += count;
                revision = revision.min(at);
            }
            let compare = txn.compares.iter().map(codec::compare).collect();
            if touched > MAX_TXN_OPS {
                let request = pb::TxnRequest { compare, ..Default::default() };
                return match outcome(&self.send_txn(Call::read("txn"), request).await?)? {
                    TxnOutcome::Refused => Ok(TxnOutcome::Refused),
                    TxnOutcome::Committed(_) => {
                        Err(Error::PrefixTooWide { prefix: prefixes[0].clone(), limit: MAX_TXN_OPS })
                    }
                };
            }
            let inner = pb::TxnRequest {
                compare: prefixes.iter().map(|prefix| codec::unchanged_since(prefix, revision)).collect(),
                success: txn.ops.iter().cloned().map(codec::operation).collect(),
                failure: Vec::new(),
            };
            let success = vec![pb::RequestOp { request: Some(Request::RequestTxn(inner)) }];
            let request = pb::TxnRequest { compare, success, failure: Vec::new() };
            let call = Call::write("txn").of_lease(txn.ops.iter().find_map(lease_of));
            let response = self.send_txn(call, request).await?;
            if !response.succeeded || inner_succeeded(&response) {
                return outcome(&response);
            }
        }
        let why = format!("keys under {:?} keep changing", prefixes[0]);
        Err(Error::Unavailable { call: "txn", why, outcome_unknown: false })
    }

    /// How many keys have the prefix, and the revision at which they were counted.
    async fn count(&self, prefix: &str) -> Result<(usize, u64)> {
        let request = pb::RangeRequest {
            key: codec::range_start(prefix),
            range_end: codec::prefix_end(prefix),
            count_only: true,
            ..Default::default()
        };
        let response = self.range(request).await?;
        let count = usize::try_from(response.count).unwrap_or(usize::MAX / 2);
        Ok((count, codec::revision(response.header.as_ref())))
    }

    async fn send_txn(&self, call: Call, request: pb::TxnRequest) -> Result<pb::TxnResponse> {
        let send = |channel| {
            let request = link::request(request.clone());
            async move { kv(channel).txn(request).await }
        };
        self.link.call(call, send).await
    }
}

fn outcome(response: &pb::TxnResponse) -> Result<TxnOutcome> {
    if !response.succeeded {
        return Ok(TxnOutcome::Refused);
    }
    match codec::revision(response.header.as_ref()) {
        0 => Err(Error::Refused { call: "txn", why: "etcd's answer has no revision".to_owned() }),
        revision => Ok(TxnOutcome::Committed(revision)),
    }
}

fn inner_succeeded(response: &pb::TxnResponse) -> bool {
    response
        .responses
        .iter()
        .any(|op| matches!(&op.response, Some(Response::ResponseTxn(inner)) if inner.succeeded))
}

fn prefix_of(op: &Op) -> Option<&str> {
    match op {
        Op::DeletePrefix { prefix } => Some(prefix),
        Op::Put { .. } | Op::Delete { .. } => None,
    }
}

fn lease_of(op: &Op) -> Option<crate::model::LeaseId> {
    match op {
        Op::Put { lease, .. } => *lease,
        Op::Delete { .. } | Op::DeletePrefix { .. } => None,
    }
}
