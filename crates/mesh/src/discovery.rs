//! Finding services through the store: who leads, and which replicas there are.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use meshos_proto::meshos::registry::v1::Leader;
use meshos_store::{Error, Event, KeyValue, LeaseId, SharedStore, Txn, Update, leader_key, watch_resync};
use prost::Message;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
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

/// Keeps this replica's record in the store, bound to a lease, until the environment's tasks stop. The receiver
/// holds whether others can count on the record: false once it could not be renewed for `ttl`, until it is written
/// again.
pub fn register_instance(
    env: &Env,
    store: &SharedStore,
    service: &'static str,
    info: InstanceInfo,
    ttl: Duration,
) -> watch::Receiver<bool> {
    let (listed, receiver) = watch::channel(true);
    let registration = Registration { store: Arc::clone(store), service, info, ttl };
    let stop = env.tasks.stopping();
    let backoff = Backoff::new(&env.rng, Duration::from_millis(50), ttl / 2);
    env.tasks.spawn_graceful("register-instance", async move {
        tokio::select! { biased; () = stop.cancelled() => {}, () = registration.keep(backoff, listed) => {} }
    });
    receiver
}

struct Registration {
    store: SharedStore,
    service: &'static str,
    info: InstanceInfo,
    ttl: Duration,
}

impl Registration {
    async fn keep(self, mut backoff: Backoff, listed: watch::Sender<bool>) {
        // Until the record is written for the first time nobody can count on it any less than before.
        let mut good_until = Instant::now() + self.ttl;
        loop {
            let late = |_| Error::Unavailable {
                call: "register",
                why: "no answer in time".to_owned(),
                outcome_unknown: true,
            };
            match timeout(self.ttl / 2, self.write()).await.map_err(late).flatten() {
                Ok(lease) => {
                    listed.send_if_modified(|listed| !std::mem::replace(listed, true));
                    backoff.reset();
                    let error = self.store.hold(lease, self.ttl).await;
                    warn!(service = self.service, %error, "instance record lost, writing it again");
                    // The store has heard of it lately, or not at all for its whole time.
                    let grace = if error.retryable() { Duration::ZERO } else { self.ttl };
                    good_until = Instant::now() + grace;
                }
                Err(error) => {
                    warn!(service = self.service, %error, "instance record not written, trying again")
                }
            }
            if Instant::now() >= good_until {
                listed.send_if_modified(|listed| std::mem::replace(listed, false));
            }
            backoff.wait().await;
        }
    }

    async fn write(&self) -> meshos_store::Result<LeaseId> {
        let lease = self.store.grant(self.ttl).await?;
        let Self { info, service, .. } = self;
        let record = Leader { instance: info.instance.clone(), address: info.address.clone(), epoch: 0 };
        let key = format!("services/{service}/{}", info.instance);
        self.store.txn(Txn::new().put_leased(key, Bytes::from(record.encode_to_vec()), lease)).await?;
        Ok(lease)
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
