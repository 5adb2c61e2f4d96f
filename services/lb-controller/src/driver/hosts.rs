//! Addresses of the agents' hosts. An address that is given as such needs no looking up.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use meshos_mesh::Env;
use tokio::sync::mpsc;
use tracing::warn;

/// How long a failure holds before the next try.
const PAUSE: Duration = Duration::from_secs(2);
const DEADLINE: Duration = Duration::from_secs(5);

/// A host, and its address.
pub(super) type Found = (String, Option<IpAddr>);

/// Instance and app.
type Waiting = (String, String);

pub(super) struct Hosts {
    env: Env,
    known: BTreeMap<String, IpAddr>,
    /// Who waits for a host.
    waiting: BTreeMap<String, BTreeSet<Waiting>>,
    answers: (mpsc::Sender<Found>, mpsc::Receiver<Found>),
}

impl Hosts {
    pub(super) fn new(env: &Env) -> Self {
        Self {
            env: env.clone(),
            known: BTreeMap::new(),
            waiting: BTreeMap::new(),
            answers: mpsc::channel(64),
        }
    }

    /// The address, or none yet: [`Hosts::found`] tells.
    pub(super) fn resolve(&mut self, host: &str, id: &str, app_id: &str) -> Option<IpAddr> {
        if let Ok(ip) = host.parse() {
            return Some(ip);
        }
        if let Some(ip) = self.known.get(host) {
            return Some(*ip);
        }
        if host.is_empty() {
            return None;
        }
        let new = !self.waiting.contains_key(host);
        self.waiting.entry(host.to_owned()).or_default().insert((id.to_owned(), app_id.to_owned()));
        if new {
            self.look_up(host.to_owned(), Duration::ZERO);
        }
        None
    }

    fn look_up(&self, host: String, after: Duration) {
        let answers = self.answers.0.clone();
        self.env.tasks.spawn("lb-host", async move {
            tokio::time::sleep(after).await;
            let looked_up = tokio::time::timeout(DEADLINE, tokio::net::lookup_host((host.as_str(), 0))).await;
            let addresses: Vec<IpAddr> = looked_up
                .ok()
                .and_then(Result::ok)
                .into_iter()
                .flatten()
                .map(|address| address.ip())
                .collect();
            let v4 = addresses.iter().find(|ip| ip.is_ipv4()).or(addresses.first()).copied();
            // Nobody listens at the end.
            let _ = answers.send((host, v4)).await;
        });
    }

    pub(super) async fn found(&mut self) -> Option<Found> {
        self.answers.1.recv().await
    }

    /// Who waited for it.
    pub(super) fn take(&mut self, (host, ip): Found) -> BTreeSet<Waiting> {
        let Some(ip) = ip else {
            warn!(host, "host has no address, its tasks are not published");
            self.look_up(host, PAUSE);
            return BTreeSet::new();
        };
        self.known.insert(host.clone(), ip);
        self.waiting.remove(&host).unwrap_or_default()
    }
}
