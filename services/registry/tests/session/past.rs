//! Agents that are no part of the cluster any more: declared gone, forgotten.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use meshos_mesh::connect;
use meshos_proto::meshos::registry::v1::{
    Agent, AgentState, MarkAgentGoneRequest, registry_operator_client::RegistryOperatorClient,
    session_response::Body,
};
use meshos_registry::{Rate, RegistryArgs};
use meshos_store::Embedded;
use prost::Message;
use tokio::time::{Instant, sleep, timeout};
use tonic::Code;

use crate::support::{Cluster, SOON, Session, cluster, cluster_with, sees};

async fn mark_gone(cluster: &Cluster, id: &str) -> Result<(), Code> {
    let mut client = RegistryOperatorClient::new(connect(&cluster.env, "registry"));
    let asked = client.mark_agent_gone(MarkAgentGoneRequest { agent_id: id.to_owned() }).await;
    asked.map(drop).map_err(|status| status.code())
}

/// The reason for which the session ended.
async fn refused(session: &mut Session) -> String {
    loop {
        match session.next().await {
            Body::Refused(refused) => return refused.reason,
            Body::Ping(_) => {}
            other => panic!("not refused: {other:?}"),
        }
    }
}

#[tokio::test]
async fn an_agent_that_is_marked_gone_is_told_so_and_never_comes_back() {
    let mut cluster = cluster(Duration::from_secs(15)).await;
    let mut session = Session::open(&mut cluster.client, None).await;
    let id = session.registered().await.agent_id.unwrap().value;
    assert_eq!(mark_gone(&cluster, "nobody").await, Err(Code::NotFound));
    assert_eq!(mark_gone(&cluster, "../x").await, Err(Code::NotFound));
    assert_eq!(mark_gone(&cluster, &id).await, Ok(()));
    assert_eq!(refused(&mut session).await, "Agent has been marked gone");
    assert!(timeout(SOON, session.responses.message()).await.unwrap().unwrap().is_none());
    let agent = sees(&mut cluster.client, &id, AgentState::Gone).await;
    assert!(agent.gone_at_ms > 0);

    let mut again = Session::open(&mut cluster.client, Some(&id)).await;
    assert_eq!(refused(&mut again).await, "Agent has been marked gone");
    assert_eq!(mark_gone(&cluster, &id).await, Ok(()), "a second time changes nothing");
    assert_eq!(sees(&mut cluster.client, &id, AgentState::Gone).await, agent);
    cluster.env.tasks.shutdown(SOON).await;
}

#[tokio::test(start_paused = true)]
async fn agents_of_the_past_are_forgotten_after_their_time() {
    let args = RegistryArgs {
        registry_gc_interval: Duration::from_secs(60),
        // Of the wall clock, which stands still here.
        registry_max_agent_count: 0,
        ..RegistryArgs::default()
    };
    let store = Arc::new(Embedded::in_memory());
    let mut cluster = cluster_with(store, Duration::from_secs(5), Duration::from_secs(5), args).await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let mut session = Session::open(&mut cluster.client, None).await;
        ids.push(session.registered().await.agent_id.unwrap().value);
    }
    for id in &ids {
        sees(&mut cluster.client, id, AgentState::Unreachable).await;
    }
    let forgotten = async {
        while !cluster.store.list("registry/agents/").await.unwrap().items.is_empty() {
            sleep(Duration::from_secs(1)).await;
        }
    };
    timeout(Duration::from_secs(600), forgotten).await.expect("they are forgotten");
    assert_eq!(mark_gone(&cluster, &ids[0]).await, Err(Code::NotFound), "nobody knows it any more");
    cluster.env.tasks.shutdown(SOON).await;
}

#[tokio::test(start_paused = true)]
async fn agents_become_unreachable_no_faster_than_the_limit() {
    let rate = Rate { permits: NonZeroU32::MIN, per: Duration::from_secs(600) };
    let args = RegistryArgs { agent_removal_rate_limit: Some(rate), ..RegistryArgs::default() };
    let store = Arc::new(Embedded::in_memory());
    let mut cluster = cluster_with(store, Duration::from_secs(5), Duration::from_secs(5), args).await;
    let began = Instant::now();
    let mut sessions = Vec::new();
    for _ in 0..2 {
        let mut session = Session::open(&mut cluster.client, None).await;
        let id = session.registered().await.agent_id.unwrap().value;
        sessions.push((id, session));
    }
    // One breaks off, one falls silent: both wait for the same permits.
    let (broken, session) = sessions.remove(0);
    drop(session);
    let (silent, _held) = sessions.remove(0);
    let mut unreachable = Vec::new();
    while unreachable.len() < 2 {
        assert!(began.elapsed() < Duration::from_secs(3600), "{unreachable:?}");
        sleep(Duration::from_secs(1)).await;
        for id in [&broken, &silent] {
            let record = cluster.store.get(&format!("registry/agents/{id}")).await.unwrap().unwrap();
            let agent = Agent::decode(record.value).unwrap();
            if agent.state() == AgentState::Unreachable && !unreachable.iter().any(|(of, _)| of == id) {
                unreachable.push((id.clone(), began.elapsed()));
            }
        }
    }
    let apart = unreachable[1].1.abs_diff(unreachable[0].1);
    assert!(apart >= Duration::from_secs(590), "{unreachable:?}");
    cluster.env.tasks.shutdown(SOON).await;
}
