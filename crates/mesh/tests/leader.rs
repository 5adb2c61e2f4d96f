//! Leader election over the in-memory transport and store.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::StreamExt;
use meshos_mesh::{Candidate, Env, Leadership, Role, Tasks, serve};
use meshos_proto::meshos::registry::v1::Leader;
use meshos_store::{Embedded, SharedStore, Txn};
use prost::Message;
use tokio::{runtime::Runtime, sync::watch, time::timeout};
use tonic::service::Routes;

const SOON: Duration = Duration::from_secs(60);

struct Replica {
    role: watch::Receiver<Role>,
}

async fn replica(parent: &Env, store: &SharedStore, name: &str) -> Replica {
    let env = parent.child();
    let listener = env.transport.bind(name).await.unwrap();
    let serving = serve(&env, "test", listener, Routes::default()).await;
    let candidate = Candidate {
        service: "allocator",
        instance: name.to_owned(),
        address: serving.address,
        ttl: Duration::from_secs(30),
    };
    let role = candidate.run(&env, store);
    Replica { role }
}

impl Replica {
    async fn leads(&mut self) -> Leadership {
        let role =
            timeout(SOON, self.role.wait_for(|role| matches!(role, Role::Leader(_)))).await.unwrap().unwrap();
        let Role::Leader(leadership) = role.clone() else { unreachable!() };
        leadership
    }

    async fn follows(&mut self, name: &str) {
        let is =
            |role: &Role| matches!(role, Role::Standby { leader: Some(leader) } if leader.instance == name);
        timeout(SOON, self.role.wait_for(is)).await.unwrap().unwrap();
    }
}

fn store(env: &Env) -> SharedStore {
    let store = Embedded::in_memory();
    env.tasks.spawn("leases", store.run_leases());
    Arc::new(store)
}

#[tokio::test]
async fn a_standby_takes_over_at_once_when_the_leaders_connection_breaks() {
    let env = Env::in_memory();
    let store = store(&env);
    // A runtime of its own stands for a process that dies without giving up its lease, which has 30 s to
    // live: only the broken connection tells.
    let process = Runtime::new().unwrap();
    let parent = Env { tasks: Tasks::new(), ..env.clone() };
    let held = Arc::clone(&store);
    let old = process.spawn(async move { replica(&parent, &held, "a").await.leads().await }).await.unwrap();
    let mut second = replica(&env, &store, "b").await;
    second.follows("a").await;

    process.shutdown_background();
    let new = second.leads().await;

    assert!(new.epoch > old.epoch);
    let refused = store.txn(old.fence.guard(Txn::new().put("k", "old"))).await.unwrap();
    assert_eq!(refused, meshos_store::TxnOutcome::Refused, "the old leader is fenced");
    env.tasks.shutdown(SOON).await;
}

#[tokio::test]
async fn a_process_that_returns_under_its_name_does_not_wait_for_its_own_old_lease() {
    let env = Env::in_memory();
    let store = store(&env);
    let process = Runtime::new().unwrap();
    let parent = Env { tasks: Tasks::new(), ..env.clone() };
    let held = Arc::clone(&store);
    let old = process.spawn(async move { replica(&parent, &held, "a").await.leads().await }).await.unwrap();
    process.shutdown_background();

    let other = Env { transport: meshos_mesh::transport::memory(), ..env.clone() };
    let new = replica(&other, &store, "a").await.leads().await;
    assert!(new.epoch > old.epoch);
    env.tasks.shutdown(SOON).await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_drops_connections_is_busy_and_keeps_the_lead_while_its_lease_lasts() {
    let env = Env::in_memory();
    let store = store(&env);
    let mut listener = env.transport.bind("a").await.unwrap();
    let lease = store.grant(Duration::from_secs(60)).await.unwrap();
    let record = Leader { instance: "a".to_owned(), address: "a".to_owned(), epoch: 0 };
    let key = meshos_store::leader_key("allocator");
    meshos_store::campaign(store.as_ref(), &key, Bytes::from(record.encode_to_vec()), lease).await.unwrap();
    let mut second = replica(&env, &store, "b").await;
    second.follows("a").await;

    let mut dropped = 0;
    let drops = async {
        while let Some(connection) = listener.incoming.next().await {
            drop(connection);
            dropped += 1;
        }
    };
    assert!(timeout(Duration::from_secs(20), drops).await.is_err());
    assert!(dropped > 10, "it is tried again and again");
    assert!(matches!(&*second.role.borrow(), Role::Standby { leader: Some(_) }));

    drop(listener);
    second.leads().await;
    env.tasks.shutdown(SOON).await;
}

#[tokio::test]
async fn a_deposed_leader_learns_that_it_lost() {
    let env = Env::in_memory();
    let store = store(&env);
    let mut only = replica(&env, &store, "a").await;
    let leadership = only.leads().await;
    let record = store.get("leaders/allocator").await.unwrap().unwrap();
    meshos_store::depose(store.as_ref(), &record).await.unwrap();
    timeout(SOON, leadership.lost.cancelled()).await.unwrap();
    let again = only.leads().await;
    assert!(again.epoch > leadership.epoch);
    env.tasks.shutdown(SOON).await;
}
