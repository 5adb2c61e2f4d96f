//! The stream of calls against an allocator that the test plays.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{error::Error, pin::Pin, sync::Mutex, time::Duration};

use bytes::Bytes;
use futures::{Stream, StreamExt, future::join_all};
use meshos_mesh::{Calls, Env, NotSent, connect, serve};
use meshos_proto::meshos::allocator::v1::{
    CallResult, CallsRequest, CallsResponse, SubscribeRequest, SubscribeResponse,
    scheduler_server::{Scheduler, SchedulerServer},
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming, service::Routes};

const PATIENCE: Duration = Duration::from_secs(60);

type Outgoing = mpsc::Sender<Result<CallsResponse, Status>>;

/// One stream of calls, seen from the allocator.
struct Peer {
    incoming: Streaming<CallsRequest>,
    outgoing: Outgoing,
}

impl Peer {
    /// Numbers and calls of the next message.
    async fn message(&mut self) -> Vec<(u64, Bytes)> {
        let message = timeout(PATIENCE, self.incoming.message()).await.unwrap().unwrap().unwrap();
        message.calls.into_iter().map(|call| (call.number, call.call)).collect()
    }

    async fn answer(&self, results: Vec<CallResult>) {
        self.outgoing.send(Ok(CallsResponse { results })).await.unwrap();
    }
}

struct Fake {
    streams: mpsc::Sender<Peer>,
    refusal: Mutex<Option<Status>>,
}

#[tonic::async_trait]
impl Scheduler for Fake {
    type SubscribeStream = ReceiverStream<Result<SubscribeResponse, Status>>;
    type CallsStream = Pin<Box<dyn Stream<Item = Result<CallsResponse, Status>> + Send>>;

    async fn subscribe(
        &self,
        _: Request<SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn calls(
        &self,
        request: Request<Streaming<CallsRequest>>,
    ) -> Result<Response<Self::CallsStream>, Status> {
        if let Some(refusal) = self.refusal.lock().unwrap().clone() {
            return Err(refusal);
        }
        let (outgoing, results) = mpsc::channel(16);
        self.streams.send(Peer { incoming: request.into_inner(), outgoing }).await.unwrap();
        Ok(Response::new(ReceiverStream::new(results).boxed()))
    }
}

async fn start(env: &Env, refusal: Option<Status>) -> (Calls, mpsc::Receiver<Peer>) {
    let (streams, peers) = mpsc::channel(4);
    let fake = Fake { streams, refusal: Mutex::new(refusal) };
    let listener = env.transport.bind("allocator").await.unwrap();
    serve(env, "allocator", listener, Routes::new(SchedulerServer::new(fake))).await;
    (Calls::open(env, connect(env, "allocator")), peers)
}

fn taken(number: u64) -> CallResult {
    CallResult { number, revision: number + 100, ..CallResult::default() }
}

fn not_sent(status: &Status) -> bool {
    status.source().is_some_and(|cause| cause.is::<NotSent>())
}

#[tokio::test]
async fn calls_that_wait_go_together_in_order_and_each_gets_its_answer() {
    let env = Env::in_memory();
    let (calls, mut peers) = start(&env, None).await;
    let mut answers = Vec::new();
    // Nothing is sent before this task waits, so all of them wait.
    for number in 0..100_u64 {
        answers.push(calls.send("s", number.to_string().into(), String::new()).await.unwrap());
    }
    let mut peer = peers.recv().await.unwrap();
    let (mut seen, mut messages) = (Vec::new(), 0);
    while seen.len() < 100 {
        seen.extend(peer.message().await);
        messages += 1;
    }
    assert!(messages <= 2, "{messages} messages for what fits into one");
    for (at, (number, call)) in seen.iter().enumerate() {
        assert_eq!((at.to_string().as_bytes(), at as u64), (&call[..], *number));
    }
    // In any order: here backwards, and one refused.
    let mut results: Vec<_> = seen.iter().rev().map(|(number, _)| taken(*number)).collect();
    (results[0].code, results[0].message) = (Code::InvalidArgument.into(), "no".to_owned());
    peer.answer(results).await;
    let mut answers =
        timeout(PATIENCE, join_all(answers.into_iter().map(|answer| answer.wait()))).await.unwrap();
    let refused = answers.pop().unwrap().unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::InvalidArgument, "no"));
    for (number, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.unwrap().revision, number as u64 + 100);
    }
    env.tasks.stop();
}

