//! What HAProxy is asked and told beside the loop, because old workers may be slow to answer or never do: which
//! servers have something under way, and what old workers are not to send anybody to. One question at a time.

mod untold;

use std::{collections::BTreeSet, io, time::Duration};

use tokio::{sync::mpsc, time::sleep};

use super::{Driver, leaving::Place};
use crate::{
    core::slots::Commands,
    haproxy::{files::Files, workers},
};
use untold::Untold;

/// After which a master that did not say who the old workers are is asked again.
const PAUSE: Duration = Duration::from_millis(50);

/// What was found.
#[derive(Debug)]
pub(super) struct Answer {
    /// Who was the worker when it was asked for.
    worker: u32,
    /// Old workers; none: the master did not say.
    old: Option<usize>,
    /// Servers with something under way; none: that cannot be told.
    busy: Option<BTreeSet<Place>>,
    /// Commands that nobody was given, because the master did not say to whom.
    untold: Vec<String>,
}

#[derive(Debug)]
pub(super) struct Asking {
    answers: (mpsc::Sender<Answer>, mpsc::Receiver<Answer>),
    under_way: bool,
    /// Old workers may still be busy.
    pub(super) old_workers: bool,
    /// Commands that they have not been given yet.
    untold: Untold,
}

impl Default for Asking {
    fn default() -> Self {
        Self { answers: mpsc::channel(1), under_way: false, old_workers: false, untold: Untold::default() }
    }
}

impl Asking {
    pub(super) async fn answer(&mut self) -> Option<Answer> {
        self.answers.1.recv().await
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
    async fn ask(mut self) -> Answer {
        let found = if self.old_workers { workers::processes(&self.files).await.ok() } else { None };
        let old = found.map(|found| found.old_workers);
        let mut untold = std::mem::take(&mut self.tell);
        match &old {
            Some(old) => workers::tell(&self.files, old, &std::mem::take(&mut untold)).await,
            // It is about to be back.
            None if !untold.is_empty() => sleep(PAUSE).await,
            None => {}
        }
        let busy = match (self.old_workers, &old) {
            (true, None) => None,
            _ => self.busy(old.as_deref().unwrap_or_default()).await.ok(),
        };
        Answer { worker: self.worker, old: old.map(|old| old.len()), busy, untold }
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
        // What comes during a reload is for the worker that is replaced as well.
        if self.asking.old_workers || self.phase.is_reloading() {
            self.asking.untold.remember(wanted.adding.iter().chain(&wanted.removing).cloned());
            self.tell_untold();
        }
    }

    /// Gives old workers what they have not been given, once it is clear who they are.
    pub(super) fn tell_untold(&mut self) {
        if self.phase.is_reloading() {
            return;
        }
        if !self.asking.old_workers {
            self.asking.untold.clear();
        }
        if !self.asking.untold.is_empty() {
            self.ask();
        }
    }

    /// Asks what is to be known of tasks that leave, unless that is under way.
    pub(super) fn ask(&mut self) {
        if self.asking.under_way {
            return;
        }
        // During a reload it is not clear whom the sockets belong to.
        let reloading = self.phase.is_reloading();
        let numbers = (!reloading).then(|| {
            let backends = self.leaving.begin();
            backends.iter().filter_map(|backend| self.running.numbers.get(backend)).copied().collect()
        });
        let question = Question {
            files: self.files.clone(),
            worker: self.running.worker,
            old_workers: self.asking.old_workers,
            tell: if reloading { Vec::new() } else { self.asking.untold.take() },
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
        self.asking.untold.put_back(answer.untold);
        // A reload has come between: whom it is about is not clear.
        let current = answer.worker == self.running.worker && !self.phase.is_reloading();
        if current && answer.old == Some(0) {
            self.asking.old_workers = false;
            self.asking.untold.clear();
        }
        self.conclude(answer.busy.filter(|_| current));
        self.tell_untold();
    }
}
