//! Follows the store, and judges by it: one task that owns this replica's picture of the agents.

use std::{sync::Arc, time::Duration};

use meshos_mesh::{Env, Feed, InstanceInfo};
use meshos_proto::meshos::registry::v1::{Agent, Delta, WatchResponse, watch_response::Body};
use meshos_store::{Event, SharedStore, Update, watch_resync};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, interval, sleep_until},
};
use tracing::{error, info, warn};

use super::FEED;
use crate::{
    config::Config,
    grpc::Subscribe,
    held::Held,
    judge::Judge,
    membership::End,
    metrics::RegistryMetrics,
    past::Past,
    removals::Removals,
    roll::Roll,
    store::{AGENTS, read_agent},
    view::View,
};

/// Looking for agents to forget more often would be of no use.
const SHORTEST_GC: Duration = Duration::from_secs(1);

/// Owns this replica's picture of the agents.
pub(super) struct Follower {
    pub(super) env: Env,
    pub(super) replicas: watch::Receiver<Vec<InstanceInfo>>,
    pub(super) judge: Judge,
    pub(super) removals: Removals,
    pub(super) past: Past,
    pub(super) roll: Roll,
    pub(super) held: Held,
    /// Whether this replica can be counted on.
    pub(super) listed: watch::Receiver<bool>,
    pub(super) feed: Feed<WatchResponse>,
    pub(super) view: View,
    pub(super) revision: u64,
    pub(super) metrics: RegistryMetrics,
}

impl Follower {
    pub(super) async fn run(
        mut self,
        store: SharedStore,
        mut subscriptions: mpsc::Receiver<Subscribe>,
        (serving, config): (meshos_mesh::Serving, Arc<Config>),
    ) {
        let mut changes = watch_resync(store, AGENTS.to_owned(), self.env.rng.u64());
        // Nothing is served before the first full picture.
        match changes.next().await {
            Ok(first) => self.apply(first),
            Err(error) => return error!(%error, "the store cannot be followed"),
        }
        serving.ready().await;
        let mut collections = interval(config.args.registry_gc_interval.max(SHORTEST_GC));
        loop {
            let deadline = self.judge.next_deadline().map(|deadline| self.removals.not_before(deadline));
            tokio::select! {
                biased;
                update = changes.next() => match update {
                    Ok(update) => self.apply(update),
                    Err(error) => return error!(%error, "the store can no longer be followed"),
                },
                subscriber = subscriptions.recv() => match subscriber {
                    Some(subscriber) => self.subscribe(subscriber),
                    None => return,
                },
                changed = self.replicas.changed() => match changed {
                    Ok(()) => self.replicas_changed(),
                    Err(_) => return,
                },
                changed = self.listed.changed() => match changed {
                    Ok(()) => self.listed_changed(),
                    Err(_) => return,
                },
                () = wait(deadline) => self.judge_silent(),
                _ = collections.tick() => self.forget_past(),
            }
        }
    }

    fn apply(&mut self, update: Update) {
        let now = Instant::now();
        match update {
            Update::Resync(listing) => {
                let records = || listing.items.iter().map(|item| (id_of(&item.key), item));
                for (id, record) in records() {
                    self.note(&id, read_agent(record).as_ref(), now);
                }
                for id in self.view.replace(records()) {
                    self.note(&id, None, now);
                }
                self.revision = listing.revision;
                // What happened meanwhile is not known: whoever reads begins anew.
                self.feed = Feed::new(FEED);
            }
            Update::Batch(batch) => {
                let mut delta = Delta::default();
                for event in &batch.events {
                    let id = id_of(event.key());
                    match event {
                        Event::Put(record) => {
                            let Some(agent) = read_agent(record) else { continue };
                            self.note(&id, Some(&agent), now);
                            self.view.put(id, record);
                            delta.changed.push(agent);
                        }
                        Event::Delete { .. } => {
                            self.note(&id, None, now);
                            self.view.remove(&id);
                            delta.removed_agent_ids.push(id);
                        }
                    }
                }
                self.publish(batch.revision, delta);
            }
        }
    }

    fn note(&mut self, id: &str, agent: Option<&Agent>, now: Instant) {
        self.judge.agent(id, agent, now);
        self.past.agent(id, agent);
        self.held.record(id, agent);
    }

    fn publish(&mut self, revision: u64, delta: Delta) {
        self.revision = revision;
        self.feed.publish(WatchResponse { revision, body: Some(Body::Delta(delta)) });
    }

    fn subscribe(&self, subscriber: Subscribe) {
        let revision = self.revision;
        let parts = self.view.snapshot();
        let parts = parts.map(move |part| WatchResponse { revision, body: Some(Body::Snapshot(part)) });
        // A reader that has gone meanwhile is no failure.
        let _ = subscriber.send(self.feed.subscribe_parts(parts));
    }

    fn replicas_changed(&mut self) {
        let replicas =
            self.replicas.borrow_and_update().iter().map(|replica| replica.instance.clone()).collect();
        self.judge.replicas(replicas, Instant::now());
    }

    /// Readers of a replica that is cut off from the store would not notice that they get no news: their streams end,
    /// and they go to another.
    fn listed_changed(&mut self) {
        if !*self.listed.borrow_and_update() {
            warn!("no contact with the store, watches end");
            self.feed = Feed::new(FEED);
        }
    }

    fn judge_silent(&mut self) {
        if !*self.listed.borrow() {
            // What it knows is out of date; each is named again after another timeout.
            drop(self.judge.due(Instant::now(), || true));
            return;
        }
        let (now, removals) = (Instant::now(), self.removals.clone());
        for (id, session) in self.judge.due(now, || removals.take(now)) {
            let (roll, metrics) = (self.roll.clone(), self.metrics.clone());
            self.env.tasks.spawn("judge-agent", async move {
                match roll.end(&id, session, End::Silent).await {
                    Ok(true) => metrics.unreachable.inc(),
                    Ok(false) => {}
                    Err(error) => {
                        warn!(agent_id = id, %error, "agent not marked unreachable, trying again later")
                    }
                }
            });
        }
    }

    /// One replica does it; were two to, the store's compare would let one through.
    fn forget_past(&self) {
        if !*self.listed.borrow() || !self.judge.judges() {
            return;
        }
        let due = self.past.due(self.env.clock.unix_ms());
        if due.is_empty() {
            return;
        }
        let (roll, metrics) = (self.roll.clone(), self.metrics.clone());
        self.env.tasks.spawn("forget-agents", async move {
            let mut forgotten = 0_u64;
            for id in due {
                match roll.forget(&id).await {
                    Ok(done) => forgotten += u64::from(done),
                    Err(error) => {
                        warn!(agent_id = id, %error, "agents not forgotten, trying again later");
                        break;
                    }
                }
            }
            metrics.forgotten.inc_by(forgotten);
            info!(agents = forgotten, "agents of the past forgotten");
        });
    }
}

fn id_of(key: &str) -> String {
    key.strip_prefix(AGENTS).unwrap_or(key).to_owned()
}

async fn wait(deadline: Option<Instant>) {
    match deadline {
        // A deadline far ahead is looked at again sooner, which costs nothing.
        Some(deadline) => sleep_until(deadline.min(Instant::now() + Duration::from_secs(3600))).await,
        None => std::future::pending().await,
    }
}
