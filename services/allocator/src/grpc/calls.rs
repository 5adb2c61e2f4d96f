//! A stream of calls: reads what comes, gives it to the owner together, sends the answers.

use std::{future::Future, pin::Pin};

use futures::{
    FutureExt, Stream, StreamExt,
    future::{BoxFuture, pending},
    stream,
    stream::FuturesUnordered,
};
use meshos_proto::{
    meshos::allocator::v1::{CallResult, CallsRequest, CallsResponse, NumberedCall},
    mesos::v1::scheduler::Call,
};
use prost::Message as _;
use tokio::{sync::oneshot, time::timeout};
use tonic::{Status, Streaming};
use tracing::debug;

use super::{DURABLE, queues::Queues, refused, unconfirmed};
use crate::service::{CallAnswer, Ended, OwnerHandle, Point, QueuedCall, Request, not_leading};

/// The answers, as a response stream.
pub(crate) type Results = Pin<Box<dyn Stream<Item = Result<CallsResponse, Status>> + Send>>;

/// What the owner says to the calls that it was given together.
type Answered = Result<(Point, Vec<CallAnswer>), Ended>;

/// Answers the calls of a stream until the caller or the owner ends.
pub(super) fn answers(owner: OwnerHandle, calls: Streaming<CallsRequest>) -> Results {
    let ended = owner.clone();
    let answering = Answering {
        owner,
        ended: async move { ended.ended().await }.boxed(),
        calls: Some(calls),
        queues: Queues::default(),
        under_way: None,
        removals: FuturesUnordered::new(),
        over: false,
    };
    let step = |answering: Option<Answering>| async move {
        let mut answering = answering?;
        let next = answering.next().await?;
        let goes_on = next.is_ok().then_some(answering);
        Some((next, goes_on))
    };
    Box::pin(stream::unfold(Some(answering), step))
}

struct Answering {
    owner: OwnerHandle,
    /// Ready once the owner has ended.
    ended: BoxFuture<'static, ()>,
    /// None: the caller has no more.
    calls: Option<Streaming<CallsRequest>>,
    queues: Queues<QueuedCall>,
    /// What the owner has been given.
    under_way: Option<BoxFuture<'static, Answered>>,
    /// Removals of frameworks that are not durable yet.
    removals: FuturesUnordered<BoxFuture<'static, CallResult>>,
    /// The owner has ended.
    over: bool,
}

impl Answering {
    async fn next(&mut self) -> Option<Result<CallsResponse, Status>> {
        loop {
            if self.over && self.removals.is_empty() {
                return Some(Err(not_leading()));
            }
            if self.under_way.is_none() && !self.queues.is_empty() && !self.over {
                self.hand_in();
            }
            if self.calls.is_none() && self.under_way.is_none() && self.removals.is_empty() {
                return None;
            }
            let reads = !self.queues.is_full() && !self.over;
            let results = tokio::select! {
                biased;
                answered = next(&mut self.under_way) => self.answered(answered),
                Some(removed) = self.removals.next() => vec![removed],
                // What it was given before is answered, or tells by itself that it is not.
                () = &mut self.ended, if !self.over && self.under_way.is_none() => self.owner_ended(),
                calls = message(&mut self.calls), if reads => self.take(calls),
            };
            if !results.is_empty() {
                return Some(Ok(CallsResponse { results }));
            }
        }
    }

    /// Queues calls; the answers of those that are refused at once.
    fn take(&mut self, calls: Option<Vec<NumberedCall>>) -> Vec<CallResult> {
        let Some(calls) = calls else {
            self.calls = None;
            return Vec::new();
        };
        calls.into_iter().filter_map(|call| self.queue(call)).collect()
    }

    fn queue(&mut self, numbered: NumberedCall) -> Option<CallResult> {
        let NumberedCall { number, stream_id: stream, call, traceparent } = numbered;
        let call = match Call::decode(call) {
            Ok(call) => Box::new(call),
            Err(error) => {
                let text = format!("the call cannot be decoded: {error}");
                return Some(failure(number, &Status::invalid_argument(text)));
            }
        };
        let framework = call.framework_id.clone().unwrap_or_default().value;
        let queued = QueuedCall { number, stream, call, traceparent };
        let cost = cost(&queued.call);
        let waiting = self.queues.push(&framework, queued, cost).err()?;
        Some(failure(
            number,
            &Status::resource_exhausted(format!(
                "call dropped: {waiting} calls of framework {framework} wait already; wait for answers before \
                 sending more"
            )),
        ))
    }

    fn hand_in(&mut self) {
        let (calls, owner) = (self.queues.batch(), self.owner.clone());
        let cost = calls.iter().map(|queued| cost(&queued.call)).sum();
        let asked = async move { owner.ask(|reply| Request::Calls { calls, cost, reply }).await };
        self.under_way = Some(asked.boxed());
    }

    fn answered(&mut self, answered: Answered) -> Vec<CallResult> {
        self.under_way = None;
        match answered {
            Ok((point, answers)) => {
                answers.into_iter().filter_map(|answer| self.result(point, answer)).collect()
            }
            Err(Ended) => self.owner_ended(),
        }
    }

    fn owner_ended(&mut self) -> Vec<CallResult> {
        self.over = true;
        Vec::new()
    }

    /// None: it comes once the removal of the framework is durable.
    fn result(&mut self, Point { epoch, revision }: Point, answer: CallAnswer) -> Option<CallResult> {
        let CallAnswer { number, result, durable } = answer;
        let taken = CallResult { number, epoch, revision, ..CallResult::default() };
        match (result, durable) {
            (Err(error), _) => Some(failure(number, &refused(error))),
            (Ok(()), None) => Some(taken),
            (Ok(()), Some(durable)) => {
                self.removals.push(removal(taken, durable).boxed());
                None
            }
        }
    }
}

/// Offers that a call gives back or takes: each is decided about by itself, and what is left of it is offered anew.
fn cost(call: &Call) -> usize {
    let accepted = call.accept.as_ref().map_or(0, |accept| accept.offer_ids.len());
    let declined = call.decline.as_ref().map_or(0, |decline| decline.offer_ids.len());
    (accepted + declined).max(1)
}

async fn removal(taken: CallResult, durable: oneshot::Receiver<()>) -> CallResult {
    match timeout(DURABLE, durable).await {
        Ok(Ok(())) => taken,
        _ => failure(taken.number, &unconfirmed()),
    }
}

fn failure(number: u64, status: &Status) -> CallResult {
    let (code, message) = (status.code().into(), status.message().to_owned());
    CallResult { number, code, message, ..CallResult::default() }
}

async fn next<T>(future: &mut Option<impl Future<Output = T> + Unpin>) -> T {
    match future {
        Some(future) => future.await,
        None => pending().await,
    }
}

/// None when the caller has no more, or is gone.
async fn message(calls: &mut Option<Streaming<CallsRequest>>) -> Option<Vec<NumberedCall>> {
    let Some(calls) = calls else { return pending().await };
    match calls.message().await {
        Ok(request) => request.map(|request| request.calls),
        Err(status) => {
            debug!(%status, "stream of calls broke");
            None
        }
    }
}
