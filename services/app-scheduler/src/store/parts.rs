//! Records that hold many definitions, stored in several keys: no value is larger than the store takes, and what never
//! changes is written once.
//!
//! The main record says how many others there are. They are written after it and before anything that depends on them,
//! so a main record without all of them means that nothing else of its change was stored either.

use std::collections::BTreeMap;

use meshos_proto::meshos::apps::v1::{App, Deployment, RootChange};
use prost::Message;

/// Definitions of more bytes are stored apart, in records of about as many.
const PART_BYTES: usize = 256 * 1024;

/// A record that may be stored in parts.
pub(super) trait Parted: Message + Clone + Default {
    /// Takes the definitions out.
    fn take(&mut self) -> Vec<(bool, App)>;
    /// Puts one back. The flag is that of [`Self::take`].
    fn put(&mut self, first: bool, app: App);
    fn records(&mut self) -> &mut u32;
    /// Adds the definitions of a part.
    fn join(&mut self, part: Self);
}

impl Parted for Deployment {
    fn take(&mut self) -> Vec<(bool, App)> {
        let originals = std::mem::take(&mut self.originals).into_iter().map(|app| (true, app));
        originals.chain(std::mem::take(&mut self.targets).into_iter().map(|app| (false, app))).collect()
    }

    fn put(&mut self, first: bool, app: App) {
        if first { self.originals.push(app) } else { self.targets.push(app) }
    }

    fn records(&mut self) -> &mut u32 {
        &mut self.definition_records
    }

    fn join(&mut self, part: Self) {
        self.originals.extend(part.originals);
        self.targets.extend(part.targets);
    }
}

impl Parted for RootChange {
    fn take(&mut self) -> Vec<(bool, App)> {
        std::mem::take(&mut self.apps_before).into_iter().map(|app| (true, app)).collect()
    }

    fn put(&mut self, _first: bool, app: App) {
        self.apps_before.push(app);
    }

    fn records(&mut self) -> &mut u32 {
        &mut self.definition_records
    }

    fn join(&mut self, part: Self) {
        self.apps_before.extend(part.apps_before);
    }
}

/// The main record and its parts. One record when it is small.
pub(super) fn split<R: Parted>(record: &R) -> (R, Vec<R>) {
    if record.encoded_len() <= PART_BYTES {
        return (record.clone(), Vec::new());
    }
    let mut main = record.clone();
    let mut parts = Vec::new();
    let (mut part, mut bytes) = (R::default(), 0);
    for (first, app) in main.take() {
        let size = app.encoded_len();
        if bytes > 0 && bytes + size > PART_BYTES {
            parts.push(std::mem::take(&mut part));
            bytes = 0;
        }
        part.put(first, app);
        bytes += size;
    }
    if bytes > 0 {
        parts.push(part);
    }
    *main.records() = u32::try_from(parts.len()).unwrap_or(u32::MAX);
    (main, parts)
}

/// Key of a part; `number` counts from 0.
pub(super) fn key(main: &str, number: usize) -> String {
    format!("{main}~{number:05}")
}

/// Records as they are read, by the key of the main record.
#[derive(Debug)]
pub(super) struct Reading<R> {
    whole: BTreeMap<String, R>,
    /// Each with its own key.
    parts: BTreeMap<String, Vec<(String, R)>>,
}

impl<R> Default for Reading<R> {
    fn default() -> Self {
        Self { whole: BTreeMap::new(), parts: BTreeMap::new() }
    }
}

impl<R: Parted> Reading<R> {
    pub(super) fn add(&mut self, key: &str, record: R) {
        match key.split_once('~') {
            Some((main, _)) => {
                self.parts.entry(main.to_owned()).or_default().push((key.to_owned(), record));
            }
            None => drop(self.whole.insert(key.to_owned(), record)),
        }
    }

    /// The records that are whole, in order of their keys; and all keys of those that are not.
    pub(super) fn finish(mut self) -> (Vec<R>, Vec<String>) {
        let (mut records, mut torn) = (Vec::new(), Vec::new());
        for (key, mut record) in self.whole {
            let parts = self.parts.remove(&key).unwrap_or_default();
            if parts.len() != std::mem::take(record.records()) as usize {
                torn.push(key);
                torn.extend(parts.into_iter().map(|(key, _)| key));
                continue;
            }
            parts.into_iter().for_each(|(_, part)| record.join(part));
            records.push(record);
        }
        torn.extend(self.parts.into_values().flatten().map(|(key, _)| key));
        (records, torn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apps(count: usize, bytes: usize) -> Vec<App> {
        let app =
            |at: usize| App { id: format!("/a{at}"), cmd: Some("x".repeat(bytes)), ..Default::default() };
        (0..count).map(app).collect()
    }

    #[test]
    fn many_definitions_are_stored_apart_and_come_back_whole() {
        for (count, bytes) in [(0, 0), (3, 100), (10, 100_000), (5000, 500)] {
            let record = Deployment {
                id: "d".into(),
                originals: apps(count / 2, bytes),
                targets: apps(count, bytes),
                ..Default::default()
            };
            let (main, parts) = split(&record);
            assert_eq!(parts.is_empty(), count * bytes < PART_BYTES, "{count}");
            assert!(parts.iter().all(|part| part.encoded_len() < 2 * PART_BYTES));
            assert!(parts.is_empty() || main.encoded_len() < 100);
            let mut reading = Reading::default();
            // The order of keys: the main one, then its parts.
            reading.add("k", main);
            parts.into_iter().enumerate().for_each(|(at, part)| reading.add(&key("k", at), part));
            assert_eq!(reading.finish(), (vec![record], Vec::new()));
        }
    }

    #[test]
    fn a_record_without_all_of_its_parts_is_left_out() {
        let record = RootChange { apps_before: apps(10, 100_000), ..Default::default() };
        let (main, parts) = split(&record);
        let mut reading = Reading::default();
        reading.add("k", main);
        parts.into_iter().skip(1).enumerate().for_each(|(at, part)| reading.add(&key("k", at + 1), part));
        let (whole, torn) = reading.finish();
        assert!(whole.is_empty() && torn[0] == "k" && torn.len() > 2, "{torn:?}");
        let mut reading = Reading::default();
        reading.add(&key("k", 0), RootChange::default());
        assert_eq!(reading.finish(), (Vec::new(), vec![key("k", 0)]));
    }
}
