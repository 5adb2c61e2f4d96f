//! Leaders that say what the test tells them to.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use futures::StreamExt;
use meshos_mesh::FeedStream;
use meshos_proto::meshos::{
    allocator::v1::{self as allocator, operator_server::Operator, scheduler_server::Scheduler},
    apps::v1::{self as apps, app_scheduler_server::AppScheduler},
};
use meshos_proto::mesos::v1::scheduler::Call;
use prost::Message as _;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// A `Watch` that can be broken.
pub(crate) struct Feed<T> {
    feed: Mutex<meshos_mesh::Feed<T>>,
    /// In parts.
    snapshot: Mutex<Vec<T>>,
}

/// The parts of a snapshot, then changes.
type Stream<T> =
    futures::stream::Chain<futures::stream::Iter<std::vec::IntoIter<Result<T, Status>>>, FeedStream<T>>;

impl<T: Clone + Send + 'static> Feed<T> {
    pub(crate) fn new(snapshot: T) -> Self {
        Self { feed: Mutex::new(meshos_mesh::Feed::new(16)), snapshot: Mutex::new(vec![snapshot]) }
    }

    pub(crate) fn publish(&self, change: T) {
        self.feed.lock().unwrap().publish(change);
    }

    /// Ends all streams; later ones begin with `snapshot`.
    pub(crate) fn restart(&self, snapshot: T) {
        self.restart_in_parts(vec![snapshot]);
    }

    /// The same with a snapshot of several messages.
    pub(crate) fn restart_in_parts(&self, snapshot: Vec<T>) {
        *self.snapshot.lock().unwrap() = snapshot;
        *self.feed.lock().unwrap() = meshos_mesh::Feed::new(16);
    }

    fn subscribe(&self) -> Stream<T> {
        let mut parts = self.snapshot.lock().unwrap().clone();
        let last = parts.pop().unwrap();
        let parts: Vec<_> = parts.into_iter().map(Ok).collect();
        futures::stream::iter(parts).chain(self.feed.lock().unwrap().subscribe(last))
    }
}

/// What was asked, and what is answered: refusals first, then success.
pub(crate) struct Fake<W> {
    pub(crate) watch: Feed<W>,
    /// One more than messages of calls that are still to be met with the end of their stream; 0: none.
    pub(crate) hang_ups: Mutex<usize>,
    /// Every call, in its debug form.
    pub(crate) calls: Mutex<Vec<String>>,
    pub(crate) refusals: Mutex<VecDeque<Status>>,
    /// Epoch and revision that changes of the cluster are answered with.
    pub(crate) written: Mutex<(u64, u64)>,
    /// Answer of calls that change apps.
    pub(crate) change: Mutex<apps::ChangeResponse>,
    pub(crate) killed: Mutex<apps::KillTasksResponse>,
    pub(crate) unused: Mutex<apps::ListUnusedOffersResponse>,
    /// Trace context of the newest call of a framework.
    pub(crate) traceparent: Mutex<String>,
    /// The sender of the newest event stream.
    pub(crate) events: watch::Sender<Option<mpsc::Sender<Result<allocator::SubscribeResponse, Status>>>>,
}

impl<W: Clone + Send + 'static> Fake<W> {
    pub(crate) fn new(snapshot: W) -> Arc<Self> {
        Arc::new(Self {
            watch: Feed::new(snapshot),
            hang_ups: Mutex::default(),
            calls: Mutex::default(),
            refusals: Mutex::default(),
            written: Mutex::default(),
            change: Mutex::default(),
            killed: Mutex::default(),
            unused: Mutex::default(),
            traceparent: Mutex::default(),
            events: watch::Sender::new(None),
        })
    }

    pub(crate) fn refuse(&self, status: Status) {
        self.refusals.lock().unwrap().push_back(status);
    }

    pub(crate) fn last_call(&self) -> String {
        self.calls.lock().unwrap().last().cloned().unwrap_or_default()
    }

    fn take(&self, request: &impl std::fmt::Debug) -> Result<(), Status> {
        self.calls.lock().unwrap().push(format!("{request:?}"));
        self.refusals.lock().unwrap().pop_front().map_or(Ok(()), Err)
    }
}

/// A framework's call, as it is remembered.
#[derive(Debug)]
#[allow(dead_code, reason = "read as text")]
struct Called {
    stream_id: String,
    call: Call,
}

impl Fake<allocator::WatchResponse> {
    /// Whether the stream of calls goes on, or ends without an answer to what came.
    fn goes_on(&self) -> bool {
        let mut left = self.hang_ups.lock().unwrap();
        *left = left.saturating_sub(1);
        *left == 0
    }

