//! Finding services through the store: who leads, and which replicas there are.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use meshos_proto::meshos::registry::v1::Leader;
use meshos_store::{Event, KeyValue, SharedStore, Txn, Update, leader_key, watch_resync};
use prost::Message;
use tokio::sync::watch;
use tracing::{error, warn};

use crate::{Backoff, Env};

/// Who leads a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderInfo {
    pub instance: String,
    pub address: String,
    /// Store revision that made it leader.
    pub epoch: u64,
}

impl LeaderInfo {
    /// Reads the record under a leader key; none when it is not such a record.
    #[must_use]
    pub fn from_record(record: &KeyValue) -> Option<Self> {
        let leader = Leader::decode(record.value.clone()).ok()?;
        Some(Self { instance: leader.instance, address: leader.address, epoch: record.create_revision })
    }
}

/// A replica of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceInfo {
    pub instance: String,
    pub address: String,
}

/// Follows who leads `service`. The value is none while nobody does.
pub fn follow_leader(env: &Env, store: &SharedStore, service: &str) -> watch::Receiver<Option<LeaderInfo>> {
    follow(env, store, leader_key(service), |records| records.first().and_then(LeaderInfo::from_record))
}

/// Follows the replicas of `service`, in order of their names.
pub fn follow_instances(env: &Env, store: &SharedStore, service: &str) -> watch::Receiver<Vec<InstanceInfo>> {
    follow(env, store, format!("services/{service}/"), |records| {
        let read = |record: &KeyValue| {
            let record = Leader::decode(record.value.clone()).ok()?;
            Some(InstanceInfo { instance: record.instance, address: record.address })
        };
        records.iter().filter_map(read).collect()
    })
}

/// Keeps this replica's record in the store, bound to a lease, until the environment's tasks stop.
pub fn register_instance(
    env: &Env,
    store: &SharedStore,
    service: &'static str,
    info: InstanceInfo,
    ttl: Duration,
) {
    let store = Arc::clone(store);
    let stop = env.tasks.stopping();
    let mut backoff = Backoff::new(&env.rng, Duration::from_millis(50), ttl);
    env.tasks.spawn_graceful("register-instance", async move {
        while !stop.is_cancelled() {
            let kept = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                kept = keep_registered(&store, service, &info, ttl) => kept,
            };
            if let Err(error) = kept {
                warn!(service, %error, "instance record lost, writing it again");
            }
            tokio::select! { biased; () = stop.cancelled() => {}, () = backoff.wait() => {} }
        }
    });
}

async fn keep_registered(
    store: &SharedStore,
    service: &str,
    info: &InstanceInfo,
    ttl: Duration,
) -> meshos_store::Result<()> {
    let lease = store.grant(ttl).await?;
    let record = Leader { instance: info.instance.clone(), address: info.address.clone(), epoch: 0 };
    let key = format!("services/{service}/{}", info.instance);
    store.txn(Txn::new().put_leased(key, Bytes::from(record.encode_to_vec()), lease)).await?;
    loop {
        tokio::time::sleep(ttl / 3).await;
        store.keep_alive(lease).await?;
    }
}

/// Follows the records under `prefix` and what `read` makes of them. Ends when the receiver is dropped.
fn follow<T>(
    env: &Env,
    store: &SharedStore,
    prefix: String,
    read: impl Fn(&[KeyValue]) -> T + Send + 'static,
) -> watch::Receiver<T>
where
    T: PartialEq + Send + Sync + 'static,
{
    let (sender, receiver) = watch::channel(read(&[]));
    let mut changes = watch_resync(Arc::clone(store), prefix.clone(), env.rng.u64());
    env.tasks.spawn("follow", async move {
        let mut records: Vec<KeyValue> = Vec::new();
        loop {
            let update = tokio::select! {
                biased;
                () = sender.closed() => return,
                update = changes.next() => update,
            };
            let update = match update {
                Ok(update) => update,
                Err(error) => return error!(prefix, %error, "the store can no longer be followed"),
            };
            apply(&mut records, update);
            let value = read(&records);
            sender.send_if_modified(|current| {
                let changed = *current != value;
                *current = value;
                changed
            });
        }
    });
    receiver
}

fn apply(records: &mut Vec<KeyValue>, update: Update) {
    match update {
        Update::Resync(listing) => *records = listing.items,
        Update::Batch(batch) => {
            for event in batch.events {
                let position = records.binary_search_by(|record| record.key.as_str().cmp(event.key()));
                match (event, position) {
                    (Event::Put(record), Ok(at)) => records[at] = record,
                    (Event::Put(record), Err(at)) => records.insert(at, record),
                    (Event::Delete { .. }, Ok(at)) => drop(records.remove(at)),
                    (Event::Delete { .. }, Err(_)) => {}
                }
            }
        }
    }
}
