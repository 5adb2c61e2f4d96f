//! Calls on their way to the allocator, in order, over one stream.

use std::{path::PathBuf, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use meshos_mesh::{Answer, trace};
use meshos_proto::mesos::v1::scheduler::{Call, call};
use prost::Message as _;
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tracing::{Span, warn};

use super::{FromLink, Sent};
use crate::{core::Input, service::secrets};

/// Calls of one queue that wait for their answers; the allocator refuses those beyond some thousand.
const UNDER_WAY: usize = 500;
/// An answer may take this long.
const DEADLINE: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub(super) struct Caller {
    pub calls: meshos_mesh::Calls,
    pub stream_id: String,
    pub broken: CancellationToken,
    pub events: mpsc::Sender<FromLink>,
    pub secrets_dir: Option<PathBuf>,
}

/// A call that was sent.
struct UnderWay {
    kind: &'static str,
    /// Tasks of an ACCEPT.
    task_ids: Vec<String>,
    answer: Answer,
}

impl Caller {
    /// Sends the calls of a queue in their order, without waiting for answers.
    pub(super) async fn run(self, mut calls: mpsc::Receiver<Sent>) {
        let mut answers = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                Some(()) = answers.next() => {}
                sent = calls.recv(), if answers.len() < UNDER_WAY => match sent {
                    Some(sent) => match self.send(sent).await {
                        Ok(under_way) => answers.push(self.answered(under_way)),
                        Err((kind, status)) => self.failed(kind, &status),
                    },
                    None => return,
                },
            }
        }
    }

    async fn send(&self, mut sent: Sent) -> Result<UnderWay, (&'static str, Status)> {
        let missing = secrets::resolve(self.secrets_dir.as_deref(), &mut sent.call).await;
        for one in missing {
            warn!(task_id = one.task_id, message = one.message, "task is not launched");
            self.not_launched(vec![one.task_id], one.message).await;
        }
        let span = sent.spans.first().cloned().unwrap_or_else(Span::none);
        let kind = sent.call.r#type().as_str_name();
        let call = sent.call.encode_to_vec().into();
        let sending = self.calls.send(&self.stream_id, call, trace::of(&span));
        let answer = sending.await.map_err(|status| (kind, status))?;
        Ok(UnderWay { kind, task_ids: task_ids(&sent.call), answer })
    }

    async fn answered(&self, UnderWay { kind, task_ids, answer }: UnderWay) {
        let late = |_| Err(Status::deadline_exceeded("no answer"));
        let Err(status) = timeout(DEADLINE, answer.wait()).await.unwrap_or_else(late) else { return };
        if status.code() != Code::InvalidArgument {
            return self.failed(kind, &status);
        }
        warn!(call = kind, message = status.message(), "call refused");
        // Tasks of a refused ACCEPT do not exist.
        if !task_ids.is_empty() {
            self.not_launched(task_ids, status.message().to_owned()).await;
        }
    }

    fn failed(&self, kind: &'static str, status: &Status) {
        warn!(call = kind, code = ?status.code(), message = status.message(), "call failed");
        self.broken.cancel();
    }

    async fn not_launched(&self, task_ids: Vec<String>, message: String) {
        let input = Input::LaunchRefused { task_ids, message };
        // Nobody listens once the lead is lost.
        let _ = self.events.send(FromLink::Inputs(vec![input])).await;
    }
}

fn task_ids(call: &Call) -> Vec<String> {
    if call.r#type() != call::Type::Accept {
        return Vec::new();
    }
    let operations = call.accept.iter().flat_map(|accept| &accept.operations);
    let launches = operations.filter_map(|operation| operation.launch.as_ref());
    launches.flat_map(|launch| &launch.task_infos).map(|task| task.task_id.value.clone()).collect()
}
