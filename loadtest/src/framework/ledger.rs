//! What a framework knows of its tasks: pure.

use std::time::Duration;

use meshos_proto::mesos::v1::TaskState;
use tokio::time::Instant;

use crate::fleet::id_sum;

/// What all of a framework's tasks came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Account {
    /// Sent in an ACCEPT.
    pub(crate) submitted: u64,
    /// Seen running, each counted once; and the sum over their ids.
    pub(crate) ran: u64,
    pub(crate) ran_ids: u64,
    /// Refused or lost before they ran.
    pub(crate) dropped: u64,
    /// Ended as they should.
    pub(crate) finished: u64,
    /// Ran, and then were said to be lost.
    pub(crate) lost: u64,
    /// TASK_RUNNING came again.
    pub(crate) repeated: u64,
    /// Calls that failed.
    pub(crate) failed_calls: u64,
    /// From the time at which a task was due to TASK_RUNNING.
    pub(crate) latencies: Vec<Duration>,
}

impl Account {
    pub(crate) fn plus(mut self, mut other: Self) -> Self {
        self.submitted += other.submitted;
        self.ran += other.ran;
        self.ran_ids = self.ran_ids.wrapping_add(other.ran_ids);
        self.dropped += other.dropped;
        self.finished += other.finished;
        self.lost += other.lost;
        self.repeated += other.repeated;
        self.failed_calls += other.failed_calls;
        self.latencies.append(&mut other.latencies);
        self
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Submitted,
    Running,
    Over,
}

/// Tasks by number; their ids are `<name>-<number>`.
#[derive(Debug)]
pub(crate) struct Ledger {
    name: String,
    tasks: Vec<(Instant, Seen)>,
    account: Account,
    open: usize,
}

impl Ledger {
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), tasks: Vec::new(), account: Account::default(), open: 0 }
    }

    /// The id of a new task, which was due at that time.
    pub(crate) fn submit(&mut self, due: Instant) -> String {
        let id = format!("{}-{}", self.name, self.tasks.len());
        self.tasks.push((due, Seen::Submitted));
        self.account.submitted += 1;
        self.open += 1;
        id
    }

    /// Tasks that neither run nor are over.
    pub(crate) fn open(&self) -> usize {
        self.open
    }

    pub(crate) fn running(&self) -> u64 {
        self.account.ran - self.account.finished - self.account.lost
    }

    pub(crate) fn failed_call(&mut self) {
        self.account.failed_calls += 1;
    }

    /// Number of the next task.
    pub(crate) fn next(&self) -> usize {
        self.tasks.len()
    }

    /// Ids of those of some tasks that neither run nor are over.
    pub(crate) fn unsettled(&self, numbers: std::ops::Range<usize>) -> impl Iterator<Item = String> + '_ {
        let submitted =
            |number: &usize| self.tasks.get(*number).is_some_and(|(_, seen)| *seen == Seen::Submitted);
        numbers.filter(submitted).map(|number| format!("{}-{number}", self.name))
    }

    /// A status of one of the tasks; whether it runs now for the first time.
    pub(crate) fn status(&mut self, id: &str, state: TaskState, answer: bool) -> bool {
        let number = id.rsplit_once('-').and_then(|(_, number)| number.parse::<usize>().ok());
        let Some((due, seen)) = number.and_then(|number| self.tasks.get_mut(number)) else { return false };
        match (state, *seen) {
            (TaskState::TaskStaging | TaskState::TaskStarting | TaskState::TaskKilling, _)
            | (_, Seen::Over) => {}
            (TaskState::TaskRunning, Seen::Running) => self.account.repeated += u64::from(!answer),
            (TaskState::TaskRunning, Seen::Submitted) => {
                self.account.latencies.push(due.elapsed());
                *seen = Seen::Running;
                self.open -= 1;
                self.account.ran += 1;
                self.account.ran_ids = self.account.ran_ids.wrapping_add(id_sum(id));
                return true;
            }
            (_, Seen::Submitted) => {
                *seen = Seen::Over;
                self.open -= 1;
                self.account.dropped += 1;
            }
            (TaskState::TaskFinished | TaskState::TaskKilled, Seen::Running) => {
                *seen = Seen::Over;
                self.account.finished += 1;
            }
            (_, Seen::Running) => {
                *seen = Seen::Over;
                self.account.lost += 1;
            }
        }
        false
    }

    /// What is known; samples begin anew.
    pub(crate) fn account(&mut self) -> Account {
        let latencies = std::mem::take(&mut self.account.latencies);
        Account { latencies, ..self.account.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_task_counts_once() {
        let mut ledger = Ledger::new("f");
        let now = Instant::now();
        let [a, b] = [ledger.submit(now), ledger.submit(now)];
        assert!(!ledger.status(&a, TaskState::TaskStarting, false));
        assert!(ledger.status(&a, TaskState::TaskRunning, false));
        assert!(!ledger.status(&a, TaskState::TaskRunning, false));
        assert!(!ledger.status(&a, TaskState::TaskRunning, true));
        assert!(!ledger.status(&b, TaskState::TaskLost, false));
        assert!(!ledger.status(&b, TaskState::TaskRunning, false));
        assert!(!ledger.status("g-7", TaskState::TaskRunning, false));
        ledger.status(&a, TaskState::TaskFinished, false);
        let account = ledger.account();
        assert_eq!((account.submitted, account.ran, account.dropped), (2, 1, 1));
        assert_eq!((account.repeated, account.finished, account.lost), (1, 1, 0));
        assert_eq!((ledger.open(), account.ran_ids), (0, id_sum("f-0")));
        let c = ledger.submit(now);
        assert_eq!(ledger.unsettled(0..ledger.next()).collect::<Vec<_>>(), [c]);
    }
}
