//! Calls on their way to the leading allocator: those of all frameworks share a stream.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use meshos_mesh::{Calls, Env, trace};
use meshos_proto::meshos::allocator::v1::CallResult;

use crate::client::{CallError, Leader, Repeat};

/// Sends calls to whoever leads.
#[derive(Debug)]
pub(in crate::mesos) struct SchedulerCalls {
    env: Env,
    leader: Arc<Leader>,
    /// The newest stream, and the address that it leads to.
    open: Mutex<Option<(String, Calls)>>,
}

impl SchedulerCalls {
    pub(in crate::mesos) fn new(env: &Env, leader: &Arc<Leader>) -> Self {
        Self { env: env.clone(), leader: Arc::clone(leader), open: Mutex::new(None) }
    }

    /// Makes an encoded call on behalf of a framework's event stream; tries again as far as `repeat` allows.
    pub(super) async fn call(
        &self,
        repeat: Repeat,
        stream_id: &str,
        call: Bytes,
    ) -> Result<CallResult, CallError> {
        let traceparent = trace::current();
        let attempt = |calls: Calls| {
            let (call, traceparent) = (call.clone(), traceparent.clone());
            async move { calls.call(stream_id, call, traceparent).await }
        };
        self.leader.attempts(repeat, |leader| attempt(self.to(&leader.address))).await
    }

    fn to(&self, address: &str) -> Calls {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        match open.as_ref() {
            Some((known, calls)) if known == address && !calls.is_over() => calls.clone(),
            _ => {
                let calls = Calls::open(&self.env, self.leader.channel(address));
                *open = Some((address.to_owned(), calls.clone()));
                calls
            }
        }
    }
}
