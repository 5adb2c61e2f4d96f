//! Tasks over the link to the allocator, with simulated containers.

use meshos_proto::{
    meshos::{
        agent::v1::{WatchRequest, agent_client::AgentClient, watch_response},
        allocator::v1::{ApplyOperation, Kill, allocator_message::Body},
    },
    mesos::v1::{self as pb, TaskState},
};
use tokio::time::timeout;

use crate::fakes::*;

#[tokio::test]
async fn a_task_runs_from_launch_to_end() {
    let mut cluster = Cluster::new(None).await;
    let agent = cluster.agent().await;
    let register = timeout(PATIENCE, cluster.registrations.recv()).await.unwrap().unwrap();
    assert_eq!(register.endpoint, agent.http_address().unwrap().to_string());
    assert!(register.agent.unwrap().id.is_none());
    let mut link = cluster.link().await;
    agent.linked().await;
    assert_eq!(agent.agent_id().unwrap().as_str(), AGENT);
    let info = link.reregister.agent.clone().unwrap();
    assert_eq!(info.domain.unwrap().fault_domain.unwrap().region.name, "r");
    assert_eq!((info.id.unwrap().value.as_str(), info.attributes[0].name.as_str()), (AGENT, "rack"));
    assert_eq!(link.reregister.capabilities.len(), 6);

    link.launch(vec![task("t", "sleep 0.2; exit 3")]).await;
    let states = link.until(TaskState::TaskFailed).await;
    assert_eq!(states, [TaskState::TaskStarting, TaskState::TaskRunning, TaskState::TaskFailed]);
    agent.shutdown(false).await;
    cluster.end().await;
}

#[tokio::test]
async fn a_restart_keeps_the_id_and_the_tasks() {
    let mut cluster = Cluster::new(None).await;
    let agent = cluster.agent().await;
    let mut link = cluster.link().await;
    link.launch(vec![task("stays", "sleep forever"), task("goes", "sleep forever")]).await;
    link.until(TaskState::TaskRunning).await;
    link.until(TaskState::TaskRunning).await;
    let running = cluster.containers.running();
    agent.shutdown(true).await;
    assert_eq!(cluster.containers.running(), running, "tasks run on");
    let goes = running.iter().find(|(_, spec)| spec.sandbox.to_string_lossy().contains("goes")).unwrap().0;
    cluster.containers.end(goes, meshos_agent::containerizer::ExitStatus::Code(4));

    let agent = cluster.agent().await;
    assert_eq!(agent.agent_id().unwrap().as_str(), AGENT, "known before it registers");
    let mut link = cluster.link().await;
    let tasks: Vec<_> =
        link.reregister.tasks.iter().map(|task| (task.task_id.value.as_str(), task.state())).collect();
    assert_eq!(tasks, [("goes", TaskState::TaskFailed), ("stays", TaskState::TaskRunning)]);
    // At least once: acknowledgements that the last agent did not see are asked for again.
    let mut status = link.update().await.status.unwrap();
    while status.state() != TaskState::TaskFailed {
        link.acknowledge(&status).await;
        status = link.update().await.status.unwrap();
    }
    assert_eq!((status.task_id.value.as_str(), status.message()), ("goes", "Command exited with status 4"));
    assert_eq!(cluster.containers.launches(), 2, "nothing was started again");
    agent.shutdown(false).await;
    assert!(cluster.containers.running().is_empty());
    cluster.end().await;
}

#[tokio::test]
async fn updates_survive_a_break_of_the_link() {
    let mut cluster = Cluster::new(None).await;
    let agent = cluster.agent().await;
    let mut link = cluster.link().await;
    link.launch(vec![task("t", "sleep forever")]).await;
    assert_eq!(link.update().await.status.unwrap().state(), TaskState::TaskStarting);
    drop(link);
    let mut link = cluster.link().await;
    assert_eq!(link.reregister.tasks.len(), 1);
    let states = link.until(TaskState::TaskRunning).await;
    assert_eq!(
        states,
        [TaskState::TaskStarting, TaskState::TaskRunning],
        "the unacknowledged one comes again"
    );
    let kill = Kill {
        framework_id: Some(framework_id()),
        task_id: Some(pb::TaskId { value: "t".to_owned() }),
        kill_policy: None,
    };
    link.command(Body::Kill(kill)).await;
    assert_eq!(link.until(TaskState::TaskKilled).await, [TaskState::TaskKilled]);
    agent.shutdown(false).await;
    cluster.end().await;
}

