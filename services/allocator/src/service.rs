//! Builds the parts, takes part in the election, and runs one term after another.

mod owner;
mod registry;
mod term;
mod whitelist;

use std::{collections::BTreeMap, time::Duration};

use meshos_mesh::{
    Candidate, Env, InstanceInfo, Leadership, MAX_MESSAGE_BYTES, Role, register_instance, serve,
};
use meshos_proto::{
    meshos::allocator::v1::{operator_server::OperatorServer, scheduler_server::SchedulerServer},
    packed::agent_link_server::AgentLinkServer,
};
use meshos_store::SharedStore;
use tokio::sync::watch;
use tonic::service::Routes;
use tracing::{error, info};

use crate::{Config, Error, grpc::Grpc, metrics::AllocatorMetrics};

pub(crate) use whitelist::Whitelist;

pub(crate) use owner::{CallAnswer, Ended, Guarded, OwnerHandle, Point, QueuedCall, Request, not_leading};

/// How long a term may take to end.
const TERM_END: Duration = Duration::from_secs(2);

/// Who answers: the owner of the state, while this replica leads.
pub(crate) type Gate = watch::Receiver<Option<OwnerHandle>>;

/// A running replica.
#[derive(Clone, Debug)]
pub struct Handle {
    /// Where others reach it.
    pub address: String,
    gate: Gate,
}

impl Handle {
    /// Whether it leads, and serves.
    #[must_use]
    pub fn is_leading(&self) -> bool {
        self.gate.borrow().is_some()
    }

    /// Waits until it leads and serves.
    pub async fn leading(&self) {
        // The sender lives as long as the replica; without it nothing is left to wait for.
        let _ = self.gate.clone().wait_for(Option::is_some).await;
    }

    /// Mesos's metrics by name; empty on a standby.
    pub async fn metrics(&self) -> BTreeMap<String, f64> {
        let owner = self.gate.borrow().clone();
        match owner {
            Some(owner) => owner.metrics().await,
            None => BTreeMap::new(),
        }
    }
}

/// Starts a replica; it runs until the environment's tasks stop.
///
/// # Errors
/// [`Error::Listen`] when the address cannot be bound, [`Error::Setting`] when a setting is not valid.
pub async fn start(env: &Env, store: SharedStore, config: Config) -> Result<Handle, Error> {
    config.check()?;
    let listener = env.transport.bind(&config.listen).await?;
    let address = config.advertise.clone().unwrap_or_else(|| listener.address.clone());
    let (opener, gate) = watch::channel(None);
    let grpc = Grpc::new(env, gate.clone());
    let routes = Routes::new(
        SchedulerServer::new(grpc.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES),
    )
    .add_service(
        AgentLinkServer::new(grpc.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES),
    )
    .add_service(OperatorServer::new(grpc).max_encoding_message_size(MAX_MESSAGE_BYTES));
    let serving = serve(env, "allocator", listener, routes).await;
    serving.ready().await;
    let info = InstanceInfo { instance: config.instance.clone(), address: address.clone() };
    register_instance(env, &store, "allocator", info, config.lease_ttl);
    let metrics = AllocatorMetrics::new(&env.metrics);
    let replica = Replica { env: env.clone(), store, config, address: address.clone(), opener, metrics };
    env.tasks.spawn("allocator-terms", replica.run());
    Ok(Handle { address, gate })
}

struct Replica {
    env: Env,
    store: SharedStore,
    config: Config,
    address: String,
    opener: watch::Sender<Option<OwnerHandle>>,
    metrics: AllocatorMetrics,
}

impl Replica {
    /// Campaigns again and again. A candidate of its own for each round: one whose term failed gives up the
    /// lead by being stopped.
    async fn run(self) {
        loop {
            let round = self.env.child();
            let candidate = Candidate {
                service: "allocator",
                instance: self.config.instance.clone(),
                address: self.address.clone(),
                ttl: self.config.lease_ttl,
            };
            let mut role = candidate.run(&round, &self.store);
            self.lead(&mut role).await;
            round.tasks.shutdown(TERM_END).await;
        }
    }

    /// Runs terms; returns when one ended although the lead was not lost.
    async fn lead(&self, role: &mut watch::Receiver<Role>) {
        loop {
            let current = role.borrow_and_update().clone();
            if let Role::Leader(leadership) = current {
                self.term(&leadership).await;
                if !leadership.lost.is_cancelled() {
                    error!(epoch = leadership.epoch, "the owner of the state ended, giving up the lead");
                    return;
                }
            }
            if role.changed().await.is_err() {
                return;
            }
        }
    }

    async fn term(&self, leadership: &Leadership) {
        let env = self.env.child();
        info!(epoch = leadership.epoch, "term begins");
        tokio::select! {
            biased;
            () = leadership.lost.cancelled() => {}
            () = term::run(&env, &self.store, &self.config, leadership.epoch, (&self.opener, &self.metrics)) => {}
        }
        self.opener.send_replace(None);
        self.metrics.leading.set(0);
        if !env.tasks.shutdown(TERM_END).await {
            error!(epoch = leadership.epoch, "tasks of the term still run");
        }
        info!(epoch = leadership.epoch, "term ended");
    }
}
