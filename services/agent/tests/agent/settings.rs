//! What may change from one agent process to the next, and while one runs; and what is done before a task starts.

use std::{sync::Arc, time::Duration};

use meshos_agent::{Config, config::ReconfigurationPolicy, containerizer::ProbeOutcome, start};
use meshos_proto::mesos::v1::{self as pb, TaskState, task_status::Reason};
use tokio::time::timeout;

use super::fakes::{Cluster, PATIENCE, framework_id, task};

fn sized(id: &str, cpus: f64) -> pb::TaskInfo {
    let scalar = Some(pb::value::Scalar { value: cpus });
    let resource = pb::Resource { name: "cpus".to_owned(), scalar, ..pb::Resource::default() };
    pb::TaskInfo { resources: vec![resource], ..task(id, "sleep forever") }
}

fn cpus(resources: &[pb::Resource]) -> f64 {
    resources.iter().find(|resource| resource.name == "cpus").unwrap().scalar.unwrap().value
}

#[tokio::test]
async fn mesos_c79_a_restart_with_less_is_refused_under_the_policies_of_mesos() {
    let mut cluster = Cluster::new(None).await;
    let config = |resources: &str, policy| Config {
        resources: Some(resources.to_owned()),
        reconfiguration_policy: policy,
        ..cluster.config()
    };
    let all = "cpus:4;mem:1024;disk:1000;ports:[31000-31005]";
    let (few, many) = (all.replace("cpus:4", "cpus:3"), all.replace("cpus:4", "cpus:5"));
    use ReconfigurationPolicy::{Additive, Any, Equal};
    let (configs, sim) = (
        [
            (&few, Equal, false),
            (&few, Additive, false),
            (&many, Equal, false),
            (&many, Additive, true),
            (&few, Any, true),
        ]
        .map(|(resources, policy, starts)| (config(resources, policy), starts)),
        Arc::new(cluster.containers.clone()),
    );
    let first = config(all, Any);
    let agent = cluster.agent_with(first.clone()).await;
    let port = agent.http_address().unwrap().port();
    cluster.link().await;
    agent.shutdown(true).await;
    for (config, starts) in configs {
        // The port is part of what may not change.
        let config = Config { port, ..config };
        let policy = config.reconfiguration_policy;
        match start(&cluster.env, config, sim.clone()).await {
            Ok(agent) if starts => {
                cluster.link().await;
                agent.shutdown(true).await;
            }
            Err(error) if !starts => {
                let error = error.to_string();
                assert!(error.contains("cpus:4") && error.contains("policy"), "{policy:?}: {error}");
            }
            other => panic!("{policy:?}: {other:?}"),
        }
    }
    cluster.end().await;
}

#[tokio::test]
async fn what_runs_must_fit_into_what_the_next_agent_has() {
    let mut cluster = Cluster::new(None).await;
    let agent = cluster.agent().await;
    let mut link = cluster.link().await;
    link.launch(vec![sized("t", 3.0)]).await;
    link.until(TaskState::TaskRunning).await;
    agent.shutdown(true).await;
    let with = |resources: &str| Config { resources: Some(resources.to_owned()), ..cluster.config() };
    let sim = Arc::new(cluster.containers.clone());
    let (little, enough) = (with("cpus:2"), with("cpus:3"));
    let error = start(&cluster.env, little, sim).await.unwrap_err().to_string();
    assert!(error.contains("needs cpus:3"), "{error}");
    assert_eq!(cluster.containers.running().len(), 1, "it was left alone");
    let agent = cluster.agent_with(enough).await;
    let link = cluster.link().await;
    assert_eq!((link.reregister.tasks.len(), cpus(&link.reregister.total)), (1, 3.0));
    agent.shutdown(false).await;
    cluster.end().await;
}