#[tokio::test]
async fn readers_see_tasks_over_http_and_grpc() {
    let mut cluster = Cluster::new(None).await;
    let agent = cluster.agent().await;
    let mut link = cluster.link().await;
    let mut client = AgentClient::new(meshos_mesh::connect(&cluster.env, agent.grpc_address().unwrap()));
    let mut watch = client.watch(WatchRequest {}).await.unwrap().into_inner();
    let first = watch.message().await.unwrap().unwrap();
    assert!(
        matches!(first.body, Some(watch_response::Body::Snapshot(snapshot)) if snapshot.tasks.is_empty())
    );
    link.launch(vec![task("t", "sleep forever")]).await;
    link.until(TaskState::TaskRunning).await;
    let delta = timeout(PATIENCE, watch.message()).await.unwrap().unwrap().unwrap();
    assert!(
        matches!(delta.body, Some(watch_response::Body::Delta(delta)) if delta.changed[0].task_id.value == "t")
    );

    for prefix in ["", "/slave(1)", "/slave%281%29"] {
        let state = get_json(&agent, &format!("{prefix}/state")).await;
        assert_eq!((&state["id"], &state["resources"]["cpus"]), (&AGENT.into(), &4.0.into()));
        let executor = &state["frameworks"][0]["executors"][0];
        assert_eq!((&executor["id"], &executor["tasks"][0]["state"]), (&"t".into(), &"TASK_RUNNING".into()));
        let directory = executor["directory"].as_str().unwrap();
        assert!(directory.contains("/slaves/m-S0/frameworks/f-0000/executors/t/runs/"), "{directory}");
    }
    let metrics = get_json(&agent, "/metrics/snapshot").await;
    assert_eq!((&metrics["slave/tasks_running"], &metrics["slave/registered"]), (&1.0.into(), &1.0.into()));
    assert_eq!(get_json(&agent, "/containers").await[0]["executor_id"], "t");
    assert_eq!(get_json(&agent, "/containers?framework_id=other").await, serde_json::json!([]));
    assert_eq!(get(&agent, "/containers?executor_id=t").await.0, 400);
    assert_eq!(get_json(&agent, "/monitor/statistics").await[0]["framework_id"], "f-0000");
    assert_eq!(get_json(&agent, "/version").await["version"], "1.12.0");
    assert_eq!(get_json(&agent, "/flags").await["flags"]["port"], "0");
    let debug = get_json(&agent, "/files/debug").await;
    assert!(debug.get("/frameworks/f-0000/executors/t/runs/latest").is_some(), "{debug}");
    assert_eq!(get(&agent, "/health").await, (200, String::new()));
    assert!(get(&agent, "/version?jsonp=f").await.1.starts_with("f({"));
    assert_eq!(get(&agent, "/nosuch").await, (404, "404 Not Found.".to_owned()));
    agent.shutdown(false).await;
    cluster.end().await;
}

#[tokio::test]
async fn a_refused_agent_ends_its_tasks_and_says_why() {
    let cluster = Cluster::new(Some("Agent has been marked gone")).await;
    let agent = cluster.agent().await;
    assert_eq!(timeout(PATIENCE, agent.refused()).await.unwrap(), "Agent has been marked gone");
    agent.shutdown(false).await;
    cluster.end().await;
}

#[tokio::test]
async fn a_volume_is_made_outlives_the_agent_and_is_removed() {
    let mut cluster = Cluster::new(None).await;
    let agent = cluster.agent().await;
    let mut link = cluster.link().await;
    let disk = |volume: Option<pb::resource::DiskInfo>, reserved: bool| pb::Resource {
        name: "disk".to_owned(),
        r#type: pb::value::Type::Scalar.into(),
        scalar: Some(pb::value::Scalar { value: 100.0 }),
        reservations: reserved
            .then(|| pb::resource::ReservationInfo {
                r#type: Some(pb::resource::reservation_info::Type::Dynamic.into()),
                role: Some("eng/web".to_owned()),
                ..Default::default()
            })
            .into_iter()
            .collect(),
        disk: volume.map(Box::new),
        ..pb::Resource::default()
    };
    let volume = pb::resource::DiskInfo {
        persistence: Some(pb::resource::disk_info::Persistence { id: "v1".to_owned(), principal: None }),
        volume: Some(pb::Volume { container_path: "data".to_owned(), ..pb::Volume::default() }),
        ..Default::default()
    };
    let apply = |uuid: u8, consumed: pb::Resource, produced: pb::Resource| {
        let (uuid, consumed, produced) = (vec![uuid; 16].into(), vec![consumed], vec![produced]);
        Body::ApplyOperation(Box::new(ApplyOperation { uuid, consumed, produced, ..Default::default() }))
    };
    link.command(apply(1, disk(None, false), disk(None, true))).await;
    link.command(apply(2, disk(None, true), disk(Some(volume.clone()), true))).await;
    for uuid in [1, 2] {
        let update = link.operation_update().await;
        assert_eq!(update.uuid.as_ref(), [uuid; 16]);
        assert_eq!(update.status.unwrap().state(), pb::OperationState::OperationFinished);
    }
    let directory = cluster.dir.path().join("volumes/roles/eng web/v1");
    std::fs::write(directory.join("file"), "kept").unwrap();
    agent.shutdown(false).await;

    let agent = cluster.agent().await;
    let mut link = cluster.link().await;
    let held = |resource: &&pb::Resource| {
        resource.disk.as_ref().is_some_and(|disk| disk.persistence.as_ref().is_some_and(|p| p.id == "v1"))
    };
    assert_eq!(link.reregister.total.iter().filter(held).count(), 1);
    assert_eq!(std::fs::read_to_string(directory.join("file")).unwrap(), "kept");
    link.command(apply(3, disk(Some(volume), true), disk(None, true))).await;
    assert_eq!(link.operation_update().await.uuid.as_ref(), [3; 16]);
    assert!(!directory.exists());
    agent.shutdown(false).await;
    cluster.end().await;
}
