//! Leader election with a fast take-over (DESIGN rule 6): a standby holds a connection to the leader; when it
//! breaks and cannot be made again, the standby revokes the leader's lease and takes the lead. The lease's own
//! end covers a leader that went silent.

use std::{error::Error as _, io, sync::Arc, time::Duration};

use bytes::Bytes;
use meshos_proto::meshos::registry::v1::Leader;
use meshos_store::{Campaign, Fence, KeyValue, LeaseId, SharedStore, leader_key};
use prost::Message;
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tracing::{info, warn};

use crate::{Backoff, Env, LeaderInfo, TransportError, connect, follow_leader};

/// A standby's try to reach a leader whose connection broke may take this long before the next.
const RECONNECT: Duration = Duration::from_millis(300);

/// What a process offers as a leader of one service.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub service: &'static str,
    pub instance: String,
    /// Where the leader is reached.
    pub address: String,
    /// Time to live of the leader's lease; etcd's floor is 2 s.
    pub ttl: Duration,
}

/// Proof of leadership for one epoch.
#[derive(Clone, Debug)]
pub struct Leadership {
    pub epoch: u64,
    /// Guards every write of this leader.
    pub fence: Fence,
    /// Cancelled when the lead is lost.
    pub lost: CancellationToken,
}

/// What this process is at the moment.
#[derive(Clone, Debug)]
pub enum Role {
    Standby { leader: Option<LeaderInfo> },
    Leader(Leadership),
}

impl Candidate {
    /// Campaigns until the environment's tasks stop; the receiver always holds the present role.
    pub fn run(self, env: &Env, store: &SharedStore) -> watch::Receiver<Role> {
        let (role, receiver) = watch::channel(Role::Standby { leader: None });
        let runner = Runner { candidate: self, env: env.clone(), store: Arc::clone(store), role };
        env.tasks.spawn_graceful("candidate", runner.run());
        receiver
    }
}

struct Runner {
    candidate: Candidate,
    env: Env,
    store: SharedStore,
    role: watch::Sender<Role>,
}

impl Runner {
    async fn run(self) {
        let stop = self.env.tasks.stopping();
        let mut backoff = Backoff::new(&self.env.rng, Duration::from_millis(50), Duration::from_secs(2));
        while !stop.is_cancelled() {
            match self.term().await {
                Ok(()) => backoff.reset(),
                Err(error) => {
                    warn!(service = self.candidate.service, %error, "election failed, trying again");
                    self.role.send_replace(Role::Standby { leader: None });
                    tokio::select! { biased; () = stop.cancelled() => {}, () = backoff.wait() => {} }
                }
            }
        }
    }

    /// One attempt: lead until the lead is lost, or stand by until the leader is gone.
    async fn term(&self) -> meshos_store::Result<()> {
        let key = leader_key(self.candidate.service);
        let record = Leader {
            instance: self.candidate.instance.clone(),
            address: self.candidate.address.clone(),
            epoch: 0,
        };
        if let Some(current) = self.store.get(&key).await? {
            self.stand_by(&key, current).await;
            return Ok(());
        }
        let lease = self.store.grant(self.candidate.ttl).await?;
        match meshos_store::campaign(self.store.as_ref(), &key, Bytes::from(record.encode_to_vec()), lease)
            .await?
        {
            Campaign::Won { epoch } => self.lead(key, epoch, lease).await,
            Campaign::Lost { current } => {
                let revoked = self.store.revoke(lease).await;
                self.stand_by(&key, current).await;
                revoked?;
            }
        }
        Ok(())
    }

    async fn lead(&self, key: String, epoch: u64, lease: LeaseId) {
        info!(service = self.candidate.service, epoch, "leading");
        let lost = CancellationToken::new();
        let fence = Fence { key: key.clone(), epoch };
        self.role.send_replace(Role::Leader(Leadership { epoch, fence, lost: lost.clone() }));
        let stop = self.env.tasks.stopping();
        tokio::select! {
            biased;
            () = stop.cancelled() => info!(service = self.candidate.service, epoch, "giving up the lead"),
            error = self.store.hold(lease, self.candidate.ttl) => {
                warn!(service = self.candidate.service, epoch, %error, "lease lost");
            }
            () = self.replaced(epoch) => warn!(service = self.candidate.service, epoch, "deposed"),
        }
        lost.cancel();
        self.role.send_replace(Role::Standby { leader: None });
        // After a lost lease this finds nothing to revoke; its end does the same a little later.
        let _ = timeout(RECONNECT, self.store.revoke(lease)).await;
    }

