//! A gateway with both leaders behind it.

use std::{sync::Arc, time::Duration};

use meshos_gateway::{Config, Handle};
use meshos_mesh::Env;
use meshos_proto::meshos::{
    allocator::v1::{self as allocator, operator_server::OperatorServer, scheduler_server::SchedulerServer},
    apps::v1::{self as apps, app_scheduler_server::AppSchedulerServer},
    registry::v1::Leader,
};
use meshos_store::{Embedded, SharedStore, Txn};
use prost::Message;
use tonic::service::Routes;

use crate::fakes::{Fake, Shared};

pub(crate) struct Scene {
    pub(crate) env: Env,
    pub(crate) store: SharedStore,
    pub(crate) handle: Handle,
    pub(crate) allocator: Arc<Fake<allocator::WatchResponse>>,
    pub(crate) apps: Arc<Fake<apps::WatchResponse>>,
}

impl Scene {
    /// Both leaders lead and were heard of.
    pub(crate) async fn new() -> Self {
        let scene = Self::leaderless(Config::default()).await;
        scene.lead("allocator").await;
        scene.lead("app-scheduler").await;
        scene.handle.cluster_synced().await;
        scene.handle.apps_synced().await;
        scene
    }

    /// Both services run and neither leads.
    pub(crate) async fn leaderless(config: Config) -> Self {
        let env = Env::in_memory();
        let store: SharedStore = Arc::new(Embedded::in_memory());
        let allocator = Fake::new(cluster_snapshot(1, allocator::Snapshot::default()));
        let apps = Fake::new(apps_snapshot(1, apps::Snapshot::default()));
        serve(&env, "allocator", allocator_routes(&allocator)).await;
        let routes = Routes::new(AppSchedulerServer::new(Shared(Arc::clone(&apps))));
        serve(&env, "app-scheduler", routes).await;
        let handle = meshos_gateway::start(&env, Arc::clone(&store), config).await.unwrap();
        Self { env, store, handle, allocator, apps }
    }

    /// The service of this name leads from now on.
    pub(crate) async fn lead(&self, service: &str) {
        self.lead_at(service, service).await;
    }

    /// Another allocator, which does not lead yet.
    pub(crate) async fn another_allocator(
        &self,
        address: &'static str,
    ) -> Arc<Fake<allocator::WatchResponse>> {
        let allocator = Fake::new(cluster_snapshot(2, allocator::Snapshot::default()));
        serve(&self.env, address, allocator_routes(&allocator)).await;
        allocator
    }

    /// What serves at `address` leads from now on.
    pub(crate) async fn lead_at(&self, service: &str, address: &str) {
        let leader = Leader { instance: address.to_owned(), address: address.to_owned(), epoch: 0 };
        let txn = Txn::new().put(format!("leaders/{service}"), leader.encode_to_vec());
        self.store.txn(txn).await.unwrap();
    }

    pub(crate) fn mesos(&self) -> &str {
        &self.handle.mesos_address
    }

    pub(crate) fn marathon(&self) -> &str {
        &self.handle.marathon_address
    }

    pub(crate) async fn stop(self) {
        assert!(self.env.tasks.shutdown(Duration::from_secs(10)).await, "all tasks end");
    }
}

fn allocator_routes(allocator: &Arc<Fake<allocator::WatchResponse>>) -> Routes {
    Routes::new(SchedulerServer::new(Shared(Arc::clone(allocator))))
        .add_service(OperatorServer::new(Shared(Arc::clone(allocator))))
}

async fn serve(env: &Env, name: &'static str, routes: Routes) {
    let listener = env.transport.bind(name).await.unwrap();
    meshos_mesh::serve(env, name, listener, routes).await;
}

pub(crate) fn cluster_snapshot(epoch: u64, snapshot: allocator::Snapshot) -> allocator::WatchResponse {
    let body = Some(allocator::watch_response::Body::Snapshot(snapshot));
    allocator::WatchResponse { epoch, revision: 1, body }
}

pub(crate) fn cluster_delta(
    revision: u64,
    changes: Vec<allocator::change::Body>,
) -> allocator::WatchResponse {
    let changes = changes.into_iter().map(|body| allocator::Change { body: Some(body) }).collect();
    let body = Some(allocator::watch_response::Body::Delta(allocator::Delta { changes }));
    allocator::WatchResponse { epoch: 1, revision, body }
}

pub(crate) fn apps_snapshot(revision: u64, snapshot: apps::Snapshot) -> apps::WatchResponse {
    apps::WatchResponse { revision, body: Some(apps::watch_response::Body::Snapshot(snapshot)) }
}

pub(crate) fn apps_delta(revision: u64, delta: apps::Delta) -> apps::WatchResponse {
    apps::WatchResponse { revision, body: Some(apps::watch_response::Body::Delta(delta)) }
}
