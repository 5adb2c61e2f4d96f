//! What cannot be changed while HAProxy runs: texts are looked at, files written, the master told to read them, and
//! the new worker brought up to date. One step at a time, and the loop goes on between them.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    time::Duration,
};

use tokio::time::Instant;
use tracing::{error, info, warn};

use super::{Driver, publish::structure_of};
use crate::{
    core::{model::Problem, rules::Map},
    haproxy::{
        files::{digest, replace},
        socket,
    },
};

/// Changes that come close together are loaded together: after so much quiet, but not later than the second.
const QUIET: Duration = Duration::from_millis(40);
const LONGEST_WAIT: Duration = Duration::from_millis(500);
/// Between two reloads: each leaves an old worker behind.
const BETWEEN: Duration = Duration::from_millis(500);
/// How often the master is asked whether the new worker runs.
const LOOK: Duration = Duration::from_millis(10);
/// A reload that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(60);
/// A failed reload is not tried again at once: one that cannot bind costs seconds of outage.
const AFTER_FAILURE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) enum Phase {
    Idle,
    /// HAProxy looks at texts.
    Checking,
    /// Files are written, and the master was told.
    Reloading(Reloading),
}

#[derive(Debug)]
pub(super) struct Reloading {
    since: Instant,
    /// When the master is asked next.
    next: Instant,
    worker: u32,
    failed: u32,
    head: u64,
    /// Digests of the structures that were loaded; none: the unit is gone.
    structures: BTreeMap<String, Option<u64>>,
    maps: BTreeMap<Map, BTreeMap<String, String>>,
    /// Ports that the new worker listens on.
    ports: BTreeSet<u16>,
    /// What the files held before.
    before: BTreeMap<String, String>,
    head_before: String,
}

impl Phase {
    pub(super) fn is_reloading(&self) -> bool {
        matches!(self, Self::Reloading(_))
    }
}

impl Driver {
    /// Digest of the structure that HAProxy has of a unit, or is about to have.
    pub(super) fn known_structure(&self, unit: &str) -> Option<u64> {
        let loading = match &self.phase {
            Phase::Reloading(reloading) => reloading.structures.get(unit),
            _ => None,
        };
        loading.copied().unwrap_or_else(|| self.running.structures.get(unit).copied())
    }

    pub(super) fn touch_stale(&mut self) {
        let now = Instant::now();
        let first = self.stale_since.map_or(now, |(first, _)| first);
        self.stale_since = Some((first, now));
    }

    /// Whether a reload is due or under way.
    pub(super) fn is_changing(&self) -> bool {
        self.stale_since.is_some() || !matches!(self.phase, Phase::Idle)
    }

