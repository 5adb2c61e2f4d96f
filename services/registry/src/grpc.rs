//! Decode, call, encode.

mod operator;

use std::sync::Arc;

use futures::channel::mpsc as outbox;
use meshos_mesh::{Env, FeedStream, LeaderInfo};
use meshos_proto::meshos::registry::v1::{
    ListFrameworksRequest, ListFrameworksResponse, ListRolesRequest, ListRolesResponse, PutFrameworkRequest,
    PutFrameworkResponse, PutRolesRequest, PutRolesResponse, SessionRequest, SessionResponse, WatchRequest,
    WatchResponse, registry_server::Registry,
};
use meshos_store::{Compare, KeyValue, SharedStore, Txn, TxnOutcome, leader_key};
use tokio::sync::{mpsc, oneshot, watch};
use tonic::{Request, Response, Status, Streaming};

use crate::{
    config::Config,
    error::Error,
    held::Held,
    metrics::RegistryMetrics,
    removals::Removals,
    roll::Roll,
    session::Session,
    store::{FORMAT, FRAMEWORKS, ROLES, encode, framework_key, read_framework, read_role, role_key},
};

/// Messages that wait for one agent. Their queue costs nothing while it is empty, which counts with so many agents.
const OUTBOX: usize = 16;

/// Roles in one request: a transaction has a limit.
const MAX_ROLES: usize = 100;

/// Bytes of framework records in one answer, about.
const PAGE: usize = 8 * 1024 * 1024;

pub(crate) type Subscribe = oneshot::Sender<FeedStream<WatchResponse>>;

#[derive(Clone, Debug)]
pub(crate) struct Grpc {
    pub(crate) env: Env,
    pub(crate) store: SharedStore,
    pub(crate) config: Arc<Config>,
    pub(crate) metrics: RegistryMetrics,
    pub(crate) roll: Roll,
    pub(crate) allocator: watch::Receiver<Option<LeaderInfo>>,
    pub(crate) subscribe: mpsc::Sender<Subscribe>,
    pub(crate) held: Held,
    /// Whether this replica can be counted on.
    pub(crate) listed: watch::Receiver<bool>,
    pub(crate) removals: Removals,
}

impl Grpc {
    /// What a replica knows that is cut off from the store is out of date.
    fn check_listed(&self) -> Result<(), Error> {
        if *self.listed.borrow() { Ok(()) } else { Err(Error::CutOff) }
    }
}

#[tonic::async_trait]
impl Registry for Grpc {
    type SessionStream = outbox::Receiver<Result<SessionResponse, Status>>;
    type WatchStream = FeedStream<WatchResponse>;

    async fn session(
        &self,
        request: Request<Streaming<SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        self.check_listed()?;
        let (responses, receiver) = outbox::channel(OUTBOX);
        let session = Session {
            env: self.env.clone(),
            config: Arc::clone(&self.config),
            roll: self.roll.clone(),
            metrics: self.metrics.clone(),
            allocator: self.allocator.clone(),
            held: self.held.clone(),
            listed: self.listed.clone(),
            removals: self.removals.clone(),
            responses,
        };
        self.env.tasks.spawn("agent-session", session.run(request.into_inner()));
        Ok(Response::new(receiver))
    }

    async fn watch(&self, _: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        self.check_listed()?;
        let stopping = || Status::unavailable("the registry is stopping");
        let (sender, receiver) = oneshot::channel();
        self.subscribe.send(sender).await.map_err(|_| stopping())?;
        Ok(Response::new(receiver.await.map_err(|_| stopping())?))
    }

    async fn put_framework(
        &self,
        request: Request<PutFrameworkRequest>,
    ) -> Result<Response<PutFrameworkResponse>, Status> {
        let PutFrameworkRequest { epoch, framework } = request.into_inner();
        let mut framework = framework.ok_or_else(|| missing("framework"))?;
        framework.format = FORMAT;
        let id = framework
            .info
            .as_ref()
            .and_then(|info| info.id.as_ref())
            .ok_or_else(|| missing("framework.info.id"))?;
        meshos_types::FrameworkId::parse(&id.value)
            .map_err(|e| Error::Invalid { field: "framework.info.id", reason: e.to_string() })?;
        let txn = Txn::new()
            .when(Compare::CreateRevision(leader_key("allocator"), epoch))
            .put(framework_key(&id.value), encode(&framework));
        match self.store.txn(txn).await.map_err(Error::from)? {
            TxnOutcome::Committed(_) => Ok(Response::new(PutFrameworkResponse {})),
            TxnOutcome::Refused => Err(Error::Fenced { epoch }.into()),
        }
    }

    async fn list_frameworks(
        &self,
        request: Request<ListFrameworksRequest>,
    ) -> Result<Response<ListFrameworksResponse>, Status> {
        let listing = self.store.list(FRAMEWORKS).await.map_err(Error::from)?;
        Ok(Response::new(page(&listing.items, &request.into_inner().after)))
    }

    async fn put_roles(
        &self,
        request: Request<PutRolesRequest>,
    ) -> Result<Response<PutRolesResponse>, Status> {
        let PutRolesRequest { epoch, roles } = request.into_inner();
        if roles.len() > MAX_ROLES {
            let reason = format!("{} roles at once, at most {MAX_ROLES} are possible", roles.len());
            return Err(Error::Invalid { field: "roles", reason }.into());
        }
        let mut txn = Txn::new().when(Compare::CreateRevision(leader_key("allocator"), epoch));
        for mut role in roles {
            meshos_types::role::check_role(&role.name)
                .map_err(|e| Error::Invalid { field: "roles.name", reason: e.to_string() })?;
            role.format = FORMAT;
            let key = role_key(&role.name);
            txn = if role.weight.is_none() && role.quota.is_none() {
                txn.delete(key)
            } else {
                txn.put(key, encode(&role))
            };
        }
        match self.store.txn(txn).await.map_err(Error::from)? {
            TxnOutcome::Committed(_) => Ok(Response::new(PutRolesResponse {})),
            TxnOutcome::Refused => Err(Error::Fenced { epoch }.into()),
        }
    }

    async fn list_roles(&self, _: Request<ListRolesRequest>) -> Result<Response<ListRolesResponse>, Status> {
        let listing = self.store.list(ROLES).await.map_err(Error::from)?;
        let roles = listing.items.iter().filter_map(read_role).collect();
        Ok(Response::new(ListRolesResponse { roles }))
    }
}

/// The frameworks after that of an id, as many as fit into one answer. One that cannot be read never ends a page: the
/// next page begins after the last that is shown.
fn page(records: &[KeyValue], after: &str) -> ListFrameworksResponse {
    let after = framework_key(after);
    let mut page = ListFrameworksResponse::default();
    let mut bytes = 0;
    for record in records.iter().filter(|record| record.key > after) {
        if bytes >= PAGE {
            page.more = true;
            break;
        }
        if let Some(framework) = read_framework(record) {
            bytes += record.value.len();
            page.frameworks.push(framework);
        }
    }
    page
}

fn missing(field: &'static str) -> Error {
    Error::Invalid { field, reason: "missing".to_owned() }
}