    fn call(&self, numbered: allocator::NumberedCall) -> allocator::CallResult {
        let allocator::NumberedCall { number, stream_id, call, traceparent } = numbered;
        *self.traceparent.lock().unwrap() = traceparent;
        let call = Call::decode(call).unwrap();
        let result = self.take(&Called { stream_id, call });
        let (code, message) = result
            .err()
            .map_or((0, String::new()), |status| (status.code().into(), status.message().to_owned()));
        allocator::CallResult { number, code, message, ..allocator::CallResult::default() }
    }
}

pub(crate) struct Shared<W>(pub(crate) Arc<Fake<W>>);
pub(crate) type FakeAllocator = Shared<allocator::WatchResponse>;
pub(crate) type FakeApps = Shared<apps::WatchResponse>;
type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Scheduler for FakeAllocator {
    type SubscribeStream = ReceiverStream<Result<allocator::SubscribeResponse, Status>>;
    type CallsStream =
        std::pin::Pin<Box<dyn futures::Stream<Item = Result<allocator::CallsResponse, Status>> + Send>>;

    async fn subscribe(
        &self,
        request: Request<allocator::SubscribeRequest>,
    ) -> Answer<Self::SubscribeStream> {
        self.0.take(request.get_ref())?;
        let (sender, receiver) = mpsc::channel(16);
        self.0.events.send_replace(Some(sender));
        let mut response = Response::new(ReceiverStream::new(receiver));
        response.metadata_mut().insert("mesos-stream-id", "stream-1".parse().unwrap());
        Ok(response)
    }

    async fn calls(&self, request: Request<Streaming<allocator::CallsRequest>>) -> Answer<Self::CallsStream> {
        let fake = Arc::clone(&self.0);
        let hangs_up = Arc::clone(&self.0);
        let requests = request
            .into_inner()
            .take_while(move |request| futures::future::ready(request.is_ok() && hangs_up.goes_on()));
        let results = requests.map(move |request| {
            let calls = request.unwrap().calls;
            Ok(allocator::CallsResponse { results: calls.into_iter().map(|call| fake.call(call)).collect() })
        });
        Ok(Response::new(Box::pin(results)))
    }
}

#[tonic::async_trait]
impl Operator for FakeAllocator {
    type WatchStream = Stream<allocator::WatchResponse>;

    async fn watch(&self, _: Request<allocator::WatchRequest>) -> Answer<Self::WatchStream> {
        Ok(Response::new(self.0.watch.subscribe()))
    }

    async fn teardown(
        &self,
        request: Request<allocator::TeardownRequest>,
    ) -> Answer<allocator::TeardownResponse> {
        self.0.take(request.get_ref())?;
        let (epoch, revision) = *self.0.written.lock().unwrap();
        Ok(Response::new(allocator::TeardownResponse { epoch, revision }))
    }

    async fn update_weights(
        &self,
        request: Request<allocator::UpdateWeightsRequest>,
    ) -> Answer<allocator::UpdateWeightsResponse> {
        self.0.take(request.get_ref())?;
        let (epoch, revision) = *self.0.written.lock().unwrap();
        Ok(Response::new(allocator::UpdateWeightsResponse { epoch, revision }))
    }

    async fn update_quota(
        &self,
        request: Request<allocator::UpdateQuotaRequest>,
    ) -> Answer<allocator::UpdateQuotaResponse> {
        self.0.take(request.get_ref())?;
        let (epoch, revision) = *self.0.written.lock().unwrap();
        Ok(Response::new(allocator::UpdateQuotaResponse { epoch, revision }))
    }

    async fn apply(&self, request: Request<allocator::ApplyRequest>) -> Answer<allocator::ApplyResponse> {
        self.0.take(request.get_ref())?;
        let (epoch, revision) = *self.0.written.lock().unwrap();
        Ok(Response::new(allocator::ApplyResponse { epoch, revision }))
    }

    async fn explain(
        &self,
        request: Request<allocator::ExplainRequest>,
    ) -> Answer<allocator::ExplainResponse> {
        self.0.take(request.get_ref())?;
        let refusals = [("filter".to_owned(), 3)].into();
        let explanation = allocator::Explanation {
            framework_id: "f".to_owned(),
            role: "eng".to_owned(),
            refusals,
            ..Default::default()
        };
        Ok(Response::new(allocator::ExplainResponse { explanations: vec![explanation] }))
    }