    /// When [`Driver::advance_reload`] has something to do.
    pub(super) fn reload_due(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Checking => None,
            Phase::Reloading(reloading) => Some(reloading.next),
            Phase::Idle => {
                let (first, last) = self.stale_since?;
                let quiet = (last + QUIET).min(first + LONGEST_WAIT);
                Some(self.last_reload.map_or(quiet, |reload| quiet.max(reload + BETWEEN)))
            }
        }
    }

    pub(super) async fn advance_reload(&mut self) {
        match &self.phase {
            Phase::Checking => {}
            Phase::Reloading(_) => self.look_at_reload().await,
            Phase::Idle => {
                self.stale_since = None;
                let stale = self.stale.clone();
                let candidates = self.core.candidates_to_check(&stale);
                if candidates.is_empty() {
                    self.drop_found_entries();
                    self.publish_entries().await;
                    self.load().await;
                } else {
                    self.check(candidates);
                }
                self.name_problems();
            }
        }
    }

    /// Writes what differs in structure, and tells the master.
    pub(super) async fn load(&mut self) {
        if self.phase.is_reloading() {
            return;
        }
        if self.last_reload.is_some_and(|reload| reload.elapsed() < BETWEEN) {
            if !self.stale.is_empty() || self.stale_head {
                self.touch_stale();
            }
            return;
        }
        if self.block_taken_ports() {
            // Without the port it is another text, to be looked at first.
            let changes = self.core.settle();
            self.publish(changes).await;
            self.touch_stale();
            return;
        }
        self.stale_since = None;
        let mut structures = BTreeMap::new();
        let mut texts = BTreeMap::new();
        for unit in std::mem::take(&mut self.stale) {
            if self.core.is_unchecked(&unit) {
                // It came while HAProxy looked at others: what is published of it until then is what was before.
                self.stale.insert(unit.clone());
            }
            let text = self.core.text(&unit);
            let structure = structure_of(&text);
            if structure != self.running.structures.get(&unit).copied() {
                structures.insert(unit.clone(), structure);
            }
            texts.insert(unit, text);
        }
        let head = match self.head() {
            Ok(head) => head,
            Err(problem) => {
                error!(message = problem.message, "the head of the configuration cannot be used");
                std::fs::read_to_string(self.files.head()).unwrap_or_default()
            }
        };
        self.stale_head = false;
        if !self.stale.is_empty() {
            self.touch_stale();
        }
        if structures.is_empty() && digest(head.as_bytes()) == self.running.head {
            self.write_units(pairs(&texts));
            return;
        }
        // What waits for a check is not to be forgotten.
        let units: Vec<String> = texts.keys().cloned().collect();
        if let Err(error) = self.reload(&head, texts, structures).await {
            if !self.phase.is_reloading() {
                // It did not come as far as the master: all of it is still to be loaded.
                self.stale.extend(units);
                self.stale_head = true;
            }
            self.failed(&format!("{error}")).await;
        }
    }

    async fn reload(
        &mut self,
        head: &str,
        texts: BTreeMap<String, String>,
        structures: BTreeMap<String, Option<u64>>,
    ) -> io::Result<()> {
        let found = self.process.processes().await?;
        let before = texts.keys().map(|unit| Ok((unit.clone(), self.files.read_unit(unit)?)));
        let before = before.collect::<io::Result<_>>()?;
        self.files.write_units(pairs(&texts))?;
        let head_before = std::fs::read_to_string(self.files.head()).unwrap_or_default();
        replace(&self.files.head(), head.as_bytes())?;
        let mut maps = BTreeMap::new();
        for map in Map::ALL {
            self.files.write_map(map, self.core.map(map))?;
            maps.insert(map, self.core.map(map).clone());
        }
        self.dump_state().await?;
        let ports = self.ports_to_bind();
        self.pending.clear();
        self.phase = Phase::Reloading(Reloading {
            since: Instant::now(),
            next: Instant::now() + LOOK,
            worker: found.worker,
            failed: found.failed_reloads,
            head: digest(head.as_bytes()),
            structures,
            maps,
            ports,
            before,
            head_before,
        });
        self.process.reload().await.or_else(|error| {
            // The master drops the connection when it begins.
            if error.kind() == io::ErrorKind::ConnectionReset { Ok(()) } else { Err(error) }
        })
    }

    /// Servers that HAProxy's checks found dead stay so in the new worker.
    async fn dump_state(&self) -> io::Result<()> {
        let state = socket::ask(&self.files.stats_socket(), "show servers state").await?;
        let state = state.trim_end().to_owned() + "\n";
        replace(&self.files.state(), state.as_bytes())
    }

    async fn look_at_reload(&mut self) {
        let Phase::Reloading(reloading) = &mut self.phase else { return };
        reloading.next = Instant::now() + LOOK;
        let (worker, failed, since) = (reloading.worker, reloading.failed, reloading.since);
        let found = self.process.processes().await;
        match found {
            Ok(found) if found.failed_reloads > failed => {
                let said = self.process.last_words();
                self.failed(&said).await;
            }
            Ok(found) if found.worker != 0 && found.worker != worker => {
                self.loaded(found.worker, since).await;
            }
            _ if since.elapsed() > LIMIT => self.failed("no new worker came up in time").await,
            _ => {}
        }
    }

    /// The new worker runs: it gets what changed since its files were written.
    async fn loaded(&mut self, worker: u32, since: Instant) {
        let Phase::Reloading(done) = std::mem::replace(&mut self.phase, Phase::Idle) else { return };
        self.await_worker(worker).await;
        self.running.worker = worker;
        self.running.head = done.head;
        for (unit, structure) in done.structures {
            match structure {
                Some(structure) => self.running.structures.insert(unit, structure),
                None => self.running.structures.remove(&unit),
            };
        }
        self.running.maps = done.maps;
        self.running.ports = done.ports;
        self.running.applied.clear();
        self.resync_servers().await;
        self.mark_applied();
        if let Err(error) = self.files.clear_state() {
            warn!(%error, "states of servers cannot be cleared");
        }
        self.write_unwritten();
        self.publish_entries().await;
        self.asking.old_workers = true;
        self.tell_untold();
        self.metrics.services.set(super::signed(self.core.services("").count()));
        self.own_problems.remove("reload");
        self.last_reload = Some(Instant::now());
        self.metrics.reloads.inc();
        self.metrics.reload_seconds.observe(since.elapsed().as_secs_f64());
        info!(worker, ms = since.elapsed().as_millis(), "HAProxy runs a new configuration");
        self.name_problems();
    }

    fn unwritten_texts(&mut self) -> BTreeMap<String, String> {
        let unwritten = std::mem::take(&mut self.unwritten).into_iter();
        unwritten.map(|unit| (unit.clone(), self.core.text(&unit))).collect()
    }

    /// Files that waited for the end of a reload.
    pub(super) fn write_unwritten(&mut self) {
        let texts = self.unwritten_texts();
        self.write_units(pairs(&texts));
    }

    /// Its socket answers a moment after the master names it.
    async fn await_worker(&self, worker: u32) {
        let wanted = format!("Pid: {worker}");
        for _ in 0..500 {
            let answer = socket::ask(&self.files.stats_socket(), "show info").await.unwrap_or_default();
            if answer.lines().any(|line| line == wanted) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The old worker goes on; the files become again what it runs.
    async fn failed(&mut self, said: &str) {
        error!(said, "HAProxy did not load the new configuration");
        self.metrics.failed_reloads.inc();
        self.failed_reloads += 1;
        let problem = Problem::new("", "", format!("HAProxy did not load the new configuration: {said}"));
        self.own_problems.insert("reload".to_owned(), problem);
        if let Some(reloading) = self.cut_reload() {
            self.take_back(reloading);
            // The maps of the old worker are behind by what it was not told.
            let behind =
                Map::ALL.into_iter().filter(|map| self.running.maps.get(map) != Some(self.core.map(*map)));
            for map in behind.collect::<Vec<_>>() {
                let entries = self.core.map(map).iter();
                self.pending.extend(entries.map(|(key, value)| ((map, key.clone()), Some(value.clone()))));
            }
            self.publish_entries().await;
            self.tell_untold();
        }
        self.last_reload = Some(Instant::now() + AFTER_FAILURE);
        self.touch_stale();
        self.name_problems();
    }

    /// The reload that was under way, which is no more.
    pub(super) fn cut_reload(&mut self) -> Option<Reloading> {
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Reloading(reloading) => Some(reloading),
            phase => {
                self.phase = phase;
                None
            }
        }
    }

    /// The files become again what they were before a reload, which is not tried again at once.
    pub(super) fn take_back(&mut self, reloading: Reloading) {
        self.last_reload = Some(Instant::now() + AFTER_FAILURE);
        let mut texts = self.unwritten_texts();
        texts.extend(reloading.before);
        self.write_units(pairs(&texts));
        self.stale.extend(texts.into_keys());
        if let Err(error) = replace(&self.files.head(), reloading.head_before.as_bytes()) {
            error!(%error, "configuration cannot be written");
        }
    }
}

fn pairs(texts: &BTreeMap<String, String>) -> impl Iterator<Item = (&str, &str)> {
    texts.iter().map(|(unit, text)| (unit.as_str(), text.as_str()))
}
