//! Agents' sessions over the in-memory transport.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod past;
mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use meshos_proto::{
    meshos::registry::v1::{
        Agent, AgentState, Framework, ListFrameworksRequest, ListRolesRequest, PutFrameworkRequest,
        PutRolesRequest, Role, SessionRequest, Unregister, WatchRequest, session_request, session_response,
    },
    mesos::v1::{FrameworkId, FrameworkInfo},
};
use meshos_store::{
    Embedded, Error as StoreError, KeyValue, LeaseId, Listing, Op, Revision, Store, Txn, TxnOutcome, Watcher,
};
use prost::Message;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use support::{SOON, Session, cluster, cluster_on, sees};

#[tokio::test]
async fn an_agent_is_admitted_breaks_off_and_returns_under_its_id() {
    let mut cluster = cluster(Duration::from_secs(15)).await;
    let mut session = Session::open(&mut cluster.client, None).await;
    let id = session.registered().await.agent_id.unwrap().value;
    assert!(id.ends_with("-S0"), "{id}");
    sees(&mut cluster.client, &id, AgentState::Connected).await;

    drop(session);
    sees(&mut cluster.client, &id, AgentState::Disconnected).await;

    let mut session = Session::open(&mut cluster.client, Some(&id)).await;
    assert_eq!(session.registered().await.agent_id.unwrap().value, id);
    let agent = sees(&mut cluster.client, &id, AgentState::Connected).await;
    assert_eq!(agent.session, 2);

    session
        .requests
        .send(SessionRequest { body: Some(session_request::Body::Unregister(Unregister {})) })
        .await
        .unwrap();
    sees(&mut cluster.client, &id, AgentState::Removed).await;
    cluster.env.tasks.shutdown(SOON).await;
}

#[tokio::test]
async fn a_silent_agent_becomes_unreachable_while_its_stream_is_open() {
    let mut cluster = cluster(Duration::from_millis(50)).await;
    let mut session = Session::open(&mut cluster.client, None).await;
    let id = session.registered().await.agent_id.unwrap().value;
    // It reads its pings and answers none.
    let agent = sees(&mut cluster.client, &id, AgentState::Unreachable).await;
    assert!(agent.unreachable_at_ms > 0);
    assert!(matches!(session.next().await, session_response::Body::Ping(_)));
    cluster.env.tasks.shutdown(SOON).await;
}

#[tokio::test]
async fn an_agent_that_broke_off_becomes_unreachable_after_the_ping_timeout() {
    let mut cluster = cluster(Duration::from_millis(100)).await;
    let mut session = Session::open(&mut cluster.client, None).await;
    let id = session.registered().await.agent_id.unwrap().value;
    drop(session);
    sees(&mut cluster.client, &id, AgentState::Unreachable).await;
    cluster.env.tasks.shutdown(SOON).await;
}

