//! The leader's client of the registry: framework records, the view of agents. Any replica will do.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use meshos_mesh::{Backoff, Env, InstanceInfo, MAX_MESSAGE_BYTES, MeshChannel, connect};
use meshos_proto::meshos::registry::v1::{
    Agent, Framework, ListFrameworksRequest, ListRolesRequest, PutFrameworkRequest, PutRolesRequest, Role,
    WatchRequest, WatchResponse, registry_client::RegistryClient, watch_response::Body,
};
use meshos_types::{AgentId, FrameworkId};
use tokio::{
    sync::{Notify, oneshot, watch},
    time::{Instant, timeout},
};
use tonic::{Code, Status, Streaming};
use tracing::{error, warn};

use super::owner::{OwnerHandle, Request};
use crate::{core::Input, timings::Timing};

/// How long a replica may take to answer.
const DEADLINE: Duration = Duration::from_secs(3);

/// Client of whichever replica answers.
#[derive(Clone, Debug)]
pub(super) struct Registry {
    env: Env,
    replicas: watch::Receiver<Vec<InstanceInfo>>,
    epoch: u64,
    figures: Figures,
}

/// How long reads and writes of the registry take.
#[derive(Clone, Debug, Default)]
struct Figures {
    fetch: Timing,
    store: Timing,
}

/// An open Watch and the revision that it stands at.
pub(super) struct Watching {
    stream: Streaming<WatchResponse>,
    revision: u64,
}

impl Registry {
    pub(super) fn new(env: &Env, replicas: watch::Receiver<Vec<InstanceInfo>>, epoch: u64) -> Self {
        Self { env: env.clone(), replicas, epoch, figures: Figures::default() }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(&self.env.rng, Duration::from_millis(50), Duration::from_secs(2))
    }

