//! Follows a Marathon over HTTP, as marathon-lb did: events say what to read again. For a Marathon that is none of ours,
//! which waits for nobody before it kills tasks, or where the store cannot be reached.

pub(crate) mod client;
mod decode;
mod events;
mod leaving;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use http::StatusCode;
use meshos_mesh::{Backoff, Env};
use meshos_proto::meshos::apps::v1::{
    Condition, ConfirmLeftRequest, Delta, Snapshot, WatchResponse, watch_response::Body,
};
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
    leaving::{Farewells, Leaving},
};
use crate::follower::{CHANGES, CONFIRMATIONS, Event};

/// Everything is read again so often, whatever the events say.
const AGAIN: Duration = Duration::from_secs(60);
/// Events that come close together lead to one reading.
const QUIET: Duration = Duration::from_millis(20);
/// A task that is about to be killed is looked after so long, be it read of or not.
const KEPT: Duration = Duration::from_secs(600);

/// Starts to follow. The second part makes it begin anew.
pub(crate) fn spawn(env: &Env, client: Client) -> (mpsc::Receiver<Event>, Arc<Notify>) {
    let (events, receiver) = mpsc::channel(CHANGES);
    let again = Arc::new(Notify::new());
    let client = Arc::new(client);
    let farewells = leaving::spawn(env, &client);
    let follower = Follower {
        env: env.clone(),
        client,
        events,
        again: Arc::clone(&again),
        known: BTreeMap::new(),
        leaving: BTreeMap::new(),
        farewells,
        revision: 0,
    };
    env.tasks.spawn("lb-marathon", follower.run());
    (receiver, again)
}

/// All apps with their tasks, now.
///
/// # Errors
/// What was answered instead.
pub(crate) async fn read_once(client: &Client) -> Result<Snapshot, String> {
    let found = all(client).await.map_err(|ended| ended.to_string())?;
    let mut snapshot = Snapshot::default();
    for mut found in found {
        snapshot.apps.push(found.app);
        snapshot.instances.append(&mut found.instances);
        snapshot.health.append(&mut found.health);
    }
    Ok(snapshot)
}

async fn all(client: &Client) -> Result<Vec<Found>, Ended> {
    let answer = client.send("GET", "/v2/apps?embed=apps.tasks", None).await?;
    // What somebody else answers (a proxy, a login page) is no empty list.
    let apps = answer["apps"].as_array().ok_or(Ended::Strange)?;
    Ok(apps.iter().filter_map(decode::found).collect())
}

struct Follower {
    env: Env,
    client: Arc<Client>,
    events: mpsc::Sender<Event>,
    again: Arc<Notify>,
    /// Instances by app, with what was last known of their health.
    known: BTreeMap<String, BTreeMap<String, Option<bool>>>,
    /// Tasks that are about to be killed, with their instances, and when they were named.
    leaving: BTreeMap<String, (String, Instant)>,
    farewells: Farewells,
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
        let (_, body) = self.client.events(events::PATH).await?;
        let mut events = Events::new(body);
        let (confirm, mut confirmed) = mpsc::channel(CONFIRMATIONS);
        self.send(Event::Following(confirm)).await?;
        info!("following Marathon's API");
        self.read_all().await?;
        backoff.reset();
        let mut all_due = Instant::now() + AGAIN;
        let (mut pending, mut due) = (Pending::default(), all_due);
        loop {
            let dead = events.dead();
            tokio::select! {
                biased;
                () = self.again.notified() => return Err(Ended::Again),
                Some(request) = confirmed.recv() => self.let_go(&request),
                Some(named) = self.farewells.named.recv() => self.name(named).await?,
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
                        self.read(wanted.apps, Vec::new()).await?;
                    }
                    due = all_due;
                }
                // Last: what came during a long call is heard of only now.
                () = sleep_until(dead) => return Err(Ended::Stream),
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

    /// Tasks are about to be killed: they get nothing any more, whatever is read of them.
    async fn name(&mut self, named: Vec<Leaving>) -> Result<(), Ended> {
        let tasks: Vec<String> = named.iter().map(|leaving| leaving.task.clone()).collect();
        let apps = named.iter().filter_map(|leaving| leaving.app.clone()).collect();
        let now = Instant::now();
        self.forget(now);
        self.leaving.extend(named.into_iter().map(|leaving| (leaving.task, (leaving.instance, now))));
        // Whoever takes over is there already: nothing goes before it is known.
        let read = self.read(apps, tasks.clone()).await;
        if read.is_err() {
            // Who names them waits, whether they can be read of or not.
            self.pass_on(Body::Delta(Delta { leaving_instances: tasks, ..Delta::default() })).await?;
        }
        read
    }

    /// What was named long ago, and is nowhere any more.
    fn forget(&mut self, now: Instant) {
        let known = &self.known;
        self.leaving.retain(|task, (_, since)| {
            now.duration_since(*since) < KEPT || known.values().any(|tasks| tasks.contains_key(task))
        });
    }

