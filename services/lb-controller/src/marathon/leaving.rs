//! Tasks that are about to be killed, where the Marathon is one that says so and waits: `GET /v2/leaving` names them,
//! `POST /v2/leaving/{id}` lets go of them. Others answer that there is no such thing, and nobody waits.

use std::{sync::Arc, time::Duration};

use meshos_mesh::{Backoff, Env};
use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    time::{sleep, sleep_until, timeout},
};
use tracing::{debug, info};

use super::{
    client::{Client, Failure},
    events::Events,
};
use crate::core::charset::{self, Kind};

const PATH: &str = "/v2/leaving";
/// Messages that wait.
const WAITING: usize = 1024;
/// How often a Marathon without such a thing is asked whether it has it now.
const AGAIN: Duration = Duration::from_secs(300);
/// The stream waits so long for one who is told something.
const PATIENCE: Duration = Duration::from_secs(3);

/// A task that is about to be killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leaving {
    /// None: it is not known any more.
    pub(super) app: Option<String>,
    pub(super) instance: String,
    pub(super) task: String,
}

/// Both directions.
pub(super) struct Farewells {
    /// What is about to be killed.
    pub(super) named: mpsc::Receiver<Vec<Leaving>>,
    /// Instances that HAProxy has let go of.
    pub(super) let_go: mpsc::Sender<Vec<String>>,
}

/// Follows the stream until the tasks stop.
pub(super) fn spawn(env: &Env, client: &Arc<Client>) -> Farewells {
    let (names, named) = mpsc::channel(WAITING);
    let (let_go, gone) = mpsc::channel(WAITING);
    let backoff = Backoff::new(&env.rng, Duration::from_millis(50), Duration::from_secs(5));
    let reader = Reader { client: Arc::clone(client), names, gone };
    env.tasks.spawn("lb-leaving", reader.run(backoff));
    Farewells { named, let_go }
}

struct Reader {
    client: Arc<Client>,
    names: mpsc::Sender<Vec<Leaving>>,
    gone: mpsc::Receiver<Vec<String>>,
}

impl Reader {
    async fn run(mut self, mut backoff: Backoff) {
        loop {
            match self.client.events(PATH).await {
                Ok((base, body)) => {
                    backoff.reset();
                    info!("tasks are killed once HAProxy has let go of them");
                    if self.follow(&base, Events::new(body)).await.is_none() {
                        return;
                    }
                }
                Err(Failure::Refused { status, .. }) if status.is_client_error() => {
                    info!("this Marathon waits for no load balancer before it kills tasks");
                    sleep(AGAIN).await;
                }
                Err(failure) => debug!(%failure, "leaving tasks cannot be followed, trying again"),
            }
            backoff.wait().await;
        }
    }

    /// Until the stream from `base` ends; none: nobody reads any more.
    async fn follow(&mut self, base: &str, mut events: Events) -> Option<()> {
        let mut confirm = None;
        loop {
            let dead = events.dead();
            tokio::select! {
                biased;
                came = events.next() => {
                    let Some(came) = came else { return Some(()) };
                    for data in came {
                        match word(&data) {
                            Some(Word::Opened(at)) => confirm = Some(at),
                            Some(Word::Leaving(named)) => self.names.send(named).await.ok()?,
                            None => {}
                        }
                    }
                }
                instances = self.gone.recv() => {
                    let (instances, at) = (instances?, confirm.as_ref());
                    if let Some(at) = at {
                        self.confirm(base, at, &instances).await;
                    }
                }
                // Last: what came during a long call is heard of only now.
                () = sleep_until(dead) => return Some(()),
            }
        }
    }

    /// Where the stream was opened, or where its gateway says that it is reached.
    async fn confirm(&self, base: &str, at: &Place, instances: &[String]) {
        let body = json!({"instances": instances});
        for url in [&format!("{base}{PATH}/{}", at.id), &at.url] {
            match timeout(PATIENCE, self.client.send_to("POST", url, Some(&body))).await {
                Ok(Ok(_)) => return,
                Ok(Err(failure)) => debug!(%failure, "nobody was told that tasks are let go of"),
                Err(_) => debug!(url, "nobody answered that tasks are let go of"),
            }
        }
    }
}

/// Where confirmations go.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    id: String,
    url: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Word {
    Opened(Place),
    Leaving(Vec<Leaving>),
}

fn word(data: &str) -> Option<Word> {
    let said: Value = serde_json::from_str(data).ok()?;
    if let Some(id) = said["id"].as_str() {
        // It becomes a part of a URL.
        let plain = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
        let url = said["confirm"].as_str().unwrap_or_default().to_owned();
        return plain.then(|| Word::Opened(Place { id: id.to_owned(), url }));
    }
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let leaving = |value: &Value| {
        let app = text(&value["app"]).filter(|id| charset::checked(id, Kind::AppId).is_ok());
        let instance = text(&value["instance"])?;
        // Without a task it is told apart by itself.
        let task = text(&value["task"]).filter(|task| !task.is_empty());
        Some(Leaving { app, task: task.unwrap_or_else(|| instance.clone()), instance })
    };
    Some(Word::Leaving(said["leaving"].as_array()?.iter().filter_map(leaving).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_stream_says() {
        let opened = word(r#"{"id":"7","confirm":"http://g:8080/v2/leaving/7"}"#);
        let place = Place { id: "7".into(), url: "http://g:8080/v2/leaving/7".into() };
        assert_eq!(opened, Some(Word::Opened(place)));
        let leaving = Leaving { app: Some("/a".into()), instance: "i".into(), task: "t".into() };
        let odd = Leaving { app: None, instance: "j".into(), task: "j".into() };
        let other = Leaving { app: None, instance: "k".into(), task: "k".into() };
        let named = word(
            r#"{"leaving":[{"app":"/a","instance":"i","task":"t"},{"app":"/a?b","instance":"j","task":""},{"instance":"k"},{"instance":5}]}"#,
        );
        assert_eq!(named, Some(Word::Leaving(vec![leaving, odd, other])));
        for data in [r#"{"id":"../apps"}"#, "{}", "no JSON", "[]"] {
            assert_eq!(word(data), None, "{data}");
        }
    }
}
