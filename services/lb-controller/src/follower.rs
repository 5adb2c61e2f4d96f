//! Follows the app-scheduler's leader, and tells it which tasks HAProxy let go of.

use std::{sync::Arc, time::Duration};

use meshos_mesh::{Backoff, Env, LeaderInfo, MAX_MESSAGE_BYTES, connect, follow_leader};
use meshos_proto::meshos::apps::v1::{
    ConfirmLeftRequest, Snapshot, WatchRequest, WatchResponse, app_scheduler_client::AppSchedulerClient,
    watch_response::Body,
};
use meshos_store::SharedStore;
use tokio::sync::{Notify, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tracing::debug;

/// Changes that wait for the loop.
pub(crate) const CHANGES: usize = 256;
/// Confirmations that wait to be sent.
pub(crate) const CONFIRMATIONS: usize = 1024;

/// What the follower reports.
#[derive(Debug)]
pub(crate) enum Event {
    /// A stream is open; confirmations go here.
    Following(mpsc::Sender<ConfirmLeftRequest>),
    Change(Box<WatchResponse>),
    Broken,
}

/// Starts to follow. The second part makes it begin anew.
pub(crate) fn spawn(env: &Env, store: &SharedStore) -> (mpsc::Receiver<Event>, Arc<Notify>) {
    let (events, receiver) = mpsc::channel(CHANGES);
    let again = Arc::new(Notify::new());
    let follower = Follower {
        env: env.clone(),
        leader: follow_leader(env, store, "app-scheduler"),
        events,
        again: Arc::clone(&again),
    };
    env.tasks.spawn("lb-follower", follower.run());
    (receiver, again)
}

struct Follower {
    env: Env,
    leader: watch::Receiver<Option<LeaderInfo>>,
    events: mpsc::Sender<Event>,
    again: Arc<Notify>,
}

impl Follower {
    async fn run(mut self) {
        let mut backoff = Backoff::new(&self.env.rng, Duration::from_millis(50), Duration::from_secs(2));
        loop {
            let leader = self.leader.borrow_and_update().clone();
            let Some(leader) = leader else {
                if self.leader.changed().await.is_err() {
                    return;
                }
                continue;
            };
            if let Err(status) = self.follow(&leader.address, &mut backoff).await {
                debug!(leader = leader.instance, %status, "watch ended, subscribing again");
            }
            if self.events.send(Event::Broken).await.is_err() {
                return;
            }
            backoff.wait().await;
        }
    }

    /// Follows one leader until its stream breaks.
    async fn follow(&mut self, address: &str, backoff: &mut Backoff) -> Result<(), Status> {
        let mut client =
            AppSchedulerClient::new(connect(&self.env, address)).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let (confirm, confirmations) = mpsc::channel(CONFIRMATIONS);
        // The first message opens the stream; kills wait for this controller from then on.
        let _ = confirm.try_send(ConfirmLeftRequest::default());
        let mut confirming = client.clone();
        let confirmed = confirming.confirm_left(ReceiverStream::new(confirmations));
        tokio::pin!(confirmed);
        let mut responses = tokio::select! {
            biased;
            ended = &mut confirmed => return ended.map(drop),
            watching = client.watch(WatchRequest {}) => watching?.into_inner(),
        };
        let gone = || Status::cancelled("the controller is stopping");
        self.events.send(Event::Following(confirm)).await.map_err(|_| gone())?;
        let mut picture = None;
        loop {
            let response = tokio::select! {
                biased;
                response = responses.message() => response?,
                ended = &mut confirmed => return ended.map(drop),
                () = self.again.notified() => return Ok(()),
            };
            let Some(response) = response else { return Err(Status::unavailable("stream ended")) };
            backoff.reset();
            if let Some(response) = put_together(&mut picture, response) {
                self.events.send(Event::Change(Box::new(response))).await.map_err(|_| gone())?;
            }
        }
    }
}

/// A picture that comes in parts is passed on whole.
fn put_together(picture: &mut Option<Snapshot>, mut response: WatchResponse) -> Option<WatchResponse> {
    let Some(Body::Snapshot(part)) = &mut response.body else { return Some(response) };
    let last = !part.more;
    let whole = picture.get_or_insert_default();
    whole.apps.append(&mut part.apps);
    whole.instances.append(&mut part.instances);
    whole.health.append(&mut part.health);
    let whole = picture.take_if(|_| last)?;
    Some(WatchResponse { body: Some(Body::Snapshot(whole)), ..response })
}

#[cfg(test)]
mod tests {
    use meshos_proto::meshos::apps::v1::{App, Delta, Instance};

    use super::*;

    #[test]
    fn a_picture_in_parts_is_passed_on_whole() {
        let of = |part| WatchResponse { revision: 7, body: Some(Body::Snapshot(part)) };
        let first = Snapshot { apps: vec![App::default(); 2], more: true, ..Snapshot::default() };
        let last = Snapshot { instances: vec![Instance::default(); 3], ..Snapshot::default() };
        let mut picture = None;
        for _ in 0..2 {
            assert_eq!(put_together(&mut picture, of(first.clone())), None);
            let whole = put_together(&mut picture, of(last.clone())).unwrap();
            assert_eq!(whole.revision, 7);
            assert!(
                matches!(whole.body, Some(Body::Snapshot(all)) if all.apps.len() == 2 && all.instances.len() == 3)
            );
        }
        let change = WatchResponse { revision: 8, body: Some(Body::Delta(Delta::default())) };
        assert_eq!(put_together(&mut picture, change.clone()), Some(change));
    }
}
