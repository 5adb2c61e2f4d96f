//! An app-scheduler that says what the test wants it to.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
};

use meshos_mesh::{Env, Feed, FeedStream, serve};
use meshos_proto::meshos::{
    apps::v1::{
        self as apps, Snapshot, WatchResponse, app_scheduler_server::AppScheduler, watch_response::Body,
    },
    registry::v1::Leader,
};
use meshos_store::{SharedStore, Txn};
use prost::Message;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming, service::Routes};

type Answer<T> = Result<Response<T>, Status>;

pub(crate) struct State {
    pub(crate) snapshot: Snapshot,
    pub(crate) revision: u64,
    feed: Feed<WatchResponse>,
    confirmed: mpsc::UnboundedSender<String>,
    /// How often somebody subscribed.
    pub(crate) subscriptions: usize,
    /// The next snapshot is this one.
    pub(crate) once: Option<Snapshot>,
}

impl State {
    fn next(&mut self, body: Body) -> WatchResponse {
        self.revision += 1;
        WatchResponse { revision: self.revision, body: Some(body) }
    }

    /// Keeps a change, and tells readers.
    pub(crate) fn change(&mut self, delta: apps::Delta) {
        let all = &mut self.snapshot;
        all.apps.retain(|app| {
            !delta.removed_apps.contains(&app.id) && !delta.apps.iter().any(|new| new.id == app.id)
        });
        all.apps.extend(delta.apps.iter().cloned());
        all.instances.retain(|old| {
            !delta.removed_instances.contains(&old.id) && !delta.instances.iter().any(|new| new.id == old.id)
        });
        all.instances.extend(delta.instances.iter().cloned());
        all.health.retain(|old| !delta.health.iter().any(|new| new.instance_id == old.instance_id));
        all.health.extend(delta.health.iter().cloned());
        let response = self.next(Body::Delta(delta));
        self.feed.publish(response);
    }

    /// Ends all streams.
    pub(crate) fn cut(&mut self) {
        self.feed = Feed::new(10_000);
    }
}

#[derive(Clone)]
pub(crate) struct Scheduler(pub(crate) Arc<Mutex<State>>);

impl Scheduler {
    /// Leads from now on; the second part tells of confirmations.
    pub(crate) async fn start(env: &Env, store: &SharedStore) -> (Self, mpsc::UnboundedReceiver<String>) {
        let (confirmed, receiver) = mpsc::unbounded_channel();
        let state = State {
            snapshot: Snapshot::default(),
            revision: 1,
            feed: Feed::new(10_000),
            confirmed,
            subscriptions: 0,
            once: None,
        };
        let scheduler = Self(Arc::new(Mutex::new(state)));
        scheduler.serve(env).await;
        let leader = Leader { instance: "fake".to_owned(), address: "app-scheduler".to_owned(), epoch: 0 };
        let txn = Txn::new().put("leaders/app-scheduler", leader.encode_to_vec());
        store.txn(txn).await.unwrap();
        (scheduler, receiver)
    }

    /// Serves until the environment's tasks stop.
    pub(crate) async fn serve(&self, env: &Env) {
        let listener = env.transport.bind("app-scheduler").await.unwrap();
        let server = apps::app_scheduler_server::AppSchedulerServer::new(self.clone())
            .max_encoding_message_size(meshos_mesh::MAX_MESSAGE_BYTES);
        serve(env, "fake-app-scheduler", listener, Routes::new(server)).await.ready().await;
    }

    pub(crate) fn change(&self, delta: apps::Delta) {
        self.0.lock().unwrap().change(delta);
    }
}

fn not_here<T>() -> Answer<T> {
    Err(Status::unimplemented("not here"))
}

macro_rules! not_here {
    ($($name:ident($request:ident) -> $response:ident;)*) => {
        $(fn $name<'a, 'async_trait>(
            &'a self,
            _: Request<apps::$request>,
        ) -> Pin<Box<dyn Future<Output = Answer<apps::$response>> + Send + 'async_trait>>
        where
            'a: 'async_trait,
            Self: 'async_trait,
        {
            Box::pin(async { not_here() })
        })*
    };
}

#[tonic::async_trait]
impl AppScheduler for Scheduler {
    type WatchStream = FeedStream<WatchResponse>;

    async fn watch(&self, _: Request<apps::WatchRequest>) -> Answer<Self::WatchStream> {
        let mut state = self.0.lock().unwrap();
        state.subscriptions += 1;
        let snapshot = state.once.take().unwrap_or_else(|| state.snapshot.clone());
        let revision = state.revision;
        let first = WatchResponse { revision, body: Some(Body::Snapshot(snapshot)) };
        Ok(Response::new(state.feed.subscribe(first)))
    }

    async fn confirm_left(
        &self,
        request: Request<Streaming<apps::ConfirmLeftRequest>>,
    ) -> Answer<apps::ConfirmLeftResponse> {
        let confirmed = self.0.lock().unwrap().confirmed.clone();
        let mut stream = request.into_inner();
        while let Some(message) = stream.message().await? {
            message.instances.into_iter().for_each(|id| drop(confirmed.send(id)));
        }
        Ok(Response::new(apps::ConfirmLeftResponse {}))
    }

    not_here! {
        create_app(CreateAppRequest) -> ChangeResponse;
        update_apps(UpdateAppsRequest) -> ChangeResponse;
        delete_app(DeleteAppRequest) -> ChangeResponse;
        restart_app(RestartAppRequest) -> ChangeResponse;
        kill_tasks(KillTasksRequest) -> KillTasksResponse;
        cancel_deployment(CancelDeploymentRequest) -> ChangeResponse;
        reset_delay(ResetDelayRequest) -> ChangeResponse;
        list_versions(ListVersionsRequest) -> ListVersionsResponse;
        update_group(UpdateGroupRequest) -> ChangeResponse;
        delete_group(DeleteGroupRequest) -> ChangeResponse;
        set_enforce_role(SetEnforceRoleRequest) -> ChangeResponse;
        list_group_versions(ListGroupVersionsRequest) -> ListGroupVersionsResponse;
        get_group_version(GetGroupVersionRequest) -> GetGroupVersionResponse;
        abdicate(AbdicateRequest) -> AbdicateResponse;
        list_unused_offers(ListUnusedOffersRequest) -> ListUnusedOffersResponse;
    }
}