#[tokio::test]
async fn large_calls_do_not_share_a_message_and_one_too_large_fails_alone() {
    let env = Env::in_memory();
    let (calls, mut peers) = start(&env, None).await;
    let large = Bytes::from(vec![7; 700_000]);
    let sending = || calls.send("s", large.clone(), String::new());
    let answers = [sending().await.unwrap(), sending().await.unwrap()];
    let too_large = calls.send("s", vec![7; meshos_mesh::MAX_MESSAGE_BYTES].into(), String::new()).await;
    assert_eq!(too_large.unwrap_err().code(), Code::OutOfRange);
    let mut peer = peers.recv().await.unwrap();
    for number in 0..2 {
        assert_eq!(peer.message().await.len(), 1);
        peer.answer(vec![taken(number)]).await;
    }
    for answer in answers {
        timeout(PATIENCE, answer.wait()).await.unwrap().unwrap();
    }
    env.tasks.stop();
}

#[tokio::test]
async fn a_broken_stream_tells_what_was_sent_from_what_was_not() {
    let env = Env::in_memory();
    let (calls, mut peers) = start(&env, None).await;
    let first = calls.send("s", Bytes::from_static(b"1"), String::new()).await.unwrap();
    let mut peer = peers.recv().await.unwrap();
    assert_eq!(peer.message().await.len(), 1);
    drop(peer);
    let broken = timeout(PATIENCE, first.wait()).await.unwrap().unwrap_err();
    assert!(broken.source().is_some() && !not_sent(&broken), "it may have been carried out: {broken:?}");
    // Sooner or later the stream is known to be over, and what comes then was never sent.
    timeout(PATIENCE, async {
        while !calls.is_over() {
            let sent = calls.call("s", Bytes::from_static(b"2"), String::new()).await.unwrap_err();
            assert!(not_sent(&sent), "{sent:?}");
        }
    })
    .await
    .unwrap();
    assert!(not_sent(&calls.call("s", Bytes::new(), String::new()).await.unwrap_err()));
    env.tasks.stop();
}

#[tokio::test]
async fn a_standby_refuses_all_that_waits() {
    let env = Env::in_memory();
    let (calls, _peers) = start(&env, Some(Status::unavailable("not leading"))).await;
    let calls = &calls;
    let all = (0..10).map(|_| calls.call("s", Bytes::new(), String::new()));
    for answer in timeout(PATIENCE, join_all(all)).await.unwrap() {
        let status = answer.unwrap_err();
        assert!(not_sent(&status) || status.message() == "not leading", "{status:?}");
    }
    env.tasks.stop();
}

#[tokio::test]
async fn where_nobody_listens_nothing_was_sent() {
    let env = Env::in_memory();
    let calls = Calls::open(&env, connect(&env, "nobody"));
    let status = timeout(PATIENCE, calls.call("s", Bytes::new(), String::new())).await.unwrap().unwrap_err();
    assert!(not_sent(&status), "{status:?}");
    env.tasks.stop();
}

#[tokio::test]
async fn without_callers_the_stream_ends_after_the_last_answer() {
    let env = Env::in_memory();
    let (calls, mut peers) = start(&env, None).await;
    let answer = calls.send("s", Bytes::new(), String::new()).await.unwrap();
    drop(calls);
    let mut peer = peers.recv().await.unwrap();
    assert_eq!(peer.message().await.len(), 1);
    assert!(timeout(PATIENCE, peer.incoming.message()).await.unwrap().unwrap().is_none());
    peer.answer(vec![taken(0)]).await;
    timeout(PATIENCE, answer.wait()).await.unwrap().unwrap();
    env.tasks.stop();
}