    async fn metrics(&self, _: Request<allocator::MetricsRequest>) -> Answer<allocator::MetricsResponse> {
        let values =
            [("master/tasks_finished".to_owned(), 7.0), ("master/messages_kill_task".to_owned(), 2.0)];
        Ok(Response::new(allocator::MetricsResponse { values: values.into() }))
    }
}

impl FakeApps {
    fn changed(&self, request: &impl std::fmt::Debug) -> Answer<apps::ChangeResponse> {
        self.0.take(request)?;
        Ok(Response::new(self.0.change.lock().unwrap().clone()))
    }
}

#[tonic::async_trait]
impl AppScheduler for FakeApps {
    type WatchStream = Stream<apps::WatchResponse>;

    async fn watch(&self, _: Request<apps::WatchRequest>) -> Answer<Self::WatchStream> {
        Ok(Response::new(self.0.watch.subscribe()))
    }
    async fn create_app(&self, request: Request<apps::CreateAppRequest>) -> Answer<apps::ChangeResponse> {
        self.changed(request.get_ref())
    }
    async fn update_apps(&self, request: Request<apps::UpdateAppsRequest>) -> Answer<apps::ChangeResponse> {
        self.changed(request.get_ref())
    }
    async fn delete_app(&self, request: Request<apps::DeleteAppRequest>) -> Answer<apps::ChangeResponse> {
        self.changed(request.get_ref())
    }
    async fn restart_app(&self, request: Request<apps::RestartAppRequest>) -> Answer<apps::ChangeResponse> {
        self.changed(request.get_ref())
    }
    async fn kill_tasks(&self, request: Request<apps::KillTasksRequest>) -> Answer<apps::KillTasksResponse> {
        self.0.take(request.get_ref())?;
        Ok(Response::new(self.0.killed.lock().unwrap().clone()))
    }
    async fn cancel_deployment(
        &self,
        request: Request<apps::CancelDeploymentRequest>,
    ) -> Answer<apps::ChangeResponse> {
        self.changed(request.get_ref())
    }
    async fn reset_delay(&self, request: Request<apps::ResetDelayRequest>) -> Answer<apps::ChangeResponse> {
        self.changed(request.get_ref())
    }
    async fn list_versions(
        &self,
        request: Request<apps::ListVersionsRequest>,
    ) -> Answer<apps::ListVersionsResponse> {
        self.0.take(request.get_ref())?;
        let versions = self.0.change.lock().unwrap().apps.clone();
        Ok(Response::new(apps::ListVersionsResponse { versions }))
    }
    async fn update_group(&self, request: Request<apps::UpdateGroupRequest>) -> Answer<apps::ChangeResponse> {
        self.changed(request.get_ref())
    }
    async fn delete_group(&self, request: Request<apps::DeleteGroupRequest>) -> Answer<apps::ChangeResponse> {
        self.changed(request.get_ref())
    }
    async fn set_enforce_role(
        &self,
        request: Request<apps::SetEnforceRoleRequest>,
    ) -> Answer<apps::ChangeResponse> {
        self.changed(request.get_ref())
    }
    async fn list_group_versions(
        &self,
        request: Request<apps::ListGroupVersionsRequest>,
    ) -> Answer<apps::ListGroupVersionsResponse> {
        self.0.take(request.get_ref())?;
        Ok(Response::new(apps::ListGroupVersionsResponse { versions_ms: vec![1] }))
    }
    async fn get_group_version(
        &self,
        request: Request<apps::GetGroupVersionRequest>,
    ) -> Answer<apps::GetGroupVersionResponse> {
        self.0.take(request.get_ref())?;
        let apps = self.0.change.lock().unwrap().apps.clone();
        Ok(Response::new(apps::GetGroupVersionResponse { apps, groups: Vec::new() }))
    }
    async fn confirm_left(
        &self,
        request: Request<tonic::Streaming<apps::ConfirmLeftRequest>>,
    ) -> Answer<apps::ConfirmLeftResponse> {
        let mut messages = request.into_inner();
        while let Some(message) = messages.message().await? {
            self.0.take(&message)?;
        }
        Ok(Response::new(apps::ConfirmLeftResponse {}))
    }
    async fn list_unused_offers(
        &self,
        request: Request<apps::ListUnusedOffersRequest>,
    ) -> Answer<apps::ListUnusedOffersResponse> {
        self.0.take(request.get_ref())?;
        Ok(Response::new(self.0.unused.lock().unwrap().clone()))
    }
    async fn abdicate(&self, request: Request<apps::AbdicateRequest>) -> Answer<apps::AbdicateResponse> {
        self.0.take(request.get_ref())?;
        Ok(Response::new(apps::AbdicateResponse {}))
    }
}
