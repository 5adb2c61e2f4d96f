//! The store of a cluster: etcd (3.4 or newer), spoken to in its v3 gRPC API.

mod codec;
mod lane;
mod link;
mod txn;
mod watch;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream;
use meshos_proto::etcdserverpb as pb;
use meshos_proto::etcdserverpb::kv_client::KvClient;
use meshos_proto::etcdserverpb::lease_client::LeaseClient;
use tonic::transport::Channel;
use tracing::warn;

use self::lane::Lane;
use self::link::{Call, Link};
use crate::error::{Error, Result};
use crate::model::{KeyValue, LeaseId, Listing, Revision, Txn, TxnOutcome, check_key, check_prefix};
use crate::watcher::Watcher;
use crate::{Store, hold};

/// Keys read by one request of a listing.
const PAGE: i64 = 512;
/// A page of large values, or the changes of a large transaction, exceed tonic's default of 4 MiB.
const MAX_MESSAGE_BYTES: usize = 1024 * 1024 * 1024;
/// Listings are started over when compaction overtakes them between two pages.
const LIST_ATTEMPTS: usize = 4;

/// How etcd is spoken to.
#[derive(Debug, Clone)]
pub struct EtcdOptions {
    /// The longest that one request may take, tries on other members included.
    pub call_timeout: Duration,
    /// The longest that setting up a connection may take.
    pub connect_timeout: Duration,
    /// How often a connection in use is probed. By default etcd closes one that is probed more often than every 5 s
    /// (`--grpc-keepalive-min-time`), or at all without a call or watch on it.
    pub keep_alive: Duration,
}

impl Default for EtcdOptions {
    fn default() -> Self {
        Self {
            call_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(1),
            keep_alive: Duration::from_millis(5500),
        }
    }
}

/// A client of an etcd cluster. A clone shares the connections.
#[derive(Debug, Clone)]
pub struct Etcd {
    link: Arc<Link>,
    leases: Arc<Leases>,
}

/// Where leases are kept alive.
#[derive(Debug)]
struct Leases {
    endpoints: Vec<String>,
    options: EtcdOptions,
    /// Started when it is needed; none: there is no thread to be had.
    lane: OnceLock<Option<Lane>>,
}

impl Leases {
    fn lane(&self) -> Option<&Lane> {
        let start = || {
            Lane::start(&self.endpoints, &self.options)
                .inspect_err(
                    |error| warn!(%error, "no thread for leases, they are kept alive among all else"),
                )
                .ok()
        };
        self.lane.get_or_init(start).as_ref()
    }
}

impl Etcd {
    /// A client for the members at `endpoints` (`host:port` each).
    ///
    /// Connections are made when they are needed, so this fails only for addresses that are none; a member that
    /// is away is found out by the first call.
    pub async fn connect<S: AsRef<str>>(endpoints: &[S], options: EtcdOptions) -> Result<Self> {
        let link = Arc::new(Link::new(endpoints, options.clone())?);
        let endpoints = endpoints.iter().map(|endpoint| endpoint.as_ref().to_owned()).collect();
        Ok(Self { link, leases: Arc::new(Leases { endpoints, options, lane: OnceLock::new() }) })
    }

    async fn range(&self, request: pb::RangeRequest) -> Result<pb::RangeResponse> {
        let send = |channel| {
            let request = link::request(request.clone());
            async move { kv(channel).range(request).await }
        };
        self.link.call(Call::read("range"), send).await
    }

    async fn list_once(&self, prefix: &str) -> Result<Listing> {
        let end = codec::prefix_end(prefix);
        let mut key = codec::range_start(prefix);
        let mut listing = Listing::default();
        loop {
            let request = pb::RangeRequest {
                key,
                range_end: end.clone(),
                limit: PAGE,
                revision: listing.revision as i64,
                ..Default::default()
            };
            let page = self.range(request).await.map_err(|error| match error {
                Error::Compacted { .. } => Error::Compacted { requested: listing.revision, compacted: 0 },
                other => other,
            })?;
            if listing.revision == 0 {
                listing.revision = codec::revision(page.header.as_ref());
            }
            for kv in page.kvs {
                listing.items.push(codec::key_value(kv)?);
            }
            match listing.items.last() {
                // The next page starts right behind the last key.
                Some(last) if page.more => key = format!("{}\0", last.key).into(),
                _ => return Ok(listing),
            }
        }
    }