    /// Returns once the leader key does not carry `epoch` any more.
    async fn replaced(&self, epoch: u64) {
        let mut leader = follow_leader(&self.env, &self.store, self.candidate.service);
        // The first value may be older than our own record.
        let mut seen = false;
        loop {
            let current = leader.borrow_and_update().as_ref().map(|leader| leader.epoch);
            match current {
                Some(current) if current == epoch => seen = true,
                Some(current) if current > epoch => return,
                None if seen => return,
                _ => {}
            }
            if leader.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Returns when it is worth campaigning again.
    async fn stand_by(&self, key: &str, current: KeyValue) {
        let Some(info) = LeaderInfo::from_record(&current) else {
            warn!(service = self.candidate.service, key, "leader record cannot be read, waiting for its end");
            self.gone(current.create_revision).await;
            return;
        };
        if info.instance == self.candidate.instance {
            // Names are unique: this was an earlier life of this process, and its lease outlived it.
            self.depose(&current).await;
            return;
        }
        info!(service = self.candidate.service, leader = info.instance, epoch = info.epoch, "standing by");
        self.role.send_replace(Role::Standby { leader: Some(info.clone()) });
        let stop = self.env.tasks.stopping();
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.gone(info.epoch) => {}
            () = self.unreachable(&info.address) => {
                info!(service = self.candidate.service, leader = info.instance, "leader unreachable, deposing it");
                self.depose(&current).await;
            }
        }
    }

    async fn depose(&self, leader: &KeyValue) {
        if let Err(error) = meshos_store::depose(self.store.as_ref(), leader).await {
            warn!(service = self.candidate.service, %error, "leader cannot be deposed");
        }
    }

    /// Returns once the leader of this epoch may have gone.
    async fn gone(&self, epoch: u64) {
        let mut leader = follow_leader(&self.env, &self.store, self.candidate.service);
        let seen = leader.wait_for(|leader| leader.as_ref().is_some_and(|leader| leader.epoch >= epoch));
        // It went before it was seen: the store says who leads now.
        if timeout(self.candidate.ttl, seen).await.is_err() {
            return;
        }
        let _ = leader.wait_for(|leader| leader.as_ref().is_none_or(|leader| leader.epoch != epoch)).await;
    }

    /// Holds a connection to the leader; returns once it broke and a second one was refused. A leader that only takes
    /// its time, or drops what it had taken, is busy or cut off: its lease tells which.
    async fn unreachable(&self, address: &str) {
        let mut backoff = Backoff::new(&self.env.rng, Duration::from_millis(10), RECONNECT);
        loop {
            match timeout(RECONNECT, self.watch_health(address, true)).await {
                Ok(Ok(())) => {
                    backoff.reset();
                    let _ = self.watch_health(address, false).await;
                }
                Ok(Err(status)) if nobody_there(&status) => return,
                Ok(Err(_)) | Err(_) => backoff.wait().await,
            }
        }
    }

    /// Watches the leader's health until the stream breaks, or only until its first answer.
    async fn watch_health(&self, address: &str, first_only: bool) -> Result<(), tonic::Status> {
        let mut client = HealthClient::new(connect(&self.env, address));
        let mut stream = client.watch(HealthCheckRequest::default()).await?.into_inner();
        while stream.message().await?.is_some() {
            if first_only {
                return Ok(());
            }
        }
        Err(tonic::Status::unavailable("leader closed the connection"))
    }
}

/// Whether no connection came about because nobody listens there, or there is no such place.
fn nobody_there(status: &tonic::Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if let Some(TransportError::Connect { source, .. }) = error.downcast_ref() {
            // Not those of a connection that was on its way.
            return !matches!(
                source.kind(),
                io::ErrorKind::TimedOut
                    // Somebody is there whom this one does not trust, or this one is cut off itself.
                    | io::ErrorKind::InvalidData
                    | io::ErrorKind::PermissionDenied
                    | io::ErrorKind::HostUnreachable
                    | io::ErrorKind::NetworkUnreachable
                    | io::ErrorKind::NetworkDown
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::BrokenPipe
                    | io::ErrorKind::UnexpectedEof
            );
        }
        cause = error.source();
    }
    false
}
