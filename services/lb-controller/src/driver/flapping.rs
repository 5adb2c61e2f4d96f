//! Tasks whose checks find them good and bad in turns: such a one gets nothing until it has been quiet for a while.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

/// More changes than so many within that time are too many.
const MOST: usize = 5;
const WITHIN: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Task {
    app_id: String,
    alive: bool,
    /// The last changes.
    changes: VecDeque<Instant>,
}

#[derive(Debug, Default)]
pub(super) struct Flapping {
    tasks: BTreeMap<String, Task>,
    /// Those that are left out: app and task.
    held: BTreeSet<(String, String)>,
}

impl Flapping {
    /// What is known of a task's health now. Whether the task is to be left out, good as it may be.
    pub(super) fn note(&mut self, id: &str, app_id: &str, alive: bool, now: Instant) -> bool {
        let Some(task) = self.tasks.get_mut(id) else {
            let new = Task { app_id: app_id.to_owned(), alive, changes: VecDeque::new() };
            self.tasks.insert(id.to_owned(), new);
            return false;
        };
        task.changes.retain(|change| now.duration_since(*change) < WITHIN);
        if task.alive != alive {
            task.alive = alive;
            task.changes.push_back(now);
            if task.changes.len() > MOST + 1 {
                task.changes.pop_front();
            }
        }
        let (key, held) = ((task.app_id.clone(), id.to_owned()), task.changes.len() > MOST);
        if held {
            self.held.insert(key);
        } else {
            self.held.remove(&key);
        }
        held
    }

    pub(super) fn forget(&mut self, id: &str) {
        if let Some(task) = self.tasks.remove(id) {
            self.held.remove(&(task.app_id, id.to_owned()));
        }
    }

    /// Those that were left out, with their apps: they may have been quiet since.
    pub(super) fn held(&self) -> Vec<(String, String)> {
        self.held.iter().map(|(app_id, id)| (id.clone(), app_id.clone())).collect()
    }

    /// Those of one app that were left out.
    pub(super) fn held_of(&self, app_id: &str) -> Vec<String> {
        let from = self.held.range((app_id.to_owned(), String::new())..);
        from.take_while(|(app, _)| app == app_id).map(|(_, id)| id.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_changes_too_often_is_left_out_until_it_is_quiet() {
        let (mut flapping, start) = (Flapping::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let note = |flapping: &mut Flapping, alive, seconds| flapping.note("i", "/a", alive, at(seconds));
        for second in 0..=5 {
            assert!(!note(&mut flapping, second % 2 == 0, second), "{second}");
        }
        assert!(flapping.held().is_empty());
        assert!(note(&mut flapping, true, 6));
        assert_eq!(flapping.held(), [("i".to_owned(), "/a".to_owned())]);
        assert_eq!((flapping.held_of("/a"), flapping.held_of("/")), (vec!["i".to_owned()], vec![]));
        assert!(note(&mut flapping, true, 60));
        // The first change was at second 1.
        assert!(!note(&mut flapping, true, 61));
        assert!(flapping.held().is_empty());
        for second in 61..80 {
            note(&mut flapping, second % 2 == 0, second);
        }
        assert_eq!(flapping.held_of("/a"), ["i"]);
        flapping.forget("i");
        assert!(flapping.held().is_empty() && !note(&mut flapping, false, 82));
    }
}
