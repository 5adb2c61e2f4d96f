//! What the leader has the registry make durable: records of frameworks, settings of roles.

mod queue;

use std::{collections::BTreeMap, sync::Arc};

use meshos_mesh::InstanceInfo;
use meshos_proto::meshos::registry::v1::{Framework, PutFrameworkRequest, PutRolesRequest, Role};
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, timeout},
};
use tonic::Code;
use tracing::{error, warn};

use self::queue::{Fenced, Job, Queue, RolesJob, Work};
use super::{DEADLINE, Figures, Registry, id_of};

impl Registry {
    /// Starts the task that makes framework records durable.
    pub(in crate::service) fn writer(&self) -> RecordWriter {
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

/// Takes framework records to be made durable, in the background.
#[derive(Clone, Debug)]
pub(in crate::service) struct RecordWriter {
    queue: Arc<Queue>,
    figures: Figures,
    replicas: watch::Receiver<Vec<InstanceInfo>>,
}

impl RecordWriter {
    /// Queues a record; `waiters` are told once it is durable.
    pub(in crate::service) fn put(&self, record: Framework, waiters: Vec<oneshot::Sender<()>>) {
        let Some(id) = id_of(&record) else { return };
        self.queue.put(id, record, waiters);
    }

    /// Mesos's metrics of the registrar; the registry's replicas stand for those of its log.
    pub(in crate::service) fn show(&self, metrics: &mut BTreeMap<String, f64>) {
        let count = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
        metrics.insert("registrar/queued_operations".to_owned(), count(self.queue.len()));
        metrics.insert("registrar/log/ensemble_size".to_owned(), count(self.replicas.borrow().len()));
        metrics.insert("registrar/log/recovered".to_owned(), 1.0);
        self.figures.fetch.show("registrar/state_fetch", metrics);
        self.figures.store.show("registrar/state_store", metrics);
    }

    /// Queues settings of roles, which become durable together; `waiters` are told when they and all before are.
    pub(in crate::service) fn put_roles(&self, roles: Vec<Role>, waiters: Vec<oneshot::Sender<()>>) {
        self.queue.put_roles(RolesJob { roles, waiters });
    }
}
