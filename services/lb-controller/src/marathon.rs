//! Follows a Marathon over HTTP, as marathon-lb did: events say what to read again. For a Marathon that is none of ours,
//! or where the store cannot be reached. Whoever follows like this is not waited for before tasks are killed.

pub(crate) mod client;
mod decode;
mod events;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use http::StatusCode;
use meshos_mesh::{Backoff, Env};
use meshos_proto::meshos::apps::v1::{Delta, Snapshot, WatchResponse, watch_response::Body};
use serde_json::Value;
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, sleep_until},
};
use tracing::{debug, info};

use self::{
    client::{Client, Failure},
    decode::Found,
    events::{Events, Pending},
};
use crate::follower::{CHANGES, CONFIRMATIONS, Event};

/// Everything is read again so often, whatever the events say.
const AGAIN: Duration = Duration::from_secs(60);
/// Events that come close together lead to one reading.
const QUIET: Duration = Duration::from_millis(20);

/// Starts to follow. The second part makes it begin anew.
pub(crate) fn spawn(env: &Env, client: Box<Client>) -> (mpsc::Receiver<Event>, Arc<Notify>) {
    let (events, receiver) = mpsc::channel(CHANGES);
    let again = Arc::new(Notify::new());
    let follower = Follower {
        env: env.clone(),
        client,
        events,
        again: Arc::clone(&again),
        known: BTreeMap::new(),
        revision: 0,
    };
    env.tasks.spawn("lb-marathon", follower.run());
    (receiver, again)
}

struct Follower {
    env: Env,
    client: Box<Client>,
    events: mpsc::Sender<Event>,
    again: Arc<Notify>,
    /// Instances by app, with what was last known of their health.
    known: BTreeMap<String, BTreeMap<String, Option<bool>>>,
    /// Counts what was passed on.
    revision: u64,
}

/// Why following ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Call(#[from] Failure),
    #[error("the stream of events ended")]
    Stream,
    #[error("the answer is no list of apps")]
    Strange,
    #[error("everything is to be read again")]
    Again,
    #[error("the controller is stopping")]
    Stopping,
}

impl Follower {
    async fn run(mut self) {
        let mut backoff = Backoff::new(&self.env.rng, Duration::from_millis(200), Duration::from_secs(30));
        loop {
            let Err(ended) = self.follow(&mut backoff).await;
            debug!(reason = %ended, "marathon is not followed any more, trying again");
            if matches!(ended, Ended::Stopping) || self.events.send(Event::Broken).await.is_err() {
                return;
            }
            backoff.wait().await;
        }
    }

    async fn follow(&mut self, backoff: &mut Backoff) -> Result<std::convert::Infallible, Ended> {
        // First the events: what changes while everything is read is told of.
        let mut events = Events::new(self.client.events(events::PATH).await?);
        // Nobody waits for these confirmations.
        let (confirm, mut confirmed) = mpsc::channel(CONFIRMATIONS);
        self.send(Event::Following(confirm)).await?;
        info!("following Marathon's API");
        self.read_all().await?;
        backoff.reset();
        let mut all_due = Instant::now() + AGAIN;
        let (mut pending, mut due) = (Pending::default(), all_due);
        loop {
            tokio::select! {
                biased;
                () = self.again.notified() => return Err(Ended::Again),
                Some(_) = confirmed.recv() => {}
                came = events.next() => {
                    let was_empty = pending.is_empty();
                    came.ok_or(Ended::Stream)?.iter().for_each(|data| pending.note(data));
                    if was_empty && !pending.is_empty() {
                        due = due.min(Instant::now() + QUIET);
                    }
                }
                () = sleep_until(due) => {
                    let wanted = std::mem::take(&mut pending);
                    if wanted.all || wanted.apps.is_empty() || Instant::now() >= all_due {
                        self.read_all().await?;
                        all_due = Instant::now() + AGAIN;
                    } else {
                        self.read(wanted.apps).await?;
                    }
                    due = all_due;
                }
            }
        }
    }

    async fn send(&self, event: Event) -> Result<(), Ended> {
        self.events.send(event).await.map_err(|_| Ended::Stopping)
    }

    async fn pass_on(&mut self, body: Body) -> Result<(), Ended> {
        self.revision += 1;
        let response = WatchResponse { revision: self.revision, body: Some(body) };
        self.send(Event::Change(Box::new(response))).await
    }

    /// Takes what was found of an app in; health that is not told any more is as it was.
    fn remember(&mut self, found: &mut Found) {
        let before = self.known.remove(&found.app.id).unwrap_or_default();
        for instance in &mut found.instances {
            instance.healthy = instance.healthy.or_else(|| before.get(&instance.id).copied().flatten());
        }
        let now = found.instances.iter().map(|instance| (instance.id.clone(), instance.healthy)).collect();
        self.known.insert(found.app.id.clone(), now);
    }

    async fn read_all(&mut self) -> Result<(), Ended> {
        let answer = self.client.send("GET", "/v2/apps?embed=apps.tasks", None).await?;
        // What somebody else answers (a proxy, a login page) is no empty list.
        let apps = answer["apps"].as_array().ok_or(Ended::Strange)?;
        let mut snapshot = Snapshot::default();
        let mut ids = BTreeSet::new();
        for mut found in apps.iter().filter_map(decode::found) {
            self.remember(&mut found);
            ids.insert(found.app.id.clone());
            snapshot.apps.push(found.app);
            snapshot.instances.append(&mut found.instances);
            snapshot.health.append(&mut found.health);
        }
        self.known.retain(|id, _| ids.contains(id));
        self.pass_on(Body::Snapshot(snapshot)).await
    }

    async fn read(&mut self, apps: BTreeSet<String>) -> Result<(), Ended> {
        let mut delta = Delta::default();
        for id in apps {
            let before: BTreeSet<String> =
                self.known.get(&id).into_iter().flatten().map(|(instance, _)| instance.clone()).collect();
            match self.client.send("GET", &format!("/v2/apps/{id}?embed=app.tasks"), None).await {
                Ok(mut answer) => {
                    let Some(mut found) = decode::found(&Value::take(&mut answer["app"])) else { continue };
                    self.remember(&mut found);
                    let now: BTreeSet<&String> =
                        found.instances.iter().map(|instance| &instance.id).collect();
                    delta.removed_instances.extend(before.iter().filter(|id| !now.contains(id)).cloned());
                    delta.apps.push(found.app);
                    delta.instances.append(&mut found.instances);
                    delta.health.append(&mut found.health);
                }
                Err(Failure::Refused { status: StatusCode::NOT_FOUND, .. }) => {
                    self.known.remove(&id);
                    delta.removed_instances.extend(before);
                    delta.removed_apps.push(id);
                }
                Err(failure) => return Err(failure.into()),
            }
        }
        self.pass_on(Body::Delta(delta)).await
    }
}
