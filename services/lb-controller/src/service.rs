//! Follows the app-scheduler's leader and keeps the view.

use std::time::Duration;

use meshos_mesh::{
    Backoff, Env, Feed, LeaderInfo, MAX_MESSAGE_BYTES, Serving, connect, follow_leader, serve,
};
use meshos_proto::meshos::{
    apps::v1::{WatchRequest, app_scheduler_client::AppSchedulerClient},
    lb::v1::{WatchResponse, lb_controller_server::LbControllerServer},
};
use meshos_store::SharedStore;
use tokio::sync::{mpsc, watch};
use tonic::{Status, service::Routes};
use tracing::{debug, info};

use crate::{
    config::Config,
    error::Error,
    grpc::{Grpc, Subscribe},
    metrics::LbMetrics,
    view::View,
};

/// Changes that a reader of `Watch` may be behind.
const FEED: usize = 1024;

/// A running controller.
#[derive(Clone, Debug)]
pub struct Handle {
    /// Address of its gRPC server.
    pub address: String,
}

/// Starts a controller; it runs until the environment's tasks stop.
///
/// # Errors
/// [`Error::Transport`] when the address cannot be bound.
pub async fn start(env: &Env, store: SharedStore, config: Config) -> Result<Handle, Error> {
    let listener = env.transport.bind(&config.listen).await?;
    let (subscribe, subscriptions) = mpsc::channel(16);
    let serving =
        serve(env, "lb-controller", listener, Routes::new(LbControllerServer::new(Grpc { subscribe }))).await;
    let address = serving.address.clone();
    info!(groups = config.groups.join(","), "following the app-scheduler");
    let follower = Follower {
        env: env.clone(),
        view: View::default(),
        feed: Feed::new(FEED),
        metrics: LbMetrics::new(&env.metrics),
        leader: follow_leader(env, &store, "app-scheduler"),
        subscriptions,
        serving,
    };
    env.tasks.spawn("lb-follower", follower.run());
    Ok(Handle { address })
}

struct Follower {
    env: Env,
    view: View,
    feed: Feed<WatchResponse>,
    metrics: LbMetrics,
    leader: watch::Receiver<Option<LeaderInfo>>,
    subscriptions: mpsc::Receiver<Subscribe>,
    serving: Serving,
}

impl Follower {
    async fn run(mut self) {
        let mut backoff = Backoff::new(&self.env.rng, Duration::from_millis(50), Duration::from_secs(2));
        loop {
            if let Some(leader) = self.leader().await {
                match self.follow(&leader.address).await {
                    Ok(()) => return,
                    Err(status) => {
                        debug!(leader = leader.instance, %status, "watch ended, subscribing again")
                    }
                }
            }
            backoff.wait().await;
        }
    }

    /// The leader, or none when the wait for one was interrupted by a subscriber.
    async fn leader(&mut self) -> Option<LeaderInfo> {
        let current = self.leader.borrow_and_update().clone();
        if current.is_some() {
            return current;
        }
        tokio::select! {
            biased;
            _ = self.leader.changed() => self.leader.borrow_and_update().clone(),
            subscriber = self.subscriptions.recv() => { self.subscribe(subscriber?); None }
        }
    }

    /// Follows one leader until its stream breaks.
    async fn follow(&mut self, address: &str) -> Result<(), Status> {
        let mut client =
            AppSchedulerClient::new(connect(&self.env, address)).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let mut responses = client.watch(WatchRequest {}).await?.into_inner();
        loop {
            tokio::select! {
                biased;
                response = responses.message() => {
                    let Some(response) = response? else { return Err(Status::unavailable("stream ended")) };
                    self.view.apply(response);
                    self.serving.ready().await;
                    self.metrics.apps.set(i64::try_from(self.view.apps.len()).unwrap_or(i64::MAX));
                    self.metrics.instances.set(i64::try_from(self.view.instances.len()).unwrap_or(i64::MAX));
                    self.feed.publish(self.report());
                }
                subscriber = self.subscriptions.recv() => match subscriber {
                    Some(subscriber) => self.subscribe(subscriber),
                    None => return Ok(()),
                },
            }
        }
    }

    fn report(&self) -> WatchResponse {
        WatchResponse {
            revision: self.view.revision,
            apps: self.view.apps.len() as u64,
            instances: self.view.instances.len() as u64,
        }
    }

    fn subscribe(&self, subscriber: Subscribe) {
        // A reader that has gone meanwhile is no failure.
        let _ = subscriber.send(self.feed.subscribe(self.report()));
    }
}
