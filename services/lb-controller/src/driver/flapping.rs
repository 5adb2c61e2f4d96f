//! Tasks whose checks find them good and bad in turns: such a one gets nothing until it has been quiet for a while.

use std::{
    collections::{BTreeMap, VecDeque},
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

/// By task.
#[derive(Debug, Default)]
pub(super) struct Flapping(BTreeMap<String, Task>);

impl Flapping {
    /// What is known of a task's health now. Whether the task is to be left out, good as it may be.
    pub(super) fn note(&mut self, id: &str, app_id: &str, alive: bool, now: Instant) -> bool {
        let Some(task) = self.0.get_mut(id) else {
            let new = Task { app_id: app_id.to_owned(), alive, changes: VecDeque::new() };
            self.0.insert(id.to_owned(), new);
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
        task.changes.len() > MOST
    }

    pub(super) fn forget(&mut self, id: &str) {
        self.0.remove(id);
    }

    /// Those that were left out, with their apps: they may have been quiet since.
    pub(super) fn held(&self) -> Vec<(String, String)> {
        let held = self.0.iter().filter(|(_, task)| task.changes.len() > MOST);
        held.map(|(id, task)| (id.clone(), task.app_id.clone())).collect()
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
        assert!(note(&mut flapping, true, 60));
        // The first change was at second 1.
        assert!(!note(&mut flapping, true, 61));
        assert!(flapping.held().is_empty());
        flapping.forget("i");
        assert!(!note(&mut flapping, false, 62));
    }
}
