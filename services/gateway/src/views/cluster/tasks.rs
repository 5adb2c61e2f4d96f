//! Tasks by framework and place, with their counts.

use std::{collections::BTreeMap, sync::Arc};

use meshos_proto::{meshos::allocator::v1::TaskPlace, mesos::v1::Task, packed};

use super::{
    Key, Map,
    counts::{Counted, Counts, Groups},
};

/// Places that a task can be in; it tells apart a completed task from a live one of the same id.
const PLACES: [TaskPlace; 3] = [TaskPlace::Live, TaskPlace::Unreachable, TaskPlace::Completed];

/// All tasks.
#[derive(Clone, Debug, Default)]
pub(super) struct Tasks {
    by_framework: BTreeMap<Key, [Map<Entry>; PLACES.len()]>,
    counted: Counted,
}

#[derive(Clone, Debug)]
struct Entry {
    task: Arc<Task>,
    /// See [`first_status`]; beside the task, so that sorting does not touch it.
    first: f64,
}

impl Entry {
    fn new(task: Task) -> Self {
        Self { first: first_status(&task), task: Arc::new(task) }
    }
}

/// Unix time of a task's first status in seconds; 0 when it has none.
fn first_status(task: &Task) -> f64 {
    task.statuses.first().map_or(0.0, |status| status.timestamp())
}

fn slot(place: i32) -> usize {
    let place = TaskPlace::try_from(place).unwrap_or_default();
    PLACES.iter().position(|known| *known == place).unwrap_or_default()
}

impl Tasks {
    pub(super) fn put(&mut self, packed: &packed::Task) {
        let (Some(task), place) = (packed.unpack(), packed.place) else {
            tracing::warn!(bytes = packed.task.len(), "a task cannot be read and is not shown");
            return;
        };
        let framework = task.framework_id.value.as_str();
        if !self.by_framework.contains_key(framework) {
            self.by_framework.insert(framework.into(), Default::default());
        }
        let Some(places) = self.by_framework.get_mut(framework) else { return };
        let tasks = &mut places[slot(place)];
        self.counted.step(framework, &task.agent_id.value, task.state, true);
        if let Some(entry) = tasks.get_mut(task.task_id.value.as_str()) {
            let old = std::mem::replace(entry, Entry::new(task)).task;
            self.counted.step(&old.framework_id.value, &old.agent_id.value, old.state, false);
        } else {
            tasks.insert(task.task_id.value.as_str().into(), Entry::new(task));
        }
    }

    pub(super) fn remove(&mut self, framework: &str, place: i32, id: &str) {
        let Some(places) = self.by_framework.get_mut(framework) else { return };
        let Some(Entry { task, .. }) = places[slot(place)].remove(id) else { return };
        self.counted.step(framework, &task.agent_id.value, task.state, false);
        if places.iter().all(Map::is_empty) {
            self.by_framework.remove(framework);
        }
    }

    /// Removes a framework's tasks.
    pub(super) fn forget(&mut self, framework: &str) {
        for places in self.by_framework.remove(framework).into_iter().flatten() {
            for Entry { task, .. } in places.values() {
                self.counted.step(framework, &task.agent_id.value, task.state, false);
            }
        }
    }

    pub(super) fn get(&self, framework: &str, place: i32, id: &str) -> Option<&Task> {
        self.by_framework.get(framework)?[slot(place)].get(id).map(|entry| &*entry.task)
    }

    /// Of one framework and place, by id.
    pub(super) fn of(&self, framework: &str, place: TaskPlace) -> impl Iterator<Item = &Task> {
        let places = self.by_framework.get(framework);
        places
            .into_iter()
            .flat_map(move |places| places[slot(place as i32)].values().map(|entry| &*entry.task))
    }

    /// All tasks, with their place.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Task, TaskPlace)> {
        self.by_framework.values().flat_map(|places| {
            let of =
                |(tasks, place): (_, _)| Map::values(tasks).map(move |entry: &Entry| (&*entry.task, place));
            places.iter().zip(PLACES).flat_map(of)
        })
    }

    /// A page of the tasks that are `wanted`, by the time of their first status; tasks of one time by framework,
    /// place and id, or the other way round. Looks at every task, and sorts those of the page only.
    pub(super) fn page(&self, page: &Page<'_>) -> Vec<&Arc<Task>> {
        let one = page.framework.map(|id| self.by_framework.get(id).into_iter().collect::<Vec<_>>());
        let frameworks = one.unwrap_or_else(|| self.by_framework.values().collect());
        let all = frameworks.into_iter().flatten();
        let mut found: Vec<(f64, usize, &Arc<Task>)> = match page.task {
            Some(id) => {
                all.filter_map(|tasks| tasks.get(id)).map(|entry| (entry.first, 0, &entry.task)).collect()
            }
            None => all.flat_map(Map::values).map(|entry| (entry.first, 0, &entry.task)).collect(),
        };
        for (place, found) in found.iter_mut().enumerate() {
            found.1 = place;
        }
        let order = |a: &(f64, usize, _), b: &(f64, usize, _)| {
            let ascending = a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
            if page.ascending { ascending } else { ascending.reverse() }
        };
        let end = page.offset.saturating_add(page.limit).min(found.len());
        if end > 0 && end < found.len() {
            found.select_nth_unstable_by(end - 1, order);
        }
        found.truncate(end);
        found.sort_unstable_by(order);
        found.into_iter().skip(page.offset).map(|(.., task)| task).collect()
    }

    pub(super) fn counts(&self) -> &Counts {
        &self.counted.whole
    }

    pub(super) fn of_framework(&self) -> &Map<Counts> {
        &self.counted.of_framework
    }

    pub(super) fn by_framework(&self) -> &Groups {
        &self.counted.by_framework
    }

    pub(super) fn by_agent(&self) -> &Groups {
        &self.counted.by_agent
    }
}

/// Which tasks, in which order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page<'a> {
    pub(crate) framework: Option<&'a str>,
    pub(crate) task: Option<&'a str>,
    pub(crate) ascending: bool,
    pub(crate) offset: usize,
    pub(crate) limit: usize,
}
