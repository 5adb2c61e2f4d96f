//! What HAProxy is asked and told beside the loop, because old workers may be slow to answer or never do: which
//! servers have something under way, and what old workers are not to send anybody to. One question at a time.

use std::{collections::BTreeSet, io};

use tokio::sync::mpsc;

use super::{Driver, leaving::Place};
use crate::{
    core::slots::Commands,
    haproxy::{files::Files, workers},
};

/// What was found.
#[derive(Debug)]
pub(super) struct Answer {
    /// Who was the worker when it was asked for.
    worker: u32,
    /// Old workers; none: the master did not say.
    old: Option<usize>,
    /// Servers with something under way; none: that cannot be told.
    busy: Option<BTreeSet<Place>>,
}

#[derive(Debug)]
pub(super) struct Asking {
    answers: (mpsc::Sender<Answer>, mpsc::Receiver<Answer>),
    under_way: bool,
    /// Old workers may still be busy.
    pub(super) old_workers: bool,
    /// Commands that they have not been given yet.
    untold: Vec<String>,
}

impl Default for Asking {
    fn default() -> Self {
        Self { answers: mpsc::channel(1), under_way: false, old_workers: false, untold: Vec::new() }
    }
}

impl Asking {
    pub(super) async fn answer(&mut self) -> Option<Answer> {
        self.answers.1.recv().await
    }

    /// Remembers commands; a later one for the same thing takes the place of the earlier one.
    fn remember(&mut self, commands: impl Iterator<Item = String>) {
        let about = |command: &str| command.split(' ').take(4).collect::<Vec<_>>().join(" ");
        for command in commands {
            if !self.untold.is_empty() {
                let new = about(&command);
                self.untold.retain(|old| about(old) != new);
            }
            self.untold.push(command);
        }
    }
}

/// One round of questions.
struct Question {
    files: Files,
    worker: u32,
    old_workers: bool,
    tell: Vec<String>,
    /// Backends to look at; none: nobody wants to know.
    numbers: Option<Vec<u32>>,
}

impl Question {
    async fn ask(self) -> Answer {
        let found = if self.old_workers { workers::processes(&self.files).await.ok() } else { None };
        let old = found.map(|found| found.old_workers);
        workers::tell(&self.files, old.as_deref().unwrap_or_default(), &self.tell).await;
        let busy = match (self.old_workers, &old) {
            (true, None) => None,
            _ => self.busy(old.as_deref().unwrap_or_default()).await.ok(),
        };
        Answer { worker: self.worker, old: old.map(|old| old.len()), busy }
    }

    async fn busy(&self, old: &[u32]) -> io::Result<BTreeSet<Place>> {
        let Some(numbers) = &self.numbers else { return Err(io::ErrorKind::InvalidInput.into()) };
        if numbers.is_empty() {
            return Ok(BTreeSet::new());
        }
        let here = workers::sessions(&self.files, Some(numbers)).await?;
        let there = workers::sessions_of_old(&self.files, old).await?;
        let busy = here.into_iter().chain(there).filter(|(_, count)| *count > 0);
        Ok(busy.map(|(place, _)| place).collect())
    }
}

impl Driver {
    /// An old worker answers once more on each connection: it must not send anybody to a task that goes.
    pub(super) fn tell_old_workers(&mut self, wanted: &Commands) {
        if self.asking.old_workers {
            self.asking.remember(wanted.adding.iter().chain(&wanted.removing).cloned());
            if !self.asking.untold.is_empty() {
                self.ask();
            }
        }
    }

    /// Asks what is to be known of tasks that leave, unless that is under way.
    pub(super) fn ask(&mut self) {
        if self.asking.under_way {
            return;
        }
        // During a reload it is not clear whom the sockets belong to.
        let numbers = (!self.phase.is_reloading()).then(|| {
            let backends = self.leaving.begin();
            backends.iter().filter_map(|backend| self.running.numbers.get(backend)).copied().collect()
        });
        let question = Question {
            files: self.files.clone(),
            worker: self.running.worker,
            old_workers: self.asking.old_workers,
            tell: std::mem::take(&mut self.asking.untold),
            numbers,
        };
        self.asking.under_way = true;
        let answers = self.asking.answers.0.clone();
        self.env.tasks.spawn("lb-asking", async move {
            // Nobody listens at the end.
            let _ = answers.send(question.ask().await).await;
        });
    }

    pub(super) fn take_answer(&mut self, answer: Answer) {
        self.asking.under_way = false;
        // A reload has come between: whom it is about is not clear.
        let current = answer.worker == self.running.worker && !self.phase.is_reloading();
        if current && answer.old == Some(0) {
            self.asking.old_workers = false;
            self.asking.untold.clear();
        }
        self.conclude(answer.busy.filter(|_| current));
        if !self.asking.untold.is_empty() {
            self.ask();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_old_workers_are_told_does_not_pile_up() {
        let mut asking = Asking::default();
        let of = |words: &[&str]| words.iter().map(|word| format!("set server b/{word}")).collect::<Vec<_>>();
        asking.remember(of(&["s1 addr 10.0.0.1 port 1", "s1 state ready", "s2 state maint"]).into_iter());
        asking.remember(of(&["s1 state maint"]).into_iter());
        assert_eq!(asking.untold, of(&["s1 addr 10.0.0.1 port 1", "s2 state maint", "s1 state maint"]));
    }
}
