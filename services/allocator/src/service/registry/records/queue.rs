//! What waits to be written.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use meshos_proto::meshos::registry::v1::{Framework, Role};
use meshos_types::FrameworkId;
use tokio::sync::{Notify, oneshot};

#[derive(Debug)]
pub(super) struct Job {
    pub(super) record: Framework,
    /// Told when the record, or a newer one of the same framework, is durable.
    pub(super) waiters: Vec<oneshot::Sender<()>>,
}

/// Settings that are written in one transaction.
#[derive(Debug)]
pub(super) struct RolesJob {
    pub(super) roles: Vec<Role>,
    pub(super) waiters: Vec<oneshot::Sender<()>>,
}

/// The registry obeys a newer leader: nothing that this one writes will ever be durable.
#[derive(Debug)]
pub(super) struct Fenced;

/// What is written next.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "moved from the queue to the writer, one at a time")]
pub(super) enum Work {
    Framework(Job),
    Roles(RolesJob),
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    /// One job a framework: only the newest record counts.
    pending: Mutex<BTreeMap<FrameworkId, Job>>,
    /// In order, each as it came.
    roles: Mutex<VecDeque<RolesJob>>,
    /// Set once the registry has refused a write of this term.
    fenced: AtomicBool,
    pub(super) wake: Notify,
}

impl Queue {
    fn pending(&self) -> MutexGuard<'_, BTreeMap<FrameworkId, Job>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn roles(&self) -> MutexGuard<'_, VecDeque<RolesJob>> {
        self.roles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a framework's record in place of an older one.
    pub(super) fn put(&self, id: FrameworkId, record: Framework, waiters: Vec<oneshot::Sender<()>>) {
        let mut pending = self.pending();
        let job =
            pending.entry(id).or_insert_with(|| Job { record: Framework::default(), waiters: Vec::new() });
        job.record = record;
        job.waiters.extend(waiters);
        drop(pending);
        self.wake.notify_one();
    }

    /// Queues settings of roles behind those that wait.
    pub(super) fn put_roles(&self, job: RolesJob) {
        self.roles().push_back(job);
        self.wake.notify_one();
    }

    /// Jobs that wait.
    pub(super) fn len(&self) -> usize {
        self.pending().len() + self.roles().len()
    }

    /// No job is carried out any more, not even one that has nothing to write: it may wait for one that was refused.
    pub(super) fn fence(&self) {
        self.fenced.store(true, Ordering::Release);
    }

    /// The next job; none once fenced. Whoever waits for a dropped job hears that it did not become durable.
    pub(super) fn next(&self) -> Option<Work> {
        if self.fenced.load(Ordering::Acquire) {
            self.pending().clear();
            self.roles().clear();
            return None;
        }
        // Settings are rare: they need not wait for all records.
        let roles = self.roles().pop_front();
        roles.map(Work::Roles).or_else(|| self.pending().pop_first().map(|(_, job)| Work::Framework(job)))
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot::error::TryRecvError;

    use super::*;

    fn roles(count: usize) -> RolesJob {
        RolesJob { roles: vec![Role::default(); count], waiters: Vec::new() }
    }

    #[test]
    fn jobs_come_in_order_and_the_newest_record_of_a_framework_counts() {
        let queue = Queue::default();
        queue.put(FrameworkId::new("f"), Framework::default(), Vec::new());
        queue.put(FrameworkId::new("f"), Framework { removed: true, ..Framework::default() }, Vec::new());
        queue.put_roles(roles(1));
        queue.put_roles(roles(0));
        assert_eq!(queue.len(), 3);
        let jobs: Vec<_> = std::iter::from_fn(|| queue.next()).collect();
        let [Work::Roles(first), Work::Roles(second), Work::Framework(last)] = jobs.as_slice() else {
            panic!("{jobs:?}")
        };
        assert_eq!((first.roles.len(), second.roles.len(), last.record.removed), (1, 0, true));
    }

    #[test]
    fn after_a_refusal_nobody_is_told_that_anything_is_durable() {
        let queue = Queue::default();
        // As the owner queues a change of quota: the settings, then those who wait for them.
        queue.put_roles(roles(1));
        let (told, mut waits) = oneshot::channel();
        queue.put_roles(RolesJob { waiters: vec![told], ..roles(0) });
        assert!(matches!(queue.next(), Some(Work::Roles(job)) if !job.roles.is_empty()));
        assert_eq!(waits.try_recv(), Err(TryRecvError::Empty));
        queue.fence();
        let (told, mut waits_later) = oneshot::channel();
        queue.put(FrameworkId::new("f"), Framework::default(), vec![told]);
        assert!(queue.next().is_none());
        assert_eq!(waits.try_recv(), Err(TryRecvError::Closed));
        assert_eq!(waits_later.try_recv(), Err(TryRecvError::Closed));
    }
}
