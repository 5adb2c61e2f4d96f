//! Which images and layers are here, who holds them, and which may go. Without any file.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{ImageConfig, digest::Digest};

/// An image that is here, as it is written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) version: u32,
    /// With everything that a user's name only implies.
    pub(super) name: String,
    pub(super) digest: Digest,
    pub(super) config: ImageConfig,
    /// The lowest first; none twice.
    pub(super) layers: Vec<Layer>,
    /// When it was last used: the higher, the later.
    #[serde(default)]
    pub(super) used: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Layer {
    /// Of the content.
    pub(super) digest: Digest,
    /// Bytes on the disk.
    pub(super) size: u64,
}

/// The version of [`Record`].
pub(super) const VERSION: u32 = 1;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Unpacked {
    size: u64,
    /// By pulls that are not done yet.
    pins: usize,
}

#[derive(Debug, Default)]
pub(super) struct State {
    images: BTreeMap<String, Arc<Record>>,
    layers: BTreeMap<Digest, Unpacked>,
    /// By container.
    holds: BTreeMap<String, Arc<Record>>,
    /// When images were used since the start.
    uses: BTreeMap<String, u64>,
    clock: u64,
}

/// What is to be removed from the disk.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Removed {
    pub(super) images: Vec<String>,
    pub(super) layers: Vec<Digest>,
    pub(super) freed: u64,
}

impl State {
    /// Takes in what an agent before left: an image all of whose layers are there. False: one is not.
    pub(super) fn restore(&mut self, record: Record, present: &BTreeSet<Digest>) -> bool {
        let whole =
            !record.layers.is_empty() && record.layers.iter().all(|layer| present.contains(&layer.digest));
        if whole {
            self.clock = self.clock.max(record.used);
            self.insert(Arc::new(record));
        }
        whole
    }

    /// The same for what a container held.
    pub(super) fn restore_hold(
        &mut self,
        container: String,
        record: Record,
        present: &BTreeSet<Digest>,
    ) -> bool {
        let whole = record.layers.iter().all(|layer| present.contains(&layer.digest));
        if whole {
            self.know_layers(&record);
            self.holds.insert(container, Arc::new(record));
        }
        whole
    }

    fn know_layers(&mut self, record: &Record) {
        for layer in &record.layers {
            self.layers.entry(layer.digest.clone()).or_default().size = layer.size;
        }
    }

    /// An image is here, in place of one of the same name.
    pub(super) fn insert(&mut self, record: Arc<Record>) {
        self.know_layers(&record);
        self.images.insert(record.name.clone(), record);
    }

    /// A layer is gone, and with it the images that it was of.
    pub(super) fn lose(&mut self, layer: &Digest) {
        self.layers.remove(layer);
        self.images.retain(|_, record| record.layers.iter().all(|own| own.digest != *layer));
    }

    pub(super) fn image(&self, name: &str) -> Option<Arc<Record>> {
        self.images.get(name).cloned()
    }

    /// The next number of the clock that orders uses.
    pub(super) fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    pub(super) fn hold(&mut self, container: &str, record: &Arc<Record>) {
        let now = self.tick();
        self.uses.insert(record.name.clone(), now);
        self.holds.insert(container.to_owned(), Arc::clone(record));
    }

    /// Holds what is here under a name.
    pub(super) fn hold_image(&mut self, container: &str, name: &str) -> Option<Arc<Record>> {
        let record = self.image(name)?;
        self.hold(container, &record);
        Some(record)
    }

    pub(super) fn held(&self, container: &str) -> Option<Arc<Record>> {
        self.holds.get(container).cloned()
    }

    /// Whether there was something to release.
    pub(super) fn release(&mut self, container: &str) -> bool {
        self.holds.remove(container).is_some()
    }

    /// Containers that hold something, but for these.
    pub(super) fn others_than(&self, containers: &BTreeSet<String>) -> Vec<String> {
        self.holds.keys().filter(|holder| !containers.contains(*holder)).cloned().collect()
    }

    /// Keeps a layer that is here until it is unpinned; false when it is not.
    pub(super) fn pin(&mut self, layer: &Digest) -> bool {
        let found = self.layers.get_mut(layer);
        found.map(|found| found.pins += 1).is_some()
    }

    /// A layer is here from now on, pinned.
    pub(super) fn add(&mut self, layer: Digest, size: u64) {
        let unpacked = self.layers.entry(layer).or_default();
        unpacked.size = size;
        unpacked.pins += 1;
    }

    pub(super) fn unpin(&mut self, layer: &Digest) {
        if let Some(found) = self.layers.get_mut(layer) {
            found.pins = found.pins.saturating_sub(1);
        }
    }

    pub(super) fn size(&self, layer: &Digest) -> u64 {
        self.layers.get(layer).map_or(0, |found| found.size)
    }

    /// Lets images go that no container holds and nobody wants to keep, the longest unused first, until so many bytes
    /// are free; then layers of no image.
    pub(super) fn collect(&mut self, kept: &BTreeSet<String>, wanted: u64) -> Removed {
        let mut removed = self.sweep();
        let held: BTreeSet<_> = self.holds.values().map(|record| (&record.name, &record.digest)).collect();
        let used = |record: &Record| self.uses.get(&record.name).copied().unwrap_or(record.used);
        let mut candidates: Vec<_> = self
            .images
            .values()
            .filter(|record| !held.contains(&(&record.name, &record.digest)) && !kept.contains(&record.name))
            .map(|record| (used(record), record.name.clone()))
            .collect();
        candidates.sort();
        let mut references = self.references();
        for (_, name) in candidates {
            if removed.freed >= wanted {
                break;
            }
            let Some(record) = self.images.remove(&name) else { continue };
            self.uses.remove(&name);
            for layer in &record.layers {
                let count = references.entry(layer.digest.clone()).or_insert(1);
                *count -= 1;
                if *count == 0
                    && let Some(unpacked) = self.layers.remove(&layer.digest)
                {
                    removed.freed += unpacked.size;
                    removed.layers.push(layer.digest.clone());
                }
            }
            removed.images.push(name);
        }
        removed
    }

