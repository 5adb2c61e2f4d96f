//! Builds the parts and starts them.

use std::{net::Ipv4Addr, sync::Arc};

use meshos_mesh::Env;
use meshos_store::SharedStore;
use tracing::info;

use crate::{
    Config, Error,
    client::Leader,
    http, marathon, mesos,
    metrics::HttpMetrics,
    replicas::Replicas,
    views::{self, Apps, Cluster, Shared},
};

/// A running gateway.
#[derive(Clone, Debug)]
pub struct Handle {
    /// `host:port` that the Mesos API listens on.
    pub mesos_address: String,
    /// `host:port` that the Marathon API listens on.
    pub marathon_address: String,
    /// Address of the gRPC server.
    pub grpc_address: String,
    cluster: Shared<Cluster>,
    apps: Shared<Apps>,
}

impl Handle {
    /// Waits until the Mesos API has something to answer from: an allocator leads and was heard of.
    pub async fn cluster_synced(&self) {
        self.cluster.synced().await;
    }

    /// Waits until the Marathon API has something to answer from: an app-scheduler leads and was heard of.
    pub async fn apps_synced(&self) {
        self.apps.synced().await;
    }
}

/// What clients are told of this gateway; it stands for the master and for Marathon's leader.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) hostname: String,
    /// For messages that have room for an IPv4 address only.
    pub(crate) ip: Ipv4Addr,
    pub(crate) port: u16,
}

impl Identity {
    fn new(hostname: Option<&String>, address: &str) -> Self {
        let (host, port) = address.rsplit_once(':').unwrap_or((address, "0"));
        let host = host.trim_matches(['[', ']']);
        let wildcard = matches!(host, "0.0.0.0" | "::");
        let own = || nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        let found = if wildcard { own().unwrap_or_else(|| "localhost".to_owned()) } else { host.to_owned() };
        Self {
            hostname: hostname.cloned().unwrap_or(found),
            ip: host.parse().unwrap_or(Ipv4Addr::LOCALHOST),
            port: port.parse().unwrap_or(0),
        }
    }

    /// `hostname:port`
    pub(crate) fn authority(&self) -> String {
        format!("{}:{}", self.hostname, self.port)
    }
}

/// Starts the gateway; it serves until the environment's tasks stop.
///
/// Both HTTP addresses are bound first, so that a taken port stops the start. The services behind them need not
/// run yet: until they do, requests get 503.
///
/// # Errors
/// [`Error`] names the address that cannot be listened on, and why.
pub async fn start(env: &Env, store: SharedStore, config: Config) -> Result<Handle, Error> {
    let mesos_listener = config.http.bind(&config.mesos_listen).await;
    let mesos_listener = mesos_listener.map_err(|source| Error::Mesos { source })?;
    let marathon_listener = config.http.bind(&config.marathon_listen).await;
    let marathon_listener = marathon_listener.map_err(|source| Error::Marathon { source })?;
    let grpc_listener = env.transport.bind(&config.listen).await.map_err(|source| Error::Grpc { source })?;

    let allocator = Arc::new(Leader::new(env, &store, "allocator"));
    let registry = Replicas::new(env, &store, "registry");
    let app_scheduler = Arc::new(Leader::new(env, &store, "app-scheduler"));
    let cluster = views::follow_cluster(env, &allocator);
    let apps = views::follow_apps(env, &app_scheduler);

    let mesos_identity = Identity::new(config.hostname.as_ref(), &mesos_listener.address);
    let marathon_identity = Identity::new(config.hostname.as_ref(), &marathon_listener.address);
    let serving =
        meshos_mesh::serve(env, "gateway-grpc", grpc_listener, tonic::service::Routes::default()).await;
    let handle = Handle {
        mesos_address: mesos_listener.address.clone(),
        marathon_address: marathon_listener.address.clone(),
        grpc_address: serving.address.clone(),
        cluster: cluster.clone(),
        apps: apps.clone(),
    };
    let mesos_url = format!("http://{}", mesos_identity.authority());
    let mesos_metrics = HttpMetrics::new(&env.metrics, "mesos");
    let about = mesos::About::new(mesos_identity, &config);
    let mesos = mesos::Mesos::new(env, (allocator, registry), cluster, about, mesos_metrics.active());
    let about = marathon::About {
        mesos_url,
        allow_origin: config.access_control_allow_origin.clone(),
        most_requests: config.http_max_concurrent_requests,
        fronts: marathon::fronts(env, &store, &marathon_identity),
    };
    let marathon = marathon::Marathon::new(env, app_scheduler, apps, marathon_identity, about);
    http::serve(env, mesos_listener, Arc::new(mesos), config.mesos_body_limit, mesos_metrics);
    let marathon_metrics = HttpMetrics::new(&env.metrics, "marathon");
    http::serve(env, marathon_listener, Arc::new(marathon), config.marathon_body_limit, marathon_metrics);
    serving.ready().await;
    info!(mesos = handle.mesos_address, marathon = handle.marathon_address, "gateway serves");
    Ok(handle)
}
