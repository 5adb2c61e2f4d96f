//! The whole service over an in-memory network: frameworks and agents driven by hand, a small stand-in for the
//! registry.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod calls;
mod support;

use bytes::Bytes;
use meshos_mesh::Calls;
use meshos_proto::{
    meshos::{
        allocator::v1::{
            ApplyRequest, ExplainRequest, MetricsRequest, StatusUpdate, TeardownRequest, UpdateQuotaRequest,
            UpdateWeightsRequest, WatchRequest, agent_message::Body as FromAgent, allocator_message::Body,
            change, explain_request, watch_response,
        },
        registry::v1::AgentState,
    },
    mesos::v1::{
        self as pb, TaskState,
        scheduler::{call, event},
    },
};
use tonic::Code;

use support::{Agent, Cluster, Framework, report, task};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_subscribe_to_acknowledgement() {
    let cluster = Cluster::start(1).await;
    cluster.registry.show("s1", AgentState::Connected);
    let mut agent = Agent::link(&cluster, report("s1", Vec::new())).await;
    assert!(matches!(agent.command().await, Body::Accepted(_)));
    let mut framework = Framework::subscribe(&cluster, None).await;
    let offer = framework.offer().await;
    assert_eq!(offer.agent_id.value, "s1");

    framework.accept(&offer, task("t1", "s1")).await.unwrap();
    let Body::Launch(launch) = agent.command().await else { panic!("no launch") };
    assert_eq!(launch.tasks[0].task_id.value, "t1");
    assert_eq!(launch.framework.unwrap().id.unwrap().value, framework.id);

    let status = support::status("t1", "s1", TaskState::TaskRunning);
    agent.send(FromAgent::Update(StatusUpdate {
        framework_id: Some(pb::FrameworkId { value: framework.id.clone() }),
        status: Some(status.clone()),
        latest_state: TaskState::TaskRunning.into(),
        traceparent: String::new(),
    }));
    let update = framework.event(event::Type::Update).await.update.unwrap();
    assert_eq!(update.status, status);

    let acknowledge = call::Acknowledge {
        agent_id: pb::AgentId { value: "s1".to_owned() },
        task_id: status.task_id,
        uuid: status.uuid.unwrap(),
    };
    framework.call(call::Type::Acknowledge, |call| call.acknowledge = Some(acknowledge)).await.unwrap();
    let Body::Acknowledge(acknowledge) = agent.command().await else { panic!("no acknowledgement") };
    assert_eq!(acknowledge.uuid.as_ref(), [7; 16]);
    assert!(agent.highest_epoch > 0);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_waits_until_the_registry_shows_its_agent() {
    let cluster = Cluster::start(1).await;
    let mut agent = Agent::link(&cluster, report("s1", Vec::new())).await;
    cluster.registry.show("s1", AgentState::Connected);
    assert!(matches!(agent.command().await, Body::Accepted(_)));
    cluster.registry.show("s1", AgentState::Gone);
    assert!(agent.try_command().await.is_none(), "the link of an agent that is gone ends");
    let mut again = Agent::link(&cluster, report("s1", Vec::new())).await;
    assert!(matches!(again.command().await, Body::Refused(_)));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_is_durable_before_it_is_answered() {
    let cluster = Cluster::start(1).await;
    let mut framework = Framework::subscribe(&cluster, None).await;
    let mut operator = cluster.operator().await;
    let id = Some(pb::FrameworkId { value: framework.id.clone() });
    operator.teardown(TeardownRequest { framework_id: id.clone() }).await.unwrap();
    assert!(cluster.registry.framework(&framework.id).unwrap().removed);
    assert!(framework.ended().await);
    let unknown = operator.teardown(TeardownRequest { framework_id: id }).await.unwrap_err();
    assert_eq!(
        (unknown.code(), unknown.message()),
        (Code::InvalidArgument, "No framework found with specified ID")
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_stream_disconnects_the_framework_and_calls_are_refused() {
    let cluster = Cluster::start(1).await;
    let framework = Framework::subscribe(&cluster, None).await;
    let wrong = framework.call_on("nonsense", call::Type::Revive).await.unwrap_err();
    assert_eq!(wrong.code(), Code::InvalidArgument);
    assert!(wrong.message().starts_with("The stream ID 'nonsense' included in this request didn't match"));
    let (id, stream) = (framework.id.clone(), framework.stream.clone());
    let caller = framework.caller();
    drop(framework);
    cluster.registry.wait(|registry| registry.framework(&id).is_some_and(|f| f.disconnected_at_ms > 0)).await;
    let away = support::call_with(&caller, &id, &stream, call::Type::Revive).await.unwrap_err();
    assert_eq!((away.code(), away.message()), (Code::PermissionDenied, "Framework is not subscribed"));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_get_a_snapshot_and_then_changes() {
    let cluster = Cluster::start(1).await;
    cluster.registry.show("s1", AgentState::Connected);
    let framework = Framework::subscribe(&cluster, None).await;
    let mut changes = cluster.operator().await.watch(WatchRequest {}).await.unwrap().into_inner();
    let first = changes.message().await.unwrap().unwrap();
    let Some(watch_response::Body::Snapshot(snapshot)) = first.body else { panic!("no snapshot") };
    assert_eq!(snapshot.frameworks[0].info.as_ref().unwrap().id.as_ref().unwrap().value, framework.id);
    let _agent = Agent::link(&cluster, report("s1", Vec::new())).await;
    let mut revision = first.revision;
    loop {
        let next = changes.message().await.unwrap().unwrap();
        assert_eq!((next.epoch, next.revision), (first.epoch, revision + 1));
        revision = next.revision;
        let Some(watch_response::Body::Delta(delta)) = next.body else { panic!("a second snapshot") };
        let offered = |change: &meshos_proto::meshos::allocator::v1::Change| matches!(&change.body, Some(change::Body::Offer(offer)) if offer.framework_id.value == framework.id);
        if delta.changes.iter().any(offered) {
            break;
        }
    }
    assert!(cluster.leader().await.metrics().await["master/outstanding_offers"] >= 1.0);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_takes_over_and_tasks_and_ids_survive() {
    let mut cluster = Cluster::start(2).await;
    cluster.registry.show("s1", AgentState::Connected);
    let standby = cluster.standby_address().await;
    let calls = Calls::open(&cluster.env, meshos_mesh::connect(&cluster.env, &standby));
    let refused = calls.call("", Bytes::new(), String::new()).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::Unavailable, "not leading"));

    let mut agent = Agent::link(&cluster, report("s1", Vec::new())).await;
    agent.command().await;
    let mut framework = Framework::subscribe(&cluster, None).await;
    let offer = framework.offer().await;
    framework.accept(&offer, task("t1", "s1")).await.unwrap();
    let Body::Launch(launch) = agent.command().await else { panic!("no launch") };
    let id = framework.id.clone();
    cluster.registry.wait(|registry| registry.framework(&id).is_some()).await;

    cluster.kill_leader().await;
    assert!(framework.ended().await && agent.try_command().await.is_none());
    let running = pb::Task {
        name: "t1".to_owned(),
        task_id: launch.tasks[0].task_id.clone(),
        framework_id: pb::FrameworkId { value: id.clone() },
        agent_id: pb::AgentId { value: "s1".to_owned() },
        state: TaskState::TaskRunning.into(),
        resources: launch.tasks[0].resources.clone(),
        ..pb::Task::default()
    };
    let mut again = report("s1", vec![running]);
    again.frameworks = launch.framework.into_iter().collect();
    let epoch = agent.highest_epoch;
    let mut agent = Agent::link(&cluster, again).await;
    agent.command().await;
    assert!(agent.highest_epoch > epoch, "the new leader's epoch is higher");
    let mut framework = Framework::subscribe(&cluster, Some(&id)).await;
    assert_eq!(framework.id, id);
    framework
        .call(call::Type::Reconcile, |call| call.reconcile = Some(call::Reconcile::default()))
        .await
        .unwrap();
    let status = framework.event(event::Type::Update).await.update.unwrap().status;
    assert_eq!((status.task_id.value.as_str(), status.state()), ("t1", TaskState::TaskRunning));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_framework_that_does_not_read_is_cut_off_and_holds_up_nobody() {
    let cluster = Cluster::start(1).await;
    let deaf = Framework::subscribe(&cluster, None).await;
    let task_id = pb::TaskId { value: "x".repeat(4096) };
    let reconcile = call::Reconcile { tasks: vec![call::reconcile::Task { task_id, agent_id: None }] };
    let mut refused = None;
    for _ in 0..20_000 {
        let reconcile = reconcile.clone();
        let answer = deaf.call(call::Type::Reconcile, |call| call.reconcile = Some(reconcile)).await;
        if let Err(status) = answer {
            refused = Some(status);
            break;
        }
    }
    assert_eq!(refused.unwrap().message(), "Framework is not subscribed");
    Framework::subscribe(&cluster, None).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weights_and_quotas_are_durable_before_they_are_answered_and_survive_a_change_of_leader() {
    let mut cluster = Cluster::start(2).await;
    let mut operator = cluster.operator().await;
    let weights = vec![pb::WeightInfo { weight: 2.5, role: Some("eng".to_owned()) }];
    operator.update_weights(UpdateWeightsRequest { weights }).await.unwrap();
    let limits = [("cpus".to_owned(), pb::value::Scalar { value: 3.0 })].into();
    let config = pb::quota::QuotaConfig { role: "eng".to_owned(), limits, ..Default::default() };
    let configs = vec![config.clone()];
    operator.update_quota(UpdateQuotaRequest { configs, ..Default::default() }).await.unwrap();
    let stored = cluster.registry.role("eng").unwrap();
    assert_eq!((stored.weight, stored.quota.as_ref()), (Some(2.5), Some(&config)));
    let too_many = vec![pb::WeightInfo { weight: 1.0, role: Some("a".to_owned()) }; 101];
    let refused = operator.update_weights(UpdateWeightsRequest { weights: too_many }).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let nested = pb::quota::QuotaConfig { role: "eng/web".to_owned(), ..Default::default() };
    let update = UpdateQuotaRequest { configs: vec![nested], ..Default::default() };
    assert_eq!(operator.update_quota(update).await.unwrap_err().code(), Code::InvalidArgument);

    cluster.kill_leader().await;
    let mut operator = cluster.operator().await;
    let mut changes = operator.watch(WatchRequest {}).await.unwrap().into_inner();
    let Some(watch_response::Body::Snapshot(snapshot)) = changes.message().await.unwrap().unwrap().body
    else {
        panic!("no snapshot")
    };
    assert_eq!(snapshot.roles[0].weight, Some(2.5));
    assert_eq!(snapshot.roles[0].quota.as_ref(), Some(&config));
    let metrics = operator.metrics(MetricsRequest {}).await.unwrap().into_inner().values;
    assert_eq!(metrics["master/elected"], 1.0);
    assert_eq!(metrics["allocator/mesos/quota/roles/eng/resources/cpus/limit"], 3.0);
    let nobody = Some(explain_request::Subject::FrameworkId("nobody".to_owned()));
    let unknown = operator.explain(ExplainRequest { subject: nobody }).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    let unknown = Box::pin(operator.apply(ApplyRequest::default())).await.unwrap_err();
    assert_eq!(
        (unknown.code(), unknown.message()),
        (Code::InvalidArgument, "No agent found with specified ID")
    );
    cluster.stop().await;
}