    /// Lets go layers of no image, no container and no pull.
    pub(super) fn sweep(&mut self) -> Removed {
        let references = self.references();
        let mut removed = Removed::default();
        self.layers.retain(|layer, unpacked| {
            let referred = references.contains_key(layer);
            if !referred {
                removed.freed += unpacked.size;
                removed.layers.push(layer.clone());
            }
            referred
        });
        removed
    }

    /// How many images, containers and pulls each layer is of.
    fn references(&self) -> BTreeMap<Digest, usize> {
        let mut references = BTreeMap::new();
        for record in self.images.values().chain(self.holds.values()) {
            for layer in &record.layers {
                *references.entry(layer.digest.clone()).or_insert(0) += 1;
            }
        }
        for (layer, unpacked) in self.layers.iter().filter(|(_, unpacked)| unpacked.pins > 0) {
            *references.entry(layer.clone()).or_insert(0) += unpacked.pins;
        }
        references
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(name: &str, layers: &[u8]) -> Arc<Record> {
        let layers = layers.iter().map(|n| Layer { digest: Digest::of(&[*n]), size: u64::from(*n) });
        Arc::new(Record {
            version: VERSION,
            name: name.to_owned(),
            digest: Digest::of(name.as_bytes()),
            config: ImageConfig::default(),
            layers: layers.collect(),
            used: 0,
        })
    }

    fn names(removed: &Removed) -> Vec<&str> {
        removed.images.iter().map(String::as_str).collect()
    }

    #[test]
    fn the_longest_unused_go_until_there_is_room() {
        let mut state = State::default();
        for (name, layers) in [("a", &[1, 10][..]), ("b", &[1, 20]), ("c", &[1, 30]), ("kept", &[40])] {
            state.insert(record(name, layers));
        }
        for (container, name) in [("1", "c"), ("2", "a"), ("3", "b")] {
            state.hold(container, &state.image(name).unwrap());
        }
        for container in ["1", "2"] {
            assert!(state.release(container));
        }
        let kept = BTreeSet::from(["kept".to_owned()]);
        let removed = state.collect(&kept, 1);
        assert_eq!((names(&removed), removed.freed), (vec!["c"], 30), "the shared layer stays");
        let removed = state.collect(&kept, u64::MAX);
        assert_eq!((names(&removed), removed.freed), (vec!["a"], 10), "b is held");
        // Its tag moved: the container keeps what it runs on.
        state.insert(record("b", &[2]));
        assert_eq!(state.collect(&kept, u64::MAX), Removed::default());
        assert!(state.release("3") && !state.release("3"));
        let removed = state.collect(&BTreeSet::new(), u64::MAX);
        assert_eq!((removed.images.len(), removed.freed), (2, 1 + 20 + 2 + 40));
    }

    #[test]
    fn pinned_layers_stay_and_lost_ones_make_an_image_lost() {
        let mut state = State::default();
        state.add(Digest::of(&[7]), 7);
        assert!(state.pin(&Digest::of(&[7])) && !state.pin(&Digest::of(&[8])));
        state.unpin(&Digest::of(&[7]));
        assert_eq!(state.sweep(), Removed::default());
        state.unpin(&Digest::of(&[7]));
        assert_eq!(state.sweep().freed, 7);
        let present = BTreeSet::from([Digest::of(&[1])]);
        let plain = |layers: &[u8]| Record::clone(&record("a", layers));
        assert!(!state.restore(plain(&[1, 2]), &present) && !state.restore(plain(&[]), &present));
        assert!(state.restore(plain(&[1]), &present) && state.image("a").is_some());
        assert!(!state.restore_hold("c".to_owned(), plain(&[2]), &present));
    }

    proptest! {
        /// What is collected is exactly what nothing refers to any more.
        #[test]
        fn layers_go_when_nothing_refers_to_them(
            images in prop::collection::vec(prop::collection::btree_set(1_u8..8, 1..4), 1..6),
            held in prop::collection::vec(any::<prop::sample::Index>(), 0..3),
            pinned in prop::collection::vec(1_u8..8, 0..2),
            wanted in 0_u64..30,
        ) {
            let mut state = State::default();
            for (number, layers) in images.iter().enumerate() {
                state.insert(record(&number.to_string(), &layers.iter().copied().collect::<Vec<_>>()));
            }
            for index in &held {
                let name = index.index(images.len()).to_string();
                state.hold(&name, &state.image(&name).unwrap());
            }
            for layer in pinned {
                state.pin(&Digest::of(&[layer]));
            }
            let before: BTreeSet<_> = state.layers.keys().cloned().collect();
            let removed = state.collect(&BTreeSet::new(), wanted);
            let after: BTreeSet<_> = state.layers.keys().cloned().collect();
            let gone: BTreeSet<_> = removed.layers.iter().cloned().collect();
            prop_assert_eq!(&before - &gone, after.clone());
            prop_assert_eq!(after, state.references().into_keys().collect::<BTreeSet<_>>());
            prop_assert!(removed.freed >= wanted || state.images.len() == state.holds.len());
        }
    }
}
