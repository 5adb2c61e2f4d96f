//! Builds the parts and runs the loop that follows the store.

use std::{sync::Arc, time::Duration};

use meshos_mesh::{
    Env, Feed, InstanceInfo, MAX_MESSAGE_BYTES, follow_instances, follow_leader, register_instance, serve,
};
use meshos_proto::meshos::registry::v1::{
    Agent, Delta, WatchResponse, registry_server::RegistryServer, watch_response::Body,
};
use meshos_store::{Event, SharedStore, Update, watch_resync};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};
use tonic::service::Routes;
use tracing::{error, warn};

use crate::{
    config::Config,
    error::Error,
    grpc::{Grpc, Subscribe},
    held::Held,
    judge::Judge,
    membership::End,
    metrics::RegistryMetrics,
    roll::Roll,
    store::{AGENTS, read_agent},
    view::View,
};

/// Changes that a reader of `Watch` may be behind.
const FEED: usize = 4096;

/// A running replica.
#[derive(Clone, Debug)]
pub struct Handle {
    /// What agents and services connect to.
    pub address: String,
}

/// Starts a replica; it runs until the environment's tasks stop.
///
/// # Errors
/// [`Error::Transport`] when the address cannot be bound.
pub async fn start(env: &Env, store: SharedStore, config: Config) -> Result<Handle, Error> {
    let listener = env.transport.bind(&config.listen).await?;
    let address = config.advertise.clone().unwrap_or_else(|| listener.address.clone());
    // A process that starts again under its name holds none of the sessions of the one before.
    let config = Arc::new(Config { instance: format!("{}-{}", config.instance, env.rng.uuid()), ..config });
    let metrics = RegistryMetrics::new(&env.metrics);
    let view = View::default();
    let roll = Roll::new(env, &store, &config, &view);
    let (subscribe, subscriptions) = mpsc::channel(64);
    let held = Held::default();
    let info = InstanceInfo { instance: config.instance.clone(), address: address.clone() };
    // Stands for all sessions of this replica as well: `registry/replicas` would say the same twice.
    let listed = register_instance(env, &store, "registry", info, config.lease_ttl);
    let grpc = Grpc {
        env: env.clone(),
        store: Arc::clone(&store),
        config: Arc::clone(&config),
        metrics: metrics.clone(),
        roll: roll.clone(),
        allocator: follow_leader(env, &store, "allocator"),
        subscribe,
        held: held.clone(),
        listed: listed.clone(),
    };
    let server = RegistryServer::new(grpc)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let serving = serve(env, "registry", listener, Routes::new(server)).await;
    let follower = Follower {
        replicas: follow_instances(env, &store, "registry"),
        judge: Judge::new(&config.instance, config.ping_timeout()),
        roll,
        held,
        listed,
        feed: Feed::new(FEED),
        view,
        revision: 0,
        metrics,
        env: env.clone(),
    };
    env.tasks.spawn("registry-follower", follower.run(store, subscriptions, serving));
    Ok(Handle { address })
}

/// Owns this replica's picture of the agents.
struct Follower {
    env: Env,
    replicas: watch::Receiver<Vec<InstanceInfo>>,
    judge: Judge,
    roll: Roll,
    held: Held,
    /// Whether this replica can be counted on.
    listed: watch::Receiver<bool>,
    feed: Feed<WatchResponse>,
    view: View,
    revision: u64,
    metrics: RegistryMetrics,
}

impl Follower {
    async fn run(
        mut self,
        store: SharedStore,
        mut subscriptions: mpsc::Receiver<Subscribe>,
        serving: meshos_mesh::Serving,
    ) {
        let mut changes = watch_resync(store, AGENTS.to_owned(), self.env.rng.u64());
        // Nothing is served before the first full picture.
        match changes.next().await {
            Ok(first) => self.apply(first),
            Err(error) => return error!(%error, "the store cannot be followed"),
        }
        serving.ready().await;
        loop {
            let deadline = self.judge.next_deadline();
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
            drop(self.judge.due(Instant::now()));
            return;
        }
        for (id, session) in self.judge.due(Instant::now()) {
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