    async fn current_revision(&self) -> Result<Revision> {
        let request = pb::RangeRequest { key: "\0".into(), limit: 1, keys_only: true, ..Default::default() };
        Ok(codec::revision(self.range(request).await?.header.as_ref()))
    }
}

#[async_trait]
impl Store for Etcd {
    async fn get(&self, key: &str) -> Result<Option<KeyValue>> {
        check_key(key)?;
        let request = pb::RangeRequest { key: key.to_owned().into(), ..Default::default() };
        self.range(request).await?.kvs.into_iter().next().map(codec::key_value).transpose()
    }

    async fn list(&self, prefix: &str) -> Result<Listing> {
        check_prefix(prefix)?;
        for _ in 1..LIST_ATTEMPTS {
            match self.list_once(prefix).await {
                Err(Error::Compacted { .. }) => {}
                other => return other,
            }
        }
        self.list_once(prefix).await
    }

    async fn txn(&self, txn: Txn) -> Result<TxnOutcome> {
        txn.validate()?;
        self.run_txn(txn).await
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<Watcher> {
        check_prefix(prefix)?;
        watch::open(&self.link, prefix, from).await
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId> {
        // Whole seconds, never less than was asked for.
        let ttl = i64::try_from(ttl.as_nanos().div_ceil(1_000_000_000)).unwrap_or(i64::MAX).max(1);
        let send = |channel| async move {
            lease(channel).lease_grant(link::request(pb::LeaseGrantRequest { ttl, id: 0 })).await
        };
        // Granting twice only leaves a lease that ends by itself.
        Ok(LeaseId(self.link.call(Call::read("grant"), send).await?.id))
    }

    async fn keep_alive(&self, id: LeaseId) -> Result<()> {
        keep_alive(&self.link, id).await
    }

    async fn hold(&self, id: LeaseId, ttl: Duration) -> Error {
        match self.leases.lane() {
            Some(lane) => lane.hold(id, ttl).await,
            None => hold::hold(|| self.keep_alive(id), ttl).await,
        }
    }

    async fn revoke(&self, id: LeaseId) -> Result<()> {
        let send = |channel| async move {
            lease(channel).lease_revoke(link::request(pb::LeaseRevokeRequest { id: id.0 })).await
        };
        self.link.call(Call::write("revoke").of_lease(id), send).await.map(|_| ())
    }

    async fn compact(&self, revision: Revision) -> Result<()> {
        let request = pb::CompactionRequest { revision: revision as i64, physical: false };
        let send = |channel| async move { kv(channel).compact(link::request(request)).await };
        match self.link.call(Call::read("compact"), send).await {
            Ok(_) | Err(Error::Compacted { .. }) => Ok(()),
            Err(Error::FutureRevision { .. }) => {
                Err(Error::FutureRevision { requested: revision, current: self.current_revision().await? })
            }
            Err(error) => Err(error),
        }
    }
}

async fn keep_alive(link: &Link, id: LeaseId) -> Result<()> {
    let send = |channel| async move {
        // The request stream stays open until the answer is there.
        let requests = stream::iter([pb::LeaseKeepAliveRequest { id: id.0 }]).chain(stream::pending());
        let mut answers = lease(channel).lease_keep_alive(link::request(requests)).await?.into_inner();
        match answers.message().await? {
            Some(answer) => Ok(tonic::Response::new(answer)),
            None => Err(tonic::Status::unavailable("the stream ended without an answer")),
        }
    };
    let answer = link.call(Call::read("keep_alive"), send).await?;
    if answer.ttl > 0 { Ok(()) } else { Err(Error::LeaseNotFound(id)) }
}

fn kv(channel: Channel) -> KvClient<Channel> {
    KvClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES)
}

fn lease(channel: Channel) -> LeaseClient<Channel> {
    LeaseClient::new(channel)
}
