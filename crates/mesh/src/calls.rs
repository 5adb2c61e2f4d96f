//! Calls of frameworks to an allocator over one stream: whatever waits when the connection is ready goes out together.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use futures::{Stream, stream};
use meshos_proto::meshos::allocator::v1::{
    CallResult, CallsRequest, CallsResponse, NumberedCall, scheduler_client::SchedulerClient,
};
use tokio::sync::{mpsc, oneshot};
use tonic::{Code, Status, Streaming};

use crate::{Env, MAX_MESSAGE_BYTES, MeshChannel};

/// Calls that may wait to be sent; senders beyond wait in turn.
const WAITING: usize = 4096;
/// Calls in one message at most,
const TOGETHER: usize = 256;
/// and their bytes, about; a larger call goes alone.
const TOGETHER_BYTES: usize = 1 << 20;
/// What stands around a call in a message, at most.
const ENVELOPE: usize = 1024;

/// The call was never sent: it can be made again over another stream without harm.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the stream of calls ended before this call was sent")]
pub struct NotSent;

/// Sends calls to one allocator, in order; cheap to clone. Its stream ends with the last clone, or breaks: then every
/// call fails, and calls go on over a new one.
#[derive(Clone, Debug)]
pub struct Calls {
    queue: mpsc::Sender<Waiting>,
}

impl Calls {
    /// Opens a stream over `channel`, in a task of `env`.
    #[must_use]
    pub fn open(env: &Env, channel: MeshChannel) -> Self {
        let (queue, waiting) = mpsc::channel(WAITING);
        let client = SchedulerClient::new(channel)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
            .max_decoding_message_size(MAX_MESSAGE_BYTES);
        env.tasks.spawn("calls", run(client, waiting));
        Self { queue }
    }

    /// Whether the stream has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.queue.is_closed()
    }

    /// Queues an encoded `mesos.v1.scheduler.Call`; waits only while too many wait already. Calls keep the order in
    /// which this returns.
    ///
    /// # Errors
    /// OUT_OF_RANGE when the call is too large; a status whose cause is [`NotSent`] when the stream has ended.
    pub async fn send(&self, stream_id: &str, call: Bytes, traceparent: String) -> Result<Answer, Status> {
        let limit = MAX_MESSAGE_BYTES - ENVELOPE;
        if call.len() + stream_id.len() + traceparent.len() > limit {
            let text = format!("the call has {} bytes, more than the {limit} that are possible", call.len());
            return Err(Status::out_of_range(text));
        }
        let (reply, answer) = oneshot::channel();
        let call = NumberedCall { number: 0, stream_id: stream_id.to_owned(), call, traceparent };
        let waiting = Waiting { call, reply: Some(reply) };
        // What is not taken says by itself that it was not sent.
        let _ = self.queue.send(waiting).await;
        Ok(Answer(answer))
    }

    /// Makes a call and waits for its answer.
    ///
    /// # Errors
    /// As [`Calls::send`] and [`Answer::wait`].
    pub async fn call(
        &self,
        stream_id: &str,
        call: Bytes,
        traceparent: String,
    ) -> Result<CallResult, Status> {
        self.send(stream_id, call, traceparent).await?.wait().await
    }
}

type Reply = oneshot::Sender<Result<CallResult, Status>>;

/// The answer to a call, which will come.
#[derive(Debug)]
pub struct Answer(oneshot::Receiver<Result<CallResult, Status>>);

impl Answer {
    /// Waits for it.
    ///
    /// # Errors
    /// The allocator's refusal; a status with a cause when the stream broke: then the call may have been carried out,
    /// unless the cause is [`NotSent`].
    pub async fn wait(self) -> Result<CallResult, Status> {
        let result = self.0.await.unwrap_or_else(|_| Err(broken()))?;
        match Code::from(result.code) {
            Code::Ok => Ok(result),
            code => Err(Status::new(code, result.message)),
        }
    }
}

fn broken() -> Status {
    let error = io::Error::new(io::ErrorKind::BrokenPipe, "the stream of calls broke");
    Status::from_error(Box::new(error))
}

/// A call that waits to be sent. Dropped before, it is answered with [`NotSent`].
#[derive(Debug)]
struct Waiting {
    call: NumberedCall,
    reply: Option<Reply>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(reply) = self.reply.take() {
            // Whoever asked may have gone.
            let _ = reply.send(Err(Status::from_error(Box::new(NotSent))));
        }
    }
}

/// Calls that were sent and are not answered, by number.
#[derive(Debug, Default)]
struct Open {
    /// Number of the first slot.
    first: u64,
    /// None: answered.
    replies: VecDeque<Option<Reply>>,
    /// Nothing is sent any more.
    ended: bool,
}

impl Open {
    /// Numbers a call that goes out now.
    fn enter(&mut self, mut waiting: Waiting) -> NumberedCall {
        waiting.call.number = self.first + self.replies.len() as u64;
        self.replies.push_back(waiting.reply.take());
        std::mem::take(&mut waiting.call)
    }

    fn answer(&mut self, result: CallResult) {
        let slot = result.number.checked_sub(self.first).and_then(|slot| usize::try_from(slot).ok());
        if let Some(reply) = slot.and_then(|slot| self.replies.get_mut(slot)).and_then(Option::take) {
            let _ = reply.send(Ok(result));
        }
        while let Some(None) = self.replies.front() {
            self.replies.pop_front();
            self.first += 1;
        }
    }

    fn end(&mut self, status: &Status) {
        self.ended = true;
        for reply in self.replies.drain(..).flatten() {
            let _ = reply.send(Err(status.clone()));
        }
    }
}

type SharedOpen = Arc<Mutex<Open>>;

fn lock(open: &SharedOpen) -> MutexGuard<'_, Open> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn run(mut client: SchedulerClient<MeshChannel>, waiting: mpsc::Receiver<Waiting>) {
    let open = SharedOpen::default();
    let status = match client.calls(requests(waiting, Arc::clone(&open))).await {
        Ok(response) => read(response.into_inner(), &open).await,
        Err(status) => status,
    };
    lock(&open).end(&status);
}

/// Messages of what waits. Made where the connection sends: each time it is ready, of all that came meanwhile.
fn requests(waiting: mpsc::Receiver<Waiting>, open: SharedOpen) -> impl Stream<Item = CallsRequest> {
    let state = (waiting, open, None);
    stream::unfold(state, |(mut waiting, open, mut next)| async move {
        let first = match next.take() {
            Some(first) => first,
            None => waiting.recv().await?,
        };
        let mut batch = vec![first];
        let mut bytes = batch[0].call.call.len();
        while batch.len() < TOGETHER
            && let Ok(another) = waiting.try_recv()
        {
            bytes += another.call.call.len();
            if bytes > TOGETHER_BYTES {
                next = Some(another);
                break;
            }
            batch.push(another);
        }
        let mut entered = lock(&open);
        if entered.ended {
            return None;
        }
        let calls = batch.into_iter().map(|call| entered.enter(call)).collect();
        drop(entered);
        Some((CallsRequest { calls }, (waiting, open, next)))
    })
}

/// Hands out answers until the stream ends, which is always an error for those who still wait.
async fn read(mut results: Streaming<CallsResponse>, open: &SharedOpen) -> Status {
    loop {
        match results.message().await {
            Ok(Some(response)) => {
                let mut open = lock(open);
                response.results.into_iter().for_each(|result| open.answer(result));
            }
            Ok(None) => return broken(),
            Err(status) => return status,
        }
    }
}
