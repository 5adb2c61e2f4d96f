//! The instances of one app by what they are doing, kept as changes come in.

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;
use meshos_proto::meshos::apps::v1::{Condition, Goal, Instance};

/// What an instance is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// For an offer.
    Waiting,
    /// Placed, and nothing was heard of its task yet.
    Sent,
    /// Placed and not running.
    Launched,
    /// Running, and healthy and ready where that is checked.
    Ready,
    Unreachable,
    /// Unreachable for so long that it has a replacement.
    Inactive,
    /// To be removed, and not gone yet.
    Dying,
}

/// A class, and whether it runs the wanted configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot {
    pub class: Class,
    pub current: bool,
}

impl Slot {
    /// `checked`: nothing is known to be healthy before its checks say so. `deploying`: what has to become ready
    /// does not count before.
    pub(super) fn of(instance: &Instance, current: bool, checked: bool, deploying: bool) -> Self {
        let healthy = if checked { instance.healthy == Some(true) } else { instance.healthy != Some(false) };
        let ready = healthy && !(deploying && instance.ready == Some(false));
        let class = match (instance.goal(), instance.condition()) {
            (Goal::Stopped | Goal::Decommissioned, _) => Class::Dying,
            (_, Condition::Scheduled) => Class::Waiting,
            (_, Condition::Provisioned) => Class::Sent,
            (_, Condition::Running) if ready => Class::Ready,
            (_, Condition::Unreachable) => Class::Unreachable,
            (_, Condition::UnreachableInactive) => Class::Inactive,
            _ => Class::Launched,
        };
        Self { class, current }
    }
}

#[derive(Debug, Default)]
pub(super) struct Members {
    slots: IndexMap<String, Slot, foldhash::fast::RandomState>,
    sets: BTreeMap<Slot, BTreeSet<String>>,
}

impl Members {
    /// Puts the instance where it belongs now.
    pub(super) fn place(&mut self, id: &str, slot: Slot) {
        let Some(known) = self.slots.get_mut(id) else {
            self.slots.insert(id.to_owned(), slot);
            self.sets.entry(slot).or_default().insert(id.to_owned());
            return;
        };
        let old = std::mem::replace(known, slot);
        if old != slot {
            let taken = self.sets.get_mut(&old).and_then(|set| set.take(id));
            self.sets.entry(slot).or_default().insert(taken.unwrap_or_else(|| id.to_owned()));
        }
    }

    pub(super) fn remove(&mut self, id: &str) {
        if let Some(old) = self.slots.swap_remove(id)
            && let Some(set) = self.sets.get_mut(&old)
        {
            set.remove(id);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// All ids.
    pub(super) fn ids(&self) -> Vec<String> {
        self.slots.keys().cloned().collect()
    }

    /// Ids of up to `count` that were not told to end yet; those that wait come first.
    pub(super) fn staying(&self, count: usize) -> Vec<String> {
        let sets = self.sets.iter().filter(|(slot, _)| slot.class != Class::Dying);
        sets.flat_map(|(_, ids)| ids).take(count).cloned().collect()
    }

    /// Up to `count` ids of a class with or without the wanted configuration.
    pub(super) fn some(&self, class: Class, current: bool, count: usize) -> Vec<String> {
        self.set(class, current).take(count).cloned().collect()
    }

    fn set(&self, class: Class, current: bool) -> impl Iterator<Item = &String> {
        self.sets.get(&Slot { class, current }).into_iter().flatten()
    }

    /// Ids of a class with or without the wanted configuration.
    pub(super) fn of_config(&self, class: Class, current: bool) -> Vec<String> {
        self.set(class, current).cloned().collect()
    }

    pub(super) fn count_config(&self, class: Class, current: bool) -> usize {
        self.sets.get(&Slot { class, current }).map_or(0, BTreeSet::len)
    }

    pub(super) fn count(&self, class: Class) -> usize {
        self.count_config(class, true) + self.count_config(class, false)
    }

    /// Instances that are to run and count as existing.
    pub(super) fn existing(&self) -> usize {
        [Class::Waiting, Class::Sent, Class::Launched, Class::Ready, Class::Unreachable]
            .map(|class| self.count(class))
            .iter()
            .sum()
    }

    /// Ids of those.
    pub(super) fn existing_ids(&self, current: Option<bool>) -> Vec<String> {
        let classes = [Class::Waiting, Class::Sent, Class::Launched, Class::Ready, Class::Unreachable];
        let configs =
            [true, false].into_iter().filter(|config| current.is_none_or(|wanted| wanted == *config));
        let sets = configs.flat_map(|config| classes.map(|class| (class, config)));
        sets.flat_map(|(class, config)| self.set(class, config).cloned().collect::<Vec<_>>()).collect()
    }
}
