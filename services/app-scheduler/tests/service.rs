//! The service over in-memory channels and an in-memory store, with an allocator that the test plays by hand.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

#[path = "service/allocator.rs"]
mod allocator;
#[path = "service/faulty.rs"]
mod faulty;

use std::{sync::Arc, time::Duration};

use allocator::{Fake, status};
use faulty::Faulty;
use meshos_app_scheduler::{Config, Handle};
use meshos_mesh::{Env, MeshChannel, connect};
use meshos_proto::{
    meshos::apps::v1::{
        AppUpdate, Condition, CreateAppRequest, DeleteAppRequest, ErrorDetail, ErrorKind, Instance,
        WatchRequest, WatchResponse, app_scheduler_client::AppSchedulerClient, watch_response::Body,
    },
    mesos::v1::{TaskState, scheduler::call},
};
use meshos_store::{Embedded, SharedStore};
use prost::Message;
use tokio::time::timeout;
use tonic::{Code, Streaming};

/// Far more than anything here takes, also on a machine that does much else.
const LONG: Duration = Duration::from_secs(120);
/// A leader that is not heard of for so long is gone. None is on a machine that does much else.
const LEASE: Duration = Duration::from_secs(10);

struct World {
    env: Env,
    store: SharedStore,
    faulty: Arc<Faulty>,
    fake: Fake,
}

impl World {
    async fn new() -> Self {
        let env = Env::in_memory();
        let embedded = Embedded::in_memory();
        env.tasks.spawn("leases", embedded.run_leases());
        let faulty = Arc::new(Faulty::new(Arc::new(embedded)));
        let store: SharedStore = faulty.clone();
        let fake = Fake::start(&env, &store).await;
        Self { env, store, faulty, fake }
    }

    /// A replica with tasks of its own, so that it can be stopped alone.
    async fn replica(&self, name: &str) -> (Env, Handle) {
        let env = self.env.child();
        let config = Config { lease_ttl: LEASE, ..Config::new(name, name) };
        let handle = meshos_app_scheduler::start(&env, self.store.clone(), config).await.unwrap();
        (env, handle)
    }

    fn client(&self, address: &str) -> AppSchedulerClient<MeshChannel> {
        AppSchedulerClient::new(connect(&self.env, address))
    }