    fn let_go(&self, request: &ConfirmLeftRequest) {
        let instances = request.instances.iter().filter_map(|task| self.leaving.get(task));
        let instances = instances.map(|(instance, _)| instance.clone());
        // Who does not listen any more waits no longer than its limit.
        let _ = self.farewells.let_go.try_send(instances.collect());
    }

    /// Takes what was found of an app in; health that is not told any more is as it was.
    fn remember(&mut self, found: &mut Found) {
        let before = self.known.remove(&found.app.id).unwrap_or_default();
        for instance in &mut found.instances {
            instance.healthy = instance.healthy.or_else(|| before.get(&instance.id).copied().flatten());
            if self.leaving.contains_key(&instance.id) {
                instance.set_condition(Condition::Killing);
            }
        }
        let now: BTreeMap<_, _> =
            found.instances.iter().map(|instance| (instance.id.clone(), instance.healthy)).collect();
        self.known.insert(found.app.id.clone(), now);
    }

    async fn read_all(&mut self) -> Result<(), Ended> {
        let mut snapshot = Snapshot::default();
        let mut ids = BTreeSet::new();
        for mut found in all(&self.client).await? {
            self.remember(&mut found);
            ids.insert(found.app.id.clone());
            snapshot.apps.push(found.app);
            snapshot.instances.append(&mut found.instances);
            snapshot.health.append(&mut found.health);
        }
        self.known.retain(|id, _| ids.contains(id));
        self.pass_on(Body::Snapshot(snapshot)).await
    }

    /// `leaving_instances`: tasks that are about to be killed.
    async fn read(&mut self, apps: BTreeSet<String>, leaving_instances: Vec<String>) -> Result<(), Ended> {
        let mut delta = Delta { leaving_instances, ..Delta::default() };
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

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    struct Scene {
        follower: Follower,
        events: mpsc::Receiver<Event>,
        gone: mpsc::Receiver<Vec<String>>,
    }

    /// Follows this Marathon, and knows of one task.
    fn scene(url: String) -> Scene {
        let client = Client::new(&client::Access { urls: vec![url], ..client::Access::default() }).unwrap();
        let (events, receiver) = mpsc::channel(CHANGES);
        let ((_, named), (let_go, gone)) = (mpsc::channel(1), mpsc::channel(1));
        let follower = Follower {
            env: Env::in_memory(),
            client: Arc::new(client),
            events,
            again: Arc::default(),
            known: [("/a".to_owned(), [("t".to_owned(), None)].into())].into(),
            leaving: BTreeMap::new(),
            farewells: Farewells { named, let_go },
            revision: 0,
        };
        Scene { follower, events: receiver, gone }
    }

    fn leaving(task: &str) -> Vec<Leaving> {
        vec![Leaving {
            app: Some("/a".to_owned()),
            instance: format!("instance of {task}"),
            task: task.to_owned(),
        }]
    }

    fn delta(event: Option<Event>) -> Delta {
        match event {
            Some(Event::Change(response)) => match response.body {
                Some(Body::Delta(delta)) => delta,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    /// A Marathon without apps answers.
    async fn answer(listener: TcpListener) {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 4096];
            let length = stream.read(&mut head).await.unwrap();
            let all = head[..length].starts_with(b"GET /v2/apps?");
            let (status, body) = if all { ("200 OK", r#"{"apps":[]}"#) } else { ("404 Not Found", "{}") };
            let text = format!(
                "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(text.as_bytes()).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_task_whose_app_is_gone_is_let_go_of() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut scene = scene(format!("http://{}", listener.local_addr().unwrap()));
        let env = scene.follower.env.clone();
        env.tasks.spawn("marathon", answer(listener));
        scene.follower.name(leaving("t")).await.unwrap();
        let told = delta(scene.events.try_recv().ok());
        assert_eq!(
            (told.removed_apps, told.leaving_instances),
            (vec!["/a".to_owned()], vec!["t".to_owned()])
        );
        scene.follower.read_all().await.unwrap();
        scene.follower.name(leaving("u")).await.unwrap();
        let both = ["t".to_owned(), "u".to_owned()].into();
        scene.follower.let_go(&ConfirmLeftRequest { instances: both });
        assert_eq!(scene.gone.recv().await.unwrap(), ["instance of t", "instance of u"]);
    }

    #[tokio::test]
    async fn who_leaves_is_passed_on_even_where_nothing_can_be_read() {
        let mut scene = scene("http://127.0.0.1:1".to_owned());
        assert!(scene.follower.name(leaving("t")).await.is_err());
        assert_eq!(delta(scene.events.try_recv().ok()).leaving_instances, ["t"]);
        let late = Instant::now() + KEPT;
        scene.follower.forget(late);
        assert!(scene.follower.leaving.contains_key("t"), "it is known still");
        scene.follower.known.clear();
        scene.follower.forget(Instant::now());
        assert!(scene.follower.leaving.contains_key("t"));
        scene.follower.forget(late);
        assert!(scene.follower.leaving.is_empty());
    }
}