#[tokio::test]
async fn a_session_ends_when_another_replica_declared_its_agent_unreachable() {
    let mut cluster = cluster(Duration::from_secs(15)).await;
    let mut session = Session::open(&mut cluster.client, None).await;
    let id = session.registered().await.agent_id.unwrap().value;
    let record = sees(&mut cluster.client, &id, AgentState::Connected).await;
    let judged = Agent { state: AgentState::Unreachable.into(), ..record };
    let judgement = Txn::new().op(Op::put(format!("registry/agents/{id}"), judged.encode_to_vec()));
    cluster.store.txn(judgement).await.unwrap();
    while timeout(SOON, session.responses.message()).await.unwrap().unwrap().is_some() {}

    // The agent notices, comes back, and all is well.
    let mut session = Session::open(&mut cluster.client, Some(&id)).await;
    session.registered().await;
    sees(&mut cluster.client, &id, AgentState::Connected).await;
    cluster.env.tasks.shutdown(SOON).await;
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_loses_the_store_sends_everybody_away_until_it_is_back() {
    let store = Arc::new(Switch { inner: Embedded::in_memory(), off: AtomicBool::new(false) });
    let mut cluster = cluster_on(store.clone(), Duration::from_secs(2), Duration::from_secs(10)).await;
    let mut session = Session::open(&mut cluster.client, None).await;
    let id = session.registered().await.agent_id.unwrap().value;
    let mut changes = cluster.client.watch(WatchRequest {}).await.unwrap().into_inner();

    let since = tokio::time::Instant::now();
    store.off.store(true, Ordering::Relaxed);
    while timeout(SOON, session.responses.message()).await.unwrap().unwrap().is_some() {}
    assert!(since.elapsed() < Duration::from_secs(20), "before others judge its agents");
    while timeout(SOON, changes.message()).await.unwrap().unwrap().is_some() {}
    let status = cluster.client.watch(WatchRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    let (_silent, receiver) = mpsc::channel(1);
    let status = cluster.client.session(ReceiverStream::new(receiver)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");

    store.off.store(false, Ordering::Relaxed);
    while cluster.client.watch(WatchRequest {}).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut session = Session::open(&mut cluster.client, Some(&id)).await;
    session.registered().await;
    sees(&mut cluster.client, &id, AgentState::Connected).await;
    cluster.env.tasks.shutdown(SOON).await;
}

/// A store that can be switched off; watches go on, as they do when a connection is silent.
#[derive(Debug)]
struct Switch {
    inner: Embedded,
    off: AtomicBool,
}

impl Switch {
    fn check(&self, call: &'static str) -> meshos_store::Result<()> {
        match self.off.load(Ordering::Relaxed) {
            true => Err(StoreError::Unavailable { call, why: "switched off".into(), outcome_unknown: false }),
            false => Ok(()),
        }
    }
}

#[tonic::async_trait]
impl Store for Switch {
    async fn get(&self, key: &str) -> meshos_store::Result<Option<KeyValue>> {
        self.check("get")?;
        self.inner.get(key).await
    }

    async fn list(&self, prefix: &str) -> meshos_store::Result<Listing> {
        self.check("list")?;
        self.inner.list(prefix).await
    }

    async fn txn(&self, txn: Txn) -> meshos_store::Result<TxnOutcome> {
        self.check("txn")?;
        self.inner.txn(txn).await
    }

    async fn watch(&self, prefix: &str, from: Revision) -> meshos_store::Result<Watcher> {
        self.inner.watch(prefix, from).await
    }

    async fn grant(&self, ttl: Duration) -> meshos_store::Result<LeaseId> {
        self.check("grant")?;
        self.inner.grant(ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> meshos_store::Result<()> {
        self.check("keep_alive")?;
        self.inner.keep_alive(lease).await
    }

    async fn revoke(&self, lease: LeaseId) -> meshos_store::Result<()> {
        self.check("revoke")?;
        self.inner.revoke(lease).await
    }

    async fn compact(&self, revision: Revision) -> meshos_store::Result<()> {
        self.inner.compact(revision).await
    }
}

#[tokio::test]
async fn a_bad_registration_is_refused_by_field_and_leaves_no_record() {
    let mut cluster = cluster(Duration::from_secs(15)).await;
    let mut session = Session::open(&mut cluster.client, Some("../x")).await;
    let status = timeout(SOON, session.responses.message()).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().starts_with("agent.id"), "{status}");
    assert_eq!(cluster.store.list("registry/agents/").await.unwrap().items, []);
    cluster.env.tasks.shutdown(SOON).await;
}

#[tokio::test]
async fn a_framework_record_is_written_by_the_leading_allocator_alone() {
    let mut cluster = cluster(Duration::from_secs(15)).await;
    let leader = Txn::new().op(Op::put("leaders/allocator", "leader"));
    cluster.store.txn(leader).await.unwrap();
    let epoch = cluster.store.get("leaders/allocator").await.unwrap().unwrap().create_revision;
    let info = FrameworkInfo { id: Some(FrameworkId { value: "f-0000".into() }), ..FrameworkInfo::default() };
    let framework = Framework { info: Some(info), ..Framework::default() };

    let stale = PutFrameworkRequest { epoch: epoch - 1, framework: Some(framework.clone()) };
    let status = cluster.client.put_framework(stale).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    let current = PutFrameworkRequest { epoch, framework: Some(framework) };
    cluster.client.put_framework(current).await.unwrap();

    let listed = cluster
        .client
        .list_frameworks(ListFrameworksRequest::default())
        .await
        .unwrap()
        .into_inner()
        .frameworks;
    assert_eq!(listed.len(), 1);
    cluster.env.tasks.shutdown(SOON).await;
}

#[tokio::test]
async fn role_settings_are_written_together_by_the_leading_allocator_alone() {
    let mut cluster = cluster(Duration::from_secs(15)).await;
    let leader = Txn::new().op(Op::put("leaders/allocator", "leader"));
    cluster.store.txn(leader).await.unwrap();
    let epoch = cluster.store.get("leaders/allocator").await.unwrap().unwrap().create_revision;
    let role = |name: &str, weight| Role { name: name.into(), weight, ..Role::default() };
    let roles = vec![role("a", Some(2.0)), role("a/b", Some(3.0))];

    let stale = PutRolesRequest { epoch: epoch - 1, roles: roles.clone() };
    assert_eq!(cluster.client.put_roles(stale).await.unwrap_err().code(), Code::FailedPrecondition);
    let bad = PutRolesRequest { epoch, roles: vec![role("a", Some(9.0)), role("-", Some(1.0))] };
    assert_eq!(cluster.client.put_roles(bad).await.unwrap_err().code(), Code::InvalidArgument);
    cluster.client.put_roles(PutRolesRequest { epoch, roles }).await.unwrap();

    let listed = cluster.client.list_roles(ListRolesRequest {}).await.unwrap().into_inner().roles;
    let weights: Vec<_> = listed.iter().map(|role| (role.name.as_str(), role.weight)).collect();
    assert_eq!(weights, [("a", Some(2.0)), ("a/b", Some(3.0))]);
    let removed = PutRolesRequest { epoch, roles: vec![role("a", None)] };
    cluster.client.put_roles(removed).await.unwrap();
    let listed = cluster.client.list_roles(ListRolesRequest {}).await.unwrap().into_inner().roles;
    assert_eq!(listed.len(), 1);
    cluster.env.tasks.shutdown(SOON).await;
}
