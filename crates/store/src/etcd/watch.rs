//! Watches on etcd.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream;
use meshos_proto::etcdserverpb as pb;
use meshos_proto::etcdserverpb::watch_client::WatchClient;
use meshos_proto::etcdserverpb::watch_request::RequestUnion;
use tokio::time::timeout;
use tonic::{Status, Streaming};

use super::link::{Call, Link};
use super::{MAX_MESSAGE_BYTES, codec, link};
use crate::error::{Error, Result};
use crate::model::{Revision, WatchBatch};
use crate::watcher::Watcher;

/// Opens a watch; returns when etcd has confirmed it.
pub(super) async fn open(link: &Arc<Link>, prefix: &str, from: Revision) -> Result<Watcher> {
    let from = from.max(1);
    let (member, channel) = link.member();
    let mut feed = Feed { link: link.clone(), member, prefix: prefix.to_owned(), from, responses: None };
    let opening = async {
        let mut client = WatchClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        // etcd ends a watch whose request stream ends.
        let requests = stream::iter([create(prefix, from)]).chain(stream::pending());
        let mut responses = client.watch(link::request(requests)).await?.into_inner();
        let first = responses.message().await?;
        Ok::<_, Status>((responses, first))
    };
    match timeout(link.call_timeout(), opening).await {
        Err(_) => {
            link.leave(member);
            Err(Error::DeadlineExceeded { call: "watch", after: link.call_timeout() })
        }
        Ok(Err(status)) => {
            if link::is_away(&status) {
                link.leave(member);
            }
            Err(link::classify(Call::read("watch"), &status))
        }
        Ok(Ok((_, None))) => Err(feed.disconnected("etcd ended the stream at once")),
        Ok(Ok((responses, Some(first)))) => {
            feed.check(&first)?;
            feed.responses = Some(responses);
            let changes = stream::unfold(feed, |feed| feed.next());
            Ok(Watcher::new(prefix.to_owned(), changes.boxed()))
        }
    }
}

fn create(prefix: &str, from: Revision) -> pb::WatchRequest {
    let create = pb::WatchCreateRequest {
        key: codec::range_start(prefix),
        range_end: codec::prefix_end(prefix),
        // One revision earlier than asked for, because etcd lets a watch start at the very revision that it has
        // compacted although the deletes of that revision are gone. What is too early is dropped below.
        start_revision: (from - 1).max(1) as i64,
        ..Default::default()
    };
    pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }
}

struct Feed {
    link: Arc<Link>,
    member: usize,
    prefix: String,
    from: Revision,
    /// `None` after an error.
    responses: Option<Streaming<pb::WatchResponse>>,
}

impl Feed {
    async fn next(mut self) -> Option<(Result<WatchBatch>, Self)> {
        let result = match self.responses.take() {
            Some(mut responses) => {
                let result = self.read(&mut responses).await;
                // An error ends the watch.
                self.responses = result.is_ok().then_some(responses);
                result
            }
            None => return None,
        };
        Some((result, self))
    }

    /// The next response that holds changes.
    async fn read(&self, responses: &mut Streaming<pb::WatchResponse>) -> Result<WatchBatch> {
        loop {
            let response = match responses.message().await {
                Ok(Some(response)) => response,
                Ok(None) => return Err(self.disconnected("etcd ended the stream")),
                Err(status) => return Err(self.disconnected(&link::describe(&status))),
            };
            self.check(&response)?;
            let mut events = Vec::with_capacity(response.events.len());
            for event in response.events {
                let event = codec::event(event)?;
                if event.mod_revision() >= self.from {
                    events.push(event);
                }
            }
            if let Some(last) = events.last() {
                return Ok(WatchBatch { revision: last.mod_revision(), events });
            }
        }
    }

    fn check(&self, response: &pb::WatchResponse) -> Result<()> {
        if response.compact_revision > 0 {
            let compacted = codec::unsigned(response.compact_revision);
            return Err(Error::Compacted { requested: self.from, compacted });
        }
        if response.canceled {
            return Err(self.disconnected(&response.cancel_reason));
        }
        Ok(())
    }

    fn disconnected(&self, why: &str) -> Error {
        self.link.leave(self.member);
        Error::Disconnected { prefix: self.prefix.clone(), why: why.to_owned() }
    }
}