#[tokio::test]
async fn resources_and_attributes_change_while_tasks_run() {
    let mut cluster = Cluster::new(None).await;
    let file = cluster.dir.path().join("resources");
    std::fs::write(&file, "cpus:4;mem:10;disk:10;ports:[1-2]").unwrap();
    let config = Config { resources: Some(format!("file://{}", file.display())), ..cluster.config() };
    let agent = cluster.agent_with(config).await;
    timeout(PATIENCE, cluster.registrations.recv()).await.unwrap().unwrap();
    let mut link = cluster.link().await;
    link.launch(vec![sized("t", 2.0)]).await;
    link.until(TaskState::TaskRunning).await;

    std::fs::write(&file, "cpus:1;mem:10;disk:10;ports:[1-2]").unwrap();
    let error = agent.reconfigure().await.unwrap_err().to_string();
    assert!(error.contains("needs cpus:2"), "{error}");
    std::fs::write(&file, "cpus:").unwrap();
    assert!(agent.reconfigure().await.unwrap_err().to_string().starts_with("--resources: "));

    std::fs::write(&file, "cpus:8;mem:10;disk:10;ports:[1-2]").unwrap();
    agent.reconfigure().await.unwrap();
    let register = timeout(PATIENCE, cluster.registrations.recv()).await.unwrap().unwrap();
    assert_eq!(cpus(&register.agent.unwrap().resources), 8.0);
    let link = cluster.link().await;
    assert_eq!((cpus(&link.reregister.total), link.reregister.tasks.len()), (8.0, 1));
    assert_eq!(cpus(&link.reregister.agent.clone().unwrap().resources), 8.0);
    assert_eq!(cluster.containers.launches(), 1, "the task was not touched");
    agent.shutdown(false).await;
    cluster.end().await;
}

#[tokio::test]
async fn a_task_is_killed_while_its_files_are_fetched() {
    let mut cluster = Cluster::new(None).await;
    let agent = cluster.agent().await;
    let mut link = cluster.link().await;
    let with_uri = |id: &str, uri: &str| {
        let mut task = task(id, "sleep forever");
        let uri = pb::command_info::Uri { value: uri.to_owned(), ..pb::command_info::Uri::default() };
        task.command.as_mut().unwrap().uris = vec![uri];
        task
    };
    link.launch(vec![with_uri("missing", "sim://missing")]).await;
    assert_eq!(link.until(TaskState::TaskFailed).await, [TaskState::TaskFailed]);
    // As many as may be started at once: slow ones keep nobody waiting.
    let slow: Vec<_> = (0..40).map(|n| with_uri(&format!("slow{n}"), "sim://never")).collect();
    link.launch(slow).await;
    link.launch(vec![task("quick", "true")]).await;
    let mut starting = 0;
    loop {
        let status = link.update().await.status.unwrap();
        link.acknowledge(&status).await;
        starting += usize::from(status.state() == TaskState::TaskStarting);
        if status.state() == TaskState::TaskFinished {
            break;
        }
    }
    assert_eq!(starting, 1, "those whose files are on their way are staging");
    let kill = meshos_proto::meshos::allocator::v1::Kill {
        framework_id: Some(framework_id()),
        task_id: Some(pb::TaskId { value: "slow0".to_owned() }),
        kill_policy: None,
    };
    link.command(meshos_proto::meshos::allocator::v1::allocator_message::Body::Kill(kill)).await;
    let status = loop {
        let status = link.update().await.status.unwrap();
        link.acknowledge(&status).await;
        if status.state() == TaskState::TaskKilled {
            break status;
        }
    };
    assert_eq!((status.task_id.value.as_str(), status.reason()), ("slow0", Reason::TaskKilledDuringLaunch));
    assert!(timeout(Duration::from_secs(60), agent.shutdown(false)).await.is_ok());
    cluster.end().await;
}

#[tokio::test]
async fn mesos_c49_three_failed_health_checks_in_a_row_kill_a_task() {
    let mut cluster = Cluster::new(None).await;
    let agent = cluster.agent().await;
    let mut link = cluster.link().await;
    let http = pb::health_check::HttpCheckInfo { port: 80, ..Default::default() };
    let check = pb::HealthCheck {
        r#type: Some(pb::health_check::Type::Http as i32),
        http: Some(http),
        delay_seconds: Some(0.0),
        interval_seconds: Some(0.01),
        ..pb::HealthCheck::default()
    };
    link.launch(vec![pb::TaskInfo { health_check: Some(check), ..task("t", "sleep forever") }]).await;
    let mut healthy = Vec::new();
    let killed = loop {
        let status = link.update().await.status.unwrap();
        link.acknowledge(&status).await;
        match status.state() {
            TaskState::TaskKilled => break status,
            TaskState::TaskRunning => healthy.push(status.healthy),
            _ => {}
        }
        if status.healthy == Some(true) {
            let container = cluster.containers.running().into_keys().next().unwrap();
            cluster.containers.answer_probes(&container, ProbeOutcome::Status(500));
        }
    };
    assert_eq!(healthy, [None, Some(true), Some(false), Some(false), Some(false)]);
    assert_eq!(killed.healthy, Some(false));
    agent.shutdown(false).await;
    cluster.end().await;
}
