//! Compares HAProxy with the table now and then, and repairs differences.

use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Unbounded},
    time::Duration,
};

use tokio::time::Instant;
use tracing::{debug, warn};

use super::{Driver, RECONCILE};
use crate::{
    core::{
        rules::Map,
        slots::{Applied, Commands, Endpoint, commands},
    },
    haproxy::socket,
};

/// Backends that are compared at once: thousands would hold changes up.
const TOGETHER: usize = 200;

/// How far the comparison has come.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    /// The backend that was looked at last; none: at the begin.
    last: Option<String>,
    /// Something is known to differ: all are looked at.
    all: bool,
}

impl Driver {
    /// Everything is compared after a while, because something was refused.
    pub(super) fn compare_soon(&mut self, after: Duration) {
        self.comparison.all = true;
        self.due.reconcile = Instant::now() + after;
    }

    /// Compares a part of HAProxy's servers with the table, at the end also its maps. All have had their turn after
    /// [`RECONCILE`].
    pub(super) async fn reconcile(&mut self) {
        let parts = self.running.applied.len() / TOGETHER + 1;
        self.due.reconcile = Instant::now() + RECONCILE / u32::try_from(parts).unwrap_or(u32::MAX);
        if self.phase.is_reloading() {
            return;
        }
        let Ok(found) = self.process.processes().await else { return };
        if found.worker != self.running.worker {
            debug!(worker = found.worker, "another worker runs than was started");
            self.running.worker = found.worker;
        }
        let comparison = std::mem::take(&mut self.comparison);
        let repaired = if comparison.all {
            self.resync_servers().await
        } else {
            let after = comparison.last.map_or(Unbounded, Excluded);
            let rest = self.running.applied.range::<String, _>((after, Unbounded));
            let part: Vec<String> = rest.take(TOGETHER).map(|(backend, _)| backend.clone()).collect();
            if part.len() == TOGETHER {
                self.comparison.last = part.last().cloned();
            }
            self.resync_part(&part).await
        };
        if repaired > 0 {
            self.repairs += repaired as u64;
            self.metrics.repairs.inc_by(repaired as u64);
            warn!(servers = repaired, "HAProxy differed from the table and was repaired");
        }
        if self.comparison.last.is_none() {
            self.resync_maps().await;
        }
    }

    /// Reads which servers HAProxy has, and changes those that are not as they shall be. Returns how many.
    pub(super) async fn resync_servers(&mut self) -> usize {
        let answer = match socket::ask(&self.files.stats_socket(), "show servers state").await {
            Ok(answer) => answer,
            Err(error) => return self.unreachable(&error),
        };
        self.running.applied.clear();
        self.running.numbers.clear();
        self.take_servers(&answer).await
    }

    async fn resync_part(&mut self, backends: &[String]) -> usize {
        let questions: Vec<String> =
            backends.iter().map(|backend| format!("show servers state {backend}")).collect();
        match socket::ask_all(&self.files.stats_socket(), &questions).await {
            Ok(answer) => self.take_servers(&answer).await,
            Err(error) => self.unreachable(&error),
        }
    }

    fn unreachable(&mut self, error: &std::io::Error) -> usize {
        warn!(%error, "HAProxy cannot be reached");
        // Soon again: without it nothing can be changed.
        self.compare_soon(Duration::from_secs(1));
        0
    }

    async fn take_servers(&mut self, answer: &str) -> usize {
        let mut all = Commands::default();
        for (backend, servers) in socket::servers(answer) {
            if !servers[0].name.starts_with('s') {
                continue;
            }
            let applied = servers.iter().map(|server| Applied {
                endpoint: Some(Endpoint {
                    ip: server.ip,
                    port: server.port,
                    check_port: (server.check_port != 0).then_some(server.check_port),
                }),
                ready: server.ready,
            });
            let mut applied: Vec<Applied> = applied.collect();
            if let Some(slots) = self.core.slots(&backend) {
                let of_backend = commands(&backend, slots, &mut applied);
                all.adding.extend(of_backend.adding);
                all.removing.extend(of_backend.removing);
            }
            self.running.numbers.insert(backend.clone(), servers[0].backend);
            self.running.applied.insert(backend, applied);
        }
        let count = all.adding.len() + all.removing.len();
        self.give(&all.adding).await;
        self.give(&all.removing).await;
        count
    }

    async fn resync_maps(&mut self) {
        for map in Map::ALL {
            let file = self.files.map(map).display().to_string();
            let Ok(answer) = socket::ask(&self.files.stats_socket(), &format!("show map {file}")).await
            else {
                return;
            };
            if &map_of(&answer) != self.running.maps.entry(map).or_default() {
                warn!(map = map.file(), "HAProxy's map differed from the table");
                self.repairs += 1;
                self.metrics.repairs.inc();
                self.replace_map(map).await;
            }
        }
    }
}

/// Reads `show map`: lines of address, key, value.
pub(super) fn map_of(answer: &str) -> BTreeMap<String, String> {
    let entry = |line: &str| {
        let mut words = line.split(' ').skip(1);
        Some((words.next()?.to_owned(), words.next()?.to_owned()))
    };
    answer.lines().filter_map(entry).collect()
}
