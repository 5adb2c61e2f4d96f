//! The whole picture, in messages of a moderate size. They are made one by one, while the owner goes on.

use std::{sync::Arc, vec::IntoIter};

use meshos_proto::meshos::apps::v1::{App, Instance, InstanceHealth, Snapshot};
use prost::Message;

use super::View;

/// Bytes of one part, about; far below what a message may have.
const PART: usize = 4 * 1024 * 1024;

/// Parts of the picture as it was when this was made. All but the last say that there is more.
#[derive(Debug)]
pub struct Parts {
    /// What there is little of stands in the first.
    first: Option<Snapshot>,
    apps: IntoIter<Arc<App>>,
    instances: IntoIter<Arc<Instance>>,
    health: IntoIter<Arc<InstanceHealth>>,
    most: usize,
    done: bool,
}

impl View {
    /// Everything.
    #[must_use]
    pub fn parts(&self) -> Parts {
        self.parts_of(PART)
    }

    /// Everything, in one piece.
    #[cfg(test)]
    pub(crate) fn snapshot(&self) -> Snapshot {
        self.parts_of(usize::MAX).next().unwrap()
    }

    fn parts_of(&self, most: usize) -> Parts {
        let first = Snapshot {
            deployments: self.deployments.values().cloned().collect(),
            failures: self.failures.values().cloned().collect(),
            queue: self.queue.values().cloned().collect(),
            framework_id: self.framework_id.clone(),
            leader: self.leader.clone(),
            groups: self.groups.values().cloned().collect(),
            readiness: self.readiness.values().cloned().collect(),
            finished: self.finished.values().cloned().collect(),
            settings: self.settings.clone(),
            ..Snapshot::default()
        };
        Parts {
            first: Some(first),
            apps: self.apps.values().cloned().collect::<Vec<_>>().into_iter(),
            instances: self.instances.values().cloned().collect::<Vec<_>>().into_iter(),
            health: self.health.values().cloned().collect::<Vec<_>>().into_iter(),
            most,
            done: false,
        }
    }
}

impl Parts {
    /// Puts the next thing into the part; its bytes, or none when there is nothing left.
    fn put(&mut self, part: &mut Snapshot) -> Option<usize> {
        fn copy<M: Message + Clone>(list: &mut Vec<M>, one: &Arc<M>) -> usize {
            list.push((**one).clone());
            one.encoded_len()
        }
        if let Some(app) = self.apps.next() {
            return Some(copy(&mut part.apps, &app));
        }
        if let Some(instance) = self.instances.next() {
            return Some(copy(&mut part.instances, &instance));
        }
        self.health.next().map(|health| copy(&mut part.health, &health))
    }
}

impl Iterator for Parts {
    type Item = Snapshot;

    fn next(&mut self) -> Option<Snapshot> {
        if self.done {
            return None;
        }
        let mut part = self.first.take().unwrap_or_default();
        let mut bytes = 0;
        while bytes < self.most {
            match self.put(&mut part) {
                Some(more) => bytes += more,
                None => {
                    self.done = true;
                    return Some(part);
                }
            }
        }
        Some(Snapshot { more: true, ..part })
    }
}

#[cfg(test)]
mod tests {
    use meshos_proto::meshos::apps::v1::{Delta, Group};

    use super::*;

    #[test]
    fn parts_hold_everything_once() {
        let mut view = View::default();
        let id = |number: u32| format!("{number:03}");
        view.apply(&Delta {
            apps: (0..10).map(|number| App { id: id(number), ..App::default() }).collect(),
            instances: (0..50).map(|number| Instance { id: id(number), ..Instance::default() }).collect(),
            groups: vec![Group { id: "/g".into(), ..Group::default() }],
            framework_id: Some("f".into()),
            ..Delta::default()
        });
        let whole = view.snapshot();
        assert_eq!((whole.apps.len(), whole.instances.len(), whole.more), (10, 50, false));
        let parts: Vec<Snapshot> = view.parts_of(20).collect();
        let (last, others) = parts.split_last().unwrap();
        assert!(others.len() > 10 && !last.more && others.iter().all(|part| part.more));
        let mut together = parts[0].clone();
        for part in &parts[1..] {
            together.apps.extend(part.apps.iter().cloned());
            together.instances.extend(part.instances.iter().cloned());
        }
        assert_eq!(Snapshot { more: false, ..together }, whole);
        // What comes after the beginning is not in it.
        let mut begun = view.parts();
        view.apply(&Delta { removed_apps: vec![id(3)], ..Delta::default() });
        assert_eq!(begun.next().unwrap().apps.len(), 10);
    }
}