    /// Watches the replica as soon as it leads.
    async fn watch(&self, address: &str) -> Reader {
        let watching = async {
            loop {
                match self.client(address).watch(WatchRequest {}).await {
                    Ok(stream) => return stream.into_inner(),
                    Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status}"),
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let stream = timeout(LONG, watching).await.expect("nobody leads");
        Reader { stream, revision: 0, instances: Vec::new(), apps: Vec::new() }
    }

    async fn end(self) {
        self.env.tasks.shutdown(LONG).await;
    }
}

/// A reader's view of the instances.
struct Reader {
    stream: Streaming<WatchResponse>,
    revision: u64,
    instances: Vec<Instance>,
    apps: Vec<String>,
}

impl Reader {
    async fn next(&mut self) {
        let response =
            timeout(LONG, self.stream.message()).await.expect("no change").unwrap().expect("stream ended");
        assert!(response.revision >= self.revision, "revisions never go back");
        self.revision = response.revision;
        let (apps, removed_apps, instances, removed) = match response.body.unwrap() {
            Body::Snapshot(all) => {
                self.apps.clear();
                self.instances.clear();
                (all.apps, Vec::new(), all.instances, Vec::new())
            }
            Body::Delta(delta) => (delta.apps, delta.removed_apps, delta.instances, delta.removed_instances),
        };
        self.apps.extend(apps.into_iter().map(|app| app.id));
        self.apps.retain(|id| !removed_apps.contains(id));
        for instance in instances {
            self.instances.retain(|old| old.id != instance.id);
            self.instances.push(instance);
        }
        self.instances.retain(|instance| !removed.contains(&instance.id));
    }

    async fn until(&mut self, holds: impl Fn(&Self) -> bool) {
        while !holds(self) {
            self.next().await;
        }
    }

    fn count(&self, condition: Condition) -> usize {
        self.instances.iter().filter(|instance| instance.condition() == condition).count()
    }
}

fn app(id: &str, instances: u32) -> CreateAppRequest {
    let app = AppUpdate {
        id: Some(id.into()),
        cmd: Some("sleep 1000".into()),
        cpus: Some(0.01),
        mem: Some(1.0),
        instances: Some(instances),
        ..Default::default()
    };
    CreateAppRequest { app: Some(app), ..Default::default() }
}

#[tokio::test]
async fn an_app_is_launched_watched_and_survives_a_restart_of_the_service() {
    let mut world = World::new().await;
    let (first, handle) = world.replica("one").await;
    let mut reader = world.watch(handle.address()).await;
    let info = world.fake.subscribed().await;
    assert_eq!((info.name.as_str(), info.id, info.checkpoint), ("marathon", None, Some(true)));
    assert_eq!(info.failover_timeout, Some(604_800.0));
    reader.next().await;
    assert!(reader.apps.is_empty());

    let response = world.client(handle.address()).create_app(app("/a", 1)).await.unwrap().into_inner();
    assert!(response.created && response.revision > 0);
    reader.until(|reader| reader.revision >= response.revision).await;
    assert_eq!(reader.apps, ["/a"], "the revision of the answer contains the change");

    world.fake.call(call::Type::Revive).await;
    world.fake.offer("agent-1", 4.0);
    let accept = world.fake.call(call::Type::Accept).await;
    let task = accept.accept.unwrap().operations[0].launch.as_ref().unwrap().task_infos[0].clone();
    assert_eq!(task.command.unwrap().value.as_deref(), Some("sleep 1000"));
    reader.until(|reader| reader.count(Condition::Provisioned) == 1).await;
    world.fake.update(status(&task.task_id, TaskState::TaskStarting));
    world.fake.update(status(&task.task_id, TaskState::TaskRunning));
    reader.until(|reader| reader.count(Condition::Running) == 1).await;
    world.fake.call(call::Type::Acknowledge).await;
    world.fake.call(call::Type::Acknowledge).await;
    let running = reader.instances.clone();

    assert!(first.tasks.shutdown(LONG).await);
    let (_second, handle) = world.replica("two").await;
    let mut reader = world.watch(handle.address()).await;
    reader.next().await;
    assert_eq!(reader.instances, running, "a new leader knows everything that was stored");
    let info = world.fake.subscribed().await;
    assert_eq!(info.id.unwrap().value, "F-1");
    world.fake.call(call::Type::Suppress).await;
    let reconcile = world.fake.call(call::Type::Reconcile).await.reconcile.unwrap();
    assert_eq!(reconcile.tasks[0].task_id, task.task_id);
    // Offers that come all the same are declined: nothing is launched twice.
    world.fake.offer("agent-1", 4.0);
    world.fake.call(call::Type::Decline).await;
    assert_eq!(world.fake.launched(), 1);
    world.end().await;
}

#[tokio::test]
async fn refusals_carry_their_detail() {
    let world = World::new().await;
    let (_env, handle) = world.replica("one").await;
    let _reader = world.watch(handle.address()).await;
    let mut client = world.client(handle.address());
    let delete = DeleteAppRequest { id: "/x".into(), force: true };
    let error = client.delete_app(delete).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    let detail = ErrorDetail::decode(error.details()).unwrap();
    assert_eq!((detail.kind(), detail.message.as_str()), (ErrorKind::NotFound, "App '/x' does not exist"));
    let error = client.create_app(app("/A_b", 1)).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    let detail = ErrorDetail::decode(error.details()).unwrap();
    assert_eq!((detail.kind(), detail.violations[0].path.as_str()), (ErrorKind::InvalidObject, "/id"));
    world.end().await;
}

#[tokio::test]
async fn a_standby_refuses_and_takes_over() {
    let mut world = World::new().await;
    let (first, one) = world.replica("one").await;
    let _ = world.watch(one.address()).await;
    world.fake.subscribed().await;
    let (_second, two) = world.replica("two").await;
    let error = world.client(two.address()).create_app(app("/a", 1)).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::Unavailable, "not leading"));
    world.client(one.address()).create_app(app("/a", 1)).await.unwrap();
    assert!(first.tasks.shutdown(LONG).await);
    let mut reader = world.watch(two.address()).await;
    reader.until(|reader| reader.apps == ["/a"] && reader.instances.len() == 1).await;
    assert!(two.is_leading());
    world.end().await;
}

#[tokio::test]
async fn a_leader_that_panics_gives_the_lead_up_and_comes_back() {
    let mut world = World::new().await;
    world.faulty.break_lists(1);
    let (_one, one) = world.replica("one").await;
    let mut reader = world.watch(one.address()).await;
    assert_eq!(world.faulty.lists_to_break(), 0, "it led before and broke down");
    world.fake.subscribed().await;
    world.client(one.address()).create_app(app("/a", 1)).await.unwrap();
    reader.until(|reader| reader.apps == ["/a"]).await;
    world.end().await;
}

#[tokio::test]
async fn a_standby_takes_over_when_a_task_of_the_leader_panics() {
    let mut world = World::new().await;
    let (_one, one) = world.replica("one").await;
    let _ = world.watch(one.address()).await;
    world.fake.subscribed().await;
    let (_two, two) = world.replica("two").await;
    world.faulty.break_write();
    world.client(one.address()).create_app(app("/a", 1)).await.unwrap_err();
    let mut reader = world.watch(two.address()).await;
    world.client(two.address()).create_app(app("/b", 1)).await.unwrap();
    reader.until(|reader| reader.apps == ["/b"]).await;
    assert!(two.is_leading() && !one.is_leading());
    world.end().await;
}

#[tokio::test]
async fn a_thousand_instances_come_up_on_one_agent_and_others_after_them() {
    let mut world = World::new().await;
    let (_env, handle) = world.replica("one").await;
    let mut reader = world.watch(handle.address()).await;
    world.fake.subscribed().await;
    world.fake.play("agent-1", 100.0);
    world.client(handle.address()).create_app(app("/a", 1000)).await.unwrap();
    reader.until(|reader| reader.count(Condition::Running) == 1000).await;
    assert_eq!(world.fake.launched(), 1000);
    for index in 0..20 {
        let id = format!("/b{index}");
        world.client(handle.address()).create_app(app(&id, 1)).await.unwrap();
        let runs = |reader: &Reader| {
            reader.instances.iter().any(|i| i.app_id == id && i.condition() == Condition::Running)
        };
        reader.until(runs).await;
    }
    assert_eq!(world.fake.launched(), 1020);
    world.end().await;
}