    /// A client of some replica; waits until there is one.
    async fn client(&self) -> RegistryClient<MeshChannel> {
        let mut replicas = self.replicas.clone();
        // The sender lives as long as the term; without it nothing is left to wait for.
        let _ = replicas.wait_for(|replicas| !replicas.is_empty()).await;
        let address = {
            let replicas = replicas.borrow();
            let count = u64::try_from(replicas.len()).unwrap_or(1);
            let chosen = usize::try_from(self.env.rng.below(count)).unwrap_or(0);
            replicas.get(chosen).map(|replica| replica.address.clone()).unwrap_or_default()
        };
        RegistryClient::new(connect(&self.env, &address))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// All framework records; asks until a replica answers. Nobody else changes them meanwhile.
    pub(super) async fn list_frameworks(&self) -> Vec<Framework> {
        let (begun, mut backoff) = (Instant::now(), self.backoff());
        let mut frameworks: Vec<Framework> = Vec::new();
        loop {
            let mut client = self.client().await;
            let after = frameworks.last().and_then(id_of).map(|id| id.to_string()).unwrap_or_default();
            match timeout(DEADLINE, client.list_frameworks(ListFrameworksRequest { after })).await {
                Ok(Ok(response)) => {
                    let page = response.into_inner();
                    frameworks.extend(page.frameworks);
                    if !page.more {
                        self.figures.fetch.took(begun.elapsed());
                        return frameworks;
                    }
                    backoff.reset();
                    continue;
                }
                Ok(Err(status)) => warn!(%status, "registry does not list frameworks, asking again"),
                Err(_) => warn!("registry does not answer, asking again"),
            }
            backoff.wait().await;
        }
    }

    /// What is set for roles; asks until a replica answers.
    pub(super) async fn list_roles(&self) -> Vec<Role> {
        let mut backoff = self.backoff();
        loop {
            let mut client = self.client().await;
            match timeout(DEADLINE, client.list_roles(ListRolesRequest {})).await {
                Ok(Ok(response)) => return response.into_inner().roles,
                Ok(Err(status)) => warn!(%status, "registry does not list roles, asking again"),
                Err(_) => warn!("registry does not answer, asking again"),
            }
            backoff.wait().await;
        }
    }

    /// Opens a Watch, and reads its snapshot.
    pub(super) async fn watch(&self) -> (Watching, Vec<Agent>) {
        self.watch_from(0).await
    }

    /// Asks until a replica is at least at `revision`: one that lags must not turn time back.
    async fn watch_from(&self, revision: u64) -> (Watching, Vec<Agent>) {
        let mut backoff = self.backoff();
        loop {
            match self.try_watch(revision).await {
                Ok(watching) => return watching,
                Err(status) => warn!(%status, "registry cannot be watched, trying again"),
            }
            backoff.wait().await;
        }
    }

    async fn try_watch(&self, revision: u64) -> Result<(Watching, Vec<Agent>), Status> {
        let mut client = self.client().await;
        let late = |_| Status::deadline_exceeded("the registry does not answer");
        let mut stream = timeout(DEADLINE, client.watch(WatchRequest {})).await.map_err(late)??.into_inner();
        let mut agents = Vec::new();
        loop {
            let part = timeout(DEADLINE, stream.message()).await.map_err(late)??;
            let part = part.ok_or_else(|| Status::unavailable("the stream ended"))?;
            if part.revision < revision {
                let behind = format!("replica is at revision {}, behind {revision}", part.revision);
                return Err(Status::unavailable(behind));
            }
            let Some(Body::Snapshot(snapshot)) = part.body else {
                return Err(Status::internal("the first responses are not a snapshot"));
            };
            agents.extend(snapshot.agents);
            if !snapshot.more {
                return Ok((Watching { stream, revision: part.revision }, agents));
            }
        }
    }

    /// Passes on what changes, over any number of replicas, until the owner has ended.
    pub(super) async fn follow(self, mut watching: Watching, owner: OwnerHandle) {
        loop {
            match watching.stream.message().await {
                Ok(Some(response)) => {
                    watching.revision = watching.revision.max(response.revision);
                    for input in inputs(response) {
                        if owner.send(Request::Input(input)).await.is_err() {
                            return;
                        }
                    }
                    continue;
                }
                Ok(None) => warn!("registry ended the watch, watching again"),
                Err(status) => warn!(%status, "watch of the registry broke, watching again"),
            }
            let (next, agents) = self.watch_from(watching.revision).await;
            watching = next;
            if owner.send(Request::Input(Input::RegistrySnapshot(agents))).await.is_err() {
                return;
            }
        }
    }

    /// Starts the task that makes framework records durable.
    pub(super) fn writer(&self) -> RecordWriter {
        let (figures, replicas) = (self.figures.clone(), self.replicas.clone());
        let writer = RecordWriter { queue: Arc::new(Queue::default()), figures, replicas };
        let (registry, queue) = (self.clone(), Arc::clone(&writer.queue));
        self.env.tasks.spawn("framework-records", async move {
            loop {
                queue.wake.notified().await;
                while let Some(work) = queue.next() {
                    let writes = !matches!(&work, Work::Roles(job) if job.roles.is_empty());
                    let begun = Instant::now();
                    let written = match work {
                        Work::Roles(job) => registry.put_roles(job).await,
                        Work::Framework(job) => registry.put(job).await,
                    };
                    if writes {
                        registry.figures.store.took(begun.elapsed());
                    }
                    if written.is_err() {
                        queue.fence();
                    }
                }
            }
        });
        writer
    }

    async fn put_roles(&self, job: RolesJob) -> Result<(), Fenced> {
        let mut backoff = self.backoff();
        while !job.roles.is_empty() {
            let mut client = self.client().await;
            let request = PutRolesRequest { epoch: self.epoch, roles: job.roles.clone() };
            match timeout(DEADLINE, client.put_roles(request)).await {
                Ok(Ok(_)) => break,
                Ok(Err(status)) if status.code() == Code::FailedPrecondition => {
                    error!(%status, epoch = self.epoch, "role settings refused");
                    return Err(Fenced);
                }
                Ok(Err(status)) if status.code() == Code::InvalidArgument => {
                    // Whoever waits hears that it failed.
                    error!(%status, "role settings can never be written, dropped");
                    return Ok(());
                }
                Ok(Err(status)) => warn!(%status, "role settings not written, trying again"),
                Err(_) => warn!("registry does not answer, writing the role settings again"),
            }
            backoff.wait().await;
        }
        for waiter in job.waiters {
            let _ = waiter.send(());
        }
        Ok(())
    }

    async fn put(&self, job: Job) -> Result<(), Fenced> {
        let mut backoff = self.backoff();
        loop {
            let mut client = self.client().await;
            let request = PutFrameworkRequest { epoch: self.epoch, framework: Some(job.record.clone()) };
            match timeout(DEADLINE, client.put_framework(request)).await {
                Ok(Ok(_)) => break,
                Ok(Err(status)) if status.code() == Code::FailedPrecondition => {
                    // Another leader has taken over: this term ends soon. Nobody is told that it is durable.
                    error!(%status, epoch = self.epoch, "framework record refused");
                    return Err(Fenced);
                }
                Ok(Err(status)) if status.code() == Code::InvalidArgument => {
                    // Whoever waits hears that it failed.
                    error!(%status, "framework record can never be written, dropped");
                    return Ok(());
                }
                Ok(Err(status)) => warn!(%status, "framework record not written, trying again"),
                Err(_) => warn!("registry does not answer, writing the framework record again"),
            }
            backoff.wait().await;
        }
        for waiter in job.waiters {
            // Whoever waited may have gone.
            let _ = waiter.send(());
        }
        Ok(())
    }
}

fn id_of(record: &Framework) -> Option<FrameworkId> {
    record.info.as_ref()?.id.as_ref().map(FrameworkId::from)
}

fn inputs(response: WatchResponse) -> Vec<Input> {
    match response.body {
        Some(Body::Snapshot(snapshot)) => vec![Input::RegistrySnapshot(snapshot.agents)],
        Some(Body::Delta(delta)) => {
            let changed = delta.changed.into_iter().map(|agent| Input::RegistryChanged(Box::new(agent)));
            let removed =
                delta.removed_agent_ids.into_iter().map(|id| Input::RegistryRemoved(AgentId::new(id)));
            changed.chain(removed).collect()
        }
        None => Vec::new(),
    }
}

#[derive(Debug)]
struct Job {
    record: Framework,
    /// Told when the record, or a newer one of the same framework, is durable.
    waiters: Vec<oneshot::Sender<()>>,
}

/// Settings that are written in one transaction.
#[derive(Debug)]
struct RolesJob {
    roles: Vec<Role>,
    waiters: Vec<oneshot::Sender<()>>,
}

/// The registry obeys a newer leader: nothing that this one writes will ever be durable.
#[derive(Debug)]
struct Fenced;

/// What is written next.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "moved from the queue to the writer, one at a time")]
enum Work {
    Framework(Job),
    Roles(RolesJob),
}

#[derive(Debug, Default)]
struct Queue {
    /// One job a framework: only the newest record counts.
    pending: Mutex<BTreeMap<FrameworkId, Job>>,
    /// In order, each as it came.
    roles: Mutex<VecDeque<RolesJob>>,
    /// Set once the registry has refused a write of this term.
    fenced: AtomicBool,
    wake: Notify,
}

impl Queue {
    fn pending(&self) -> MutexGuard<'_, BTreeMap<FrameworkId, Job>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn roles(&self) -> MutexGuard<'_, VecDeque<RolesJob>> {
        self.roles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// No job is carried out any more, not even one that has nothing to write: it may wait for one that was refused.
    fn fence(&self) {
        self.fenced.store(true, Ordering::Release);
    }

    /// The next job; none once fenced. Whoever waits for a dropped job hears that it did not become durable.
    fn next(&self) -> Option<Work> {
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

/// Takes framework records to be made durable, in the background.
#[derive(Clone, Debug)]
pub(super) struct RecordWriter {
    queue: Arc<Queue>,
    figures: Figures,
    replicas: watch::Receiver<Vec<InstanceInfo>>,
}

impl RecordWriter {
    /// Queues a record; `waiters` are told once it is durable.
    pub(super) fn put(&self, record: Framework, waiters: Vec<oneshot::Sender<()>>) {
        let Some(id) = id_of(&record) else { return };
        let mut pending = self.queue.pending();
        let job =
            pending.entry(id).or_insert_with(|| Job { record: Framework::default(), waiters: Vec::new() });
        job.record = record;
        job.waiters.extend(waiters);
        drop(pending);
        self.queue.wake.notify_one();
    }

    /// Mesos's metrics of the registrar; the registry's replicas stand for those of its log.
    pub(super) fn show(&self, metrics: &mut BTreeMap<String, f64>) {
        let count = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
        let queued = self.queue.pending().len() + self.queue.roles().len();
        metrics.insert("registrar/queued_operations".to_owned(), count(queued));
        metrics.insert("registrar/log/ensemble_size".to_owned(), count(self.replicas.borrow().len()));
        metrics.insert("registrar/log/recovered".to_owned(), 1.0);
        self.figures.fetch.show("registrar/state_fetch", metrics);
        self.figures.store.show("registrar/state_store", metrics);
    }

    /// Queues settings of roles, which become durable together; `waiters` are told when they and all before are.
    pub(super) fn put_roles(&self, roles: Vec<Role>, waiters: Vec<oneshot::Sender<()>>) {
        let job = RolesJob { roles, waiters };
        self.queue.roles().push_back(job);
        self.queue.wake.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use meshos_proto::mesos::v1 as pb;
    use tokio::sync::oneshot::error::TryRecvError;

    use super::*;

    fn writer() -> RecordWriter {
        let (_, replicas) = watch::channel(Vec::new());
        RecordWriter { queue: Arc::default(), figures: Figures::default(), replicas }
    }

    fn record(id: &str) -> Framework {
        let id = Some(pb::FrameworkId { value: id.to_owned() });
        Framework {
            info: Some(pb::FrameworkInfo { id, ..pb::FrameworkInfo::default() }),
            ..Framework::default()
        }
    }

    #[test]
    fn jobs_come_in_order_and_the_newest_record_of_a_framework_counts() {
        let writer = writer();
        writer.put(record("f"), Vec::new());
        writer.put(Framework { removed: true, ..record("f") }, Vec::new());
        writer.put_roles(vec![Role::default()], Vec::new());
        writer.put_roles(Vec::new(), Vec::new());
        let jobs: Vec<_> = std::iter::from_fn(|| writer.queue.next()).collect();
        let [Work::Roles(first), Work::Roles(second), Work::Framework(last)] = jobs.as_slice() else {
            panic!("{jobs:?}")
        };
        assert_eq!((first.roles.len(), second.roles.len(), last.record.removed), (1, 0, true));
    }

    #[test]
    fn after_a_refusal_nobody_is_told_that_anything_is_durable() {
        let writer = writer();
        // As the owner queues a change of quota: the settings, then those who wait for them.
        writer.put_roles(vec![Role::default()], Vec::new());
        let (told, mut waits) = oneshot::channel();
        writer.put_roles(Vec::new(), vec![told]);
        assert!(matches!(writer.queue.next(), Some(Work::Roles(job)) if !job.roles.is_empty()));
        assert_eq!(waits.try_recv(), Err(TryRecvError::Empty));
        writer.queue.fence();
        let (told, mut waits_later) = oneshot::channel();
        writer.put(record("f"), vec![told]);
        assert!(writer.queue.next().is_none());
        assert_eq!(waits.try_recv(), Err(TryRecvError::Closed));
        assert_eq!(waits_later.try_recv(), Err(TryRecvError::Closed));
    }
}
