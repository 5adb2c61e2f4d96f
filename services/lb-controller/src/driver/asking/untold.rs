//! Commands that old workers have not been given yet.

use std::collections::BTreeMap;

/// In the order they came; a later one for the same thing takes the place of the earlier one.
#[derive(Debug, Default)]
pub(super) struct Untold {
    next: u64,
    commands: BTreeMap<u64, String>,
    /// Numbers of commands by what they are about.
    by_key: BTreeMap<String, u64>,
}

impl Untold {
    pub(super) fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.commands.clear();
        self.by_key.clear();
    }

    pub(super) fn remember(&mut self, commands: impl IntoIterator<Item = String>) {
        for command in commands {
            let about = command.split(' ').take(4).collect::<Vec<_>>().join(" ");
            if let Some(earlier) = self.by_key.insert(about, self.next) {
                self.commands.remove(&earlier);
            }
            self.commands.insert(self.next, command);
            self.next += 1;
        }
    }

    pub(super) fn take(&mut self) -> Vec<String> {
        self.by_key.clear();
        std::mem::take(&mut self.commands).into_values().collect()
    }

    /// Puts what was taken and could not be told before what has come since.
    pub(super) fn put_back(&mut self, taken: Vec<String>) {
        if taken.is_empty() {
            return;
        }
        let since = self.take();
        self.remember(taken);
        self.remember(since);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| format!("set server b/{word}")).collect()
    }

    #[test]
    fn what_old_workers_are_told_does_not_pile_up() {
        let mut untold = Untold::default();
        untold.remember(of(&["s1 addr 10.0.0.1 port 1", "s1 state ready", "s2 state maint"]));
        untold.remember(of(&["s1 state maint"]));
        assert_eq!((untold.commands.len(), untold.by_key.len()), (3, 3));
        assert_eq!(untold.take(), of(&["s1 addr 10.0.0.1 port 1", "s2 state maint", "s1 state maint"]));
        assert!(untold.is_empty() && untold.by_key.is_empty());
    }

    #[test]
    fn what_could_not_be_told_comes_before_what_has_come_since() {
        let mut untold = Untold::default();
        untold.remember(of(&["s1 state ready", "s2 state ready"]));
        let taken = untold.take();
        untold.remember(of(&["s3 state ready", "s1 state maint"]));
        untold.put_back(taken);
        assert_eq!(untold.take(), of(&["s2 state ready", "s3 state ready", "s1 state maint"]));
    }
}
