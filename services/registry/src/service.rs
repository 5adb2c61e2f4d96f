//! Builds the parts.

mod follower;

use std::sync::Arc;

use meshos_mesh::{
    Env, Feed, InstanceInfo, MAX_MESSAGE_BYTES, follow_instances, follow_leader, register_instance, serve,
};
use meshos_proto::meshos::registry::v1::{
    registry_operator_server::RegistryOperatorServer, registry_server::RegistryServer,
};
use meshos_store::SharedStore;
use tokio::sync::mpsc;
use tonic::service::Routes;

use self::follower::Follower;
use crate::{
    config::Config, error::Error, grpc::Grpc, held::Held, judge::Judge, metrics::RegistryMetrics, past::Past,
    removals::Removals, roll::Roll, view::View,
};

/// Changes that a reader of `Watch` may be behind.
const FEED: usize = 4096;

/// A running replica.
#[derive(Clone, Debug)]
pub struct Handle {
    /// What agents and services connect to.
    pub address: String,
}

/// Starts a replica; it runs until the environment's tasks stop.
///
/// # Errors
/// [`Error::Transport`] when the address cannot be bound.
pub async fn start(env: &Env, store: SharedStore, config: Config) -> Result<Handle, Error> {
    let listener = env.transport.bind(&config.listen).await?;
    let address = config.advertise.clone().unwrap_or_else(|| listener.address.clone());
    // A process that starts again under its name holds none of the sessions of the one before.
    let config = Arc::new(Config { instance: format!("{}-{}", config.instance, env.rng.uuid()), ..config });
    let metrics = RegistryMetrics::new(&env.metrics);
    let view = View::default();
    let roll = Roll::new(env, &store, &config, &view);
    let (subscribe, subscriptions) = mpsc::channel(64);
    let held = Held::default();
    let removals = Removals::new(config.args.agent_removal_rate_limit);
    let info = InstanceInfo { instance: config.instance.clone(), address: address.clone() };
    // Stands for all sessions of this replica as well: `registry/replicas` would say the same twice.
    let listed = register_instance(env, &store, "registry", info, config.lease_ttl);
    let grpc = Grpc {
        env: env.clone(),
        store: Arc::clone(&store),
        config: Arc::clone(&config),
        metrics: metrics.clone(),
        roll: roll.clone(),
        allocator: follow_leader(env, &store, "allocator"),
        subscribe,
        held: held.clone(),
        listed: listed.clone(),
        removals: removals.clone(),
    };
    let operator = RegistryOperatorServer::new(grpc.clone());
    let server = RegistryServer::new(grpc)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let serving = serve(env, "registry", listener, Routes::new(server).add_service(operator)).await;
    let follower = Follower {
        replicas: follow_instances(env, &store, "registry"),
        judge: Judge::new(&config.instance, config.ping_timeout()),
        removals,
        past: Past::new(&config.args),
        roll,
        held,
        listed,
        feed: Feed::new(FEED),
        view,
        revision: 0,
        metrics,
        env: env.clone(),
    };
    env.tasks.spawn("registry-follower", follower.run(store, subscriptions, (serving, config)));
    Ok(Handle { address })
}
