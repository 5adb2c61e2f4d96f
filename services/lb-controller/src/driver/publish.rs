//! Brings the running HAProxy, and the files, to what the core says.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tracing::{error, warn};

use super::Driver;
use crate::{
    core::{
        Changes,
        render::structure,
        rules::Map,
        slots::{Commands, commands},
    },
    haproxy::{
        files::digest,
        socket::{self, escaped},
    },
};

/// A map of which more changes is replaced as a whole.
const FEW: usize = 100;
/// What HAProxy takes as one payload, with room to spare.
const PAYLOAD: usize = 12 * 1024;

impl Driver {
    /// First those that add, so that there is always somebody to answer; then hosts; then those that remove.
    pub(super) async fn publish(&mut self, changes: Changes) {
        let mut wanted = Commands::default();
        for backend in &changes.backends {
            let (Some(slots), Some(applied)) =
                (self.core.slots(backend), self.running.applied.get_mut(backend))
            else {
                continue;
            };
            let of_backend = commands(backend, slots, applied);
            wanted.adding.extend(of_backend.adding);
            wanted.removing.extend(of_backend.removing);
        }
        self.pending.extend(changes.entries);
        self.stale_head |= changes.rule_texts;
        self.give(&wanted.adding).await;
        self.publish_entries().await;
        self.give(&wanted.removing).await;
        self.tell_old_workers(&wanted);
        self.file(changes.texts);
        self.name_problems();
    }

    /// Gives HAProxy commands. What it did not take shows at the next comparison, which is then at once.
    pub(super) async fn give(&mut self, commands: &[String]) {
        if commands.is_empty() {
            return;
        }
        self.metrics.commands.inc_by(commands.len() as u64);
        match socket::run(&self.files.stats_socket(), commands).await {
            Ok(complaints) if complaints.is_empty() => {}
            Ok(complaints) => {
                self.metrics.complaints.inc_by(complaints.len() as u64);
                warn!(complaint = complaints[0], count = complaints.len(), "HAProxy refused commands");
                self.compare_soon(Duration::ZERO);
            }
            Err(error) => {
                warn!(%error, "HAProxy cannot be reached");
                self.compare_soon(Duration::ZERO);
            }
        }
    }

    /// Files of units: at once when the worker has their structure, else they are looked at first.
    fn file(&mut self, units: BTreeSet<String>) {
        for unit in units {
            let text = self.core.text(&unit);
            let known = self.known_structure(&unit);
            let has_candidate = !self.core.candidates_to_check(&BTreeSet::from([unit.clone()])).is_empty();
            if has_candidate || structure_of(&text) != known {
                self.stale.insert(unit);
                self.touch_stale();
            } else if self.phase.is_reloading() {
                self.unwritten.insert(unit);
            } else {
                self.write_unit(&unit, &text);
            }
        }
        if self.stale_head {
            self.touch_stale();
        }
    }

    pub(super) fn write_unit(&self, unit: &str, text: &str) {
        self.write_units([(unit, text)]);
    }

    pub(super) fn write_units<'a>(&self, texts: impl IntoIterator<Item = (&'a str, &'a str)>) {
        if let Err(error) = self.files.write_units(texts) {
            error!(%error, "configuration cannot be written");
        }
    }

    /// Entries whose backend runs; during a reload none, since nobody knows which worker would get them.
    pub(super) async fn publish_entries(&mut self) {
        if self.phase.is_reloading() || self.pending.is_empty() {
            return;
        }
        let mut by_map: BTreeMap<Map, Vec<(String, Option<String>)>> = BTreeMap::new();
        let mut waiting = BTreeMap::new();
        for ((map, key), value) in std::mem::take(&mut self.pending) {
            let backend = value.as_ref().filter(|_| map != Map::Redirects);
            if backend.is_some_and(|backend| !self.running.applied.contains_key(backend)) {
                waiting.insert((map, key), value);
            } else {
                by_map.entry(map).or_default().push((key, value));
            }
        }
        self.pending = waiting;
        for (map, entries) in by_map {
            self.change_map(map, entries).await;
            let running = self.running.maps.get(&map).cloned().unwrap_or_default();
            if let Err(error) = self.files.write_map(map, &running) {
                error!(map = map.file(), %error, "map cannot be written");
            }
        }
    }

    async fn change_map(&mut self, map: Map, entries: Vec<(String, Option<String>)>) {
        let file = self.files.map(map).display().to_string();
        let running = self.running.maps.entry(map).or_default();
        let many = entries.len() > FEW;
        // What is new comes before what goes.
        let (mut adding, mut removing) = (Vec::new(), Vec::new());
        for (key, value) in entries {
            let word = escaped(&key);
            match value {
                Some(value) => match running.insert(key, value.clone()) {
                    Some(old) if old == value => {}
                    Some(_) => adding.push(format!("set map {file} {word} {value}")),
                    None => adding.push(format!("add map {file} {word} {value}")),
                },
                None => {
                    if running.remove(&key).is_some() {
                        removing.push(format!("del map {file} {word}"));
                    }
                }
            }
        }
        if many {
            self.replace_map(map).await;
        } else {
            adding.append(&mut removing);
            self.give(&adding).await;
        }
    }

    /// Replaces a map of HAProxy with what it is to be, all at once.
    pub(super) async fn replace_map(&mut self, map: Map) {
        let entries = self.running.maps.get(&map).cloned().unwrap_or_default();
        match self.replace_map_with(map, &entries).await {
            Ok(()) => {}
            Err(error) => {
                warn!(map = map.file(), %error, "map cannot be replaced");
                self.compare_soon(Duration::ZERO);
            }
        }
    }

    async fn replace_map_with(&self, map: Map, entries: &BTreeMap<String, String>) -> std::io::Result<()> {
        let (socket, file) = (self.files.stats_socket(), self.files.map(map).display().to_string());
        let answer = socket::ask(&socket, &format!("prepare map {file}")).await?;
        let version = answer.trim().rsplit(' ').next().and_then(|word| word.parse::<u64>().ok());
        let version = version.ok_or_else(|| std::io::Error::other(answer.clone()))?;
        let mut payload = String::new();
        for (key, value) in entries {
            if payload.len() + key.len() + value.len() > PAYLOAD {
                socket::ask(&socket, &format!("add map @{version} {file} <<\n{payload}")).await?;
                payload.clear();
            }
            payload.push_str(&format!("{key} {value}\n"));
        }
        if !payload.is_empty() {
            socket::ask(&socket, &format!("add map @{version} {file} <<\n{payload}")).await?;
        }
        // A payload that was too long is answered as a success and does nothing.
        let shown = socket::ask(&socket, &format!("show map @{version} {file}")).await?;
        let count = shown.lines().filter(|line| !line.is_empty()).count();
        if count != entries.len() {
            return Err(std::io::Error::other(format!("{count} of {} entries arrived", entries.len())));
        }
        socket::ask(&socket, &format!("commit map @{version} {file}")).await.map(drop)
    }
}

/// Digest of a text's structure; none: there is no text.
pub(super) fn structure_of(text: &str) -> Option<u64> {
    (!text.is_empty()).then(|| digest(structure(text).as_bytes()))
}
