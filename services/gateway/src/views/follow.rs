//! The loop that keeps a view up to date.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use meshos_mesh::{Backoff, Env, LeaderInfo, MAX_MESSAGE_BYTES, MeshChannel};
use meshos_proto::meshos::{
    allocator::v1::{self as allocator, operator_client::OperatorClient},
    apps::v1::{self as apps, app_scheduler_client::AppSchedulerClient},
};
use tokio::{sync::watch, time::timeout};
use tonic::{Status, Streaming};
use tracing::{debug, info};

use super::{Apps, Cluster, Position, Shared};
use crate::client::Leader;

/// A stream must have begun with its snapshot within this time.
const FIRST: Duration = Duration::from_secs(15);

/// What a message of a `Watch` stream is to the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A part of the whole picture.
    Part,
    /// The whole picture, or the last part of it.
    Whole,
    Change,
}

/// A view that follows a `Watch` stream.
#[async_trait]
pub(super) trait View: Default + Send + Sync + 'static {
    type Message: Send + 'static;
    /// A picture that is put together beside the view, which goes on answering meanwhile.
    type Picture: Default + Send;

    /// Opens the stream.
    async fn watch(channel: MeshChannel) -> Result<Streaming<Self::Message>, Status>;
    /// Where a message brings the view, and what it is.
    fn position(message: &Self::Message) -> (Position, Kind);
    /// Adds a part.
    fn put_together(picture: &mut Self::Picture, part: Self::Message);
    /// Begins anew with this picture. Returns what is to be thrown away, which may take time.
    fn begin(&mut self, picture: Self::Picture) -> Self::Picture;
    /// Applies a change.
    fn apply(&mut self, message: Self::Message);
}

#[async_trait]
impl View for Cluster {
    type Message = allocator::WatchResponse;
    type Picture = Self;

    async fn watch(channel: MeshChannel) -> Result<Streaming<Self::Message>, Status> {
        let mut client = OperatorClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        Ok(client.watch(allocator::WatchRequest {}).await?.into_inner())
    }

    fn position(message: &Self::Message) -> (Position, Kind) {
        let kind = match &message.body {
            Some(allocator::watch_response::Body::Snapshot(part)) if part.more => Kind::Part,
            Some(allocator::watch_response::Body::Snapshot(_)) => Kind::Whole,
            _ => Kind::Change,
        };
        ((message.epoch, message.revision), kind)
    }

    fn put_together(picture: &mut Self, part: Self::Message) {
        picture.apply(part);
    }

    /// Ends what was subscribed: between the old picture and the new one anything may have happened.
    fn begin(&mut self, picture: Self) -> Self {
        std::mem::replace(self, picture)
    }

    fn apply(&mut self, message: Self::Message) {
        self.apply(message);
    }
}

#[async_trait]
impl View for Apps {
    type Message = apps::WatchResponse;
    type Picture = Self;

    async fn watch(channel: MeshChannel) -> Result<Streaming<Self::Message>, Status> {
        let mut client = AppSchedulerClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        Ok(client.watch(apps::WatchRequest {}).await?.into_inner())
    }

    fn position(message: &Self::Message) -> (Position, Kind) {
        let kind = match &message.body {
            Some(apps::watch_response::Body::Snapshot(part)) if part.more => Kind::Part,
            Some(apps::watch_response::Body::Snapshot(_)) => Kind::Whole,
            _ => Kind::Change,
        };
        ((0, message.revision), kind)
    }

    fn put_together(picture: &mut Self, part: Self::Message) {
        picture.apply(part);
    }

    fn begin(&mut self, picture: Self) -> Self {
        self.replace(picture)
    }

    fn apply(&mut self, message: Self::Message) {
        self.apply(message);
    }
}

/// Follows the leader until the environment's tasks stop.
pub(super) fn spawn<V: View>(env: &Env, name: &'static str, leader: &Arc<Leader>) -> Shared<V> {
    let shared = Shared::default();
    let backoff = Backoff::new(&env.rng, Duration::from_millis(20), Duration::from_secs(1));
    let follower = Follower { name, leader: Arc::clone(leader), shared: shared.clone(), backoff };
    env.tasks.spawn(name, follower.run());
    shared
}

struct Follower<V> {
    name: &'static str,
    leader: Arc<Leader>,
    shared: Shared<V>,
    backoff: Backoff,
}

impl<V: View> Follower<V> {
    async fn run(mut self) {
        let mut leader = self.leader.changes();
        loop {
            let current = leader.borrow_and_update().clone();
            let ended = match current {
                Some(info) => {
                    tokio::select! {
                        biased;
                        changed = moved(&mut leader, &info) => {
                            if !changed { return }
                            continue;
                        }
                        ended = self.session(&info.address) => ended,
                    }
                }
                None => {
                    if leader.changed().await.is_err() {
                        return;
                    }
                    continue;
                }
            };
            debug!(view = self.name, error = %ended, "view lost its leader, following again");
            // Whichever comes first: the next try, or word of another leader.
            let _ = timeout(self.backoff.delay(), leader.changed()).await;
        }
    }

    /// Reads one stream to its end, which is always an error.
    async fn session(&mut self, address: &str) -> Status {
        let channel = self.leader.channel(address);
        let mut stream = match timeout(FIRST, V::watch(channel)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(status)) => return status,
            Err(_) => return Status::deadline_exceeded("the leader did not open the stream"),
        };
        let mut picture = Some(V::Picture::default());
        loop {
            let message = if picture.is_none() {
                Ok(stream.message().await)
            } else {
                timeout(FIRST, stream.message()).await
            };
            let message = match message {
                Ok(Ok(Some(message))) => message,
                Ok(Ok(None)) => return Status::unavailable("the leader ended the stream"),
                Ok(Err(status)) => return status,
                Err(_) => return Status::deadline_exceeded("no snapshot came"),
            };
            let (position, kind) = V::position(&message);
            match (kind, &mut picture) {
                (Kind::Change, None) => self.shared.write(position, |view| view.apply(message)),
                // Changes without the picture that they change mean nothing.
                (Kind::Change, Some(_)) => {}
                (Kind::Part | Kind::Whole, picture) => {
                    let parts = picture.get_or_insert_default();
                    V::put_together(parts, message);
                    if kind == Kind::Whole {
                        self.begin(position, std::mem::take(parts));
                        *picture = None;
                    }
                }
            }
        }
    }

    fn begin(&mut self, position: Position, picture: V::Picture) {
        let old = self.shared.write(position, |view| view.begin(picture));
        info!(view = self.name, epoch = position.0, revision = position.1, "view synchronised");
        self.backoff.reset();
        // Nobody waits any more while this goes on.
        drop(old);
    }
}

/// Returns true once another instance leads, or nobody; false when there will be no more news.
async fn moved(leader: &mut watch::Receiver<Option<LeaderInfo>>, from: &LeaderInfo) -> bool {
    leader.wait_for(|leader| leader.as_ref().is_some_and(|leader| leader != from)).await.is_ok()
}
