//! Tasks that have to become healthy, as their agents say, or ready.

use meshos_proto::{
    meshos::apps::v1::{
        AppUpdate, HealthCheck, HealthCheckList, HealthProtocol, PortDefinition, PortDefinitionList,
        ReadinessCheck, ReadinessCheckList, ReadinessResponse, occurrence::What,
    },
    mesos::v1::TaskState,
};

use super::{
    super::*,
    cluster::{Cluster, app},
};

pub(super) fn with_readiness(id: &str) -> AppUpdate {
    let check = ReadinessCheck {
        name: "up".into(),
        protocol: HealthProtocol::Http.into(),
        path: "/ready".into(),
        port_name: "http-api".into(),
        interval_s: 5,
        timeout_s: 1,
        ready_statuses: vec![200],
        preserve_last_response: true,
    };
    let port = PortDefinition { name: Some("http-api".into()), protocol: "tcp".into(), ..Default::default() };
    AppUpdate {
        readiness_checks: Some(ReadinessCheckList { items: vec![check] }),
        port_definitions: Some(PortDefinitionList { items: vec![port] }),
        ..app(id)
    }
}

fn answer(cluster: &mut Cluster, status: u32) -> ReadinessProbe {
    let probe = cluster.readiness_probes.pop().expect("nobody was asked");
    let response = ReadinessResponse { status, content_type: "text/plain".into(), body: "not yet".into() };
    cluster.input(Input::ReadinessProbed { probe: Box::new(probe.clone()), response: Some(response) });
    cluster.settle();
    probe
}

#[test]
fn marathon_c82_a_deployment_waits_until_its_tasks_are_ready() {
    let mut cluster = Cluster::new(1);
    cluster.create(with_readiness("/a")).unwrap();
    cluster.settle();
    assert_eq!((cluster.running("/a"), cluster.deployments().len()), (1, 1));
    let probe = answer(&mut cluster, 500);
    let task = &cluster.instances("/a")[0];
    assert_eq!((probe.host.as_str(), u32::from(probe.port)), (task.host.as_str(), task.ports[0]));
    let shown = &cluster.view.snapshot().readiness[0];
    assert_eq!((shown.ready, shown.last_response.as_ref().unwrap().status), (false, 500));
    assert!(cluster.readiness_probes.is_empty(), "the next one comes after the interval");
    cluster.pass(5000);
    answer(&mut cluster, 200);
    assert!(cluster.deployments().is_empty());
    assert!(cluster.view.snapshot().readiness.is_empty(), "shown during the deployment only");
    cluster.pass(60_000);
    assert!(cluster.readiness_probes.is_empty(), "what is ready is not asked again");
}

#[test]
fn a_task_that_is_started_outside_of_a_deployment_is_not_asked() {
    let mut cluster = Cluster::new(1);
    cluster.create(with_readiness("/a")).unwrap();
    cluster.settle();
    answer(&mut cluster, 200);
    let task = cluster.task_ids("/a")[0].clone();
    cluster.end(&task, TaskState::TaskFailed);
    cluster.settle();
    cluster.pass(5000);
    assert_eq!((cluster.running("/a"), cluster.readiness_probes.len()), (1, 0));
    cluster
        .put(
            AppUpdate { instances: Some(2), ..AppUpdate { id: Some("/a".into()), ..Default::default() } },
            false,
        )
        .unwrap();
    cluster.settle();
    assert_eq!(cluster.readiness_probes.len(), 1, "the new one is asked, the old one counts");
    answer(&mut cluster, 200);
    assert!(cluster.deployments().is_empty());
}

#[test]
fn marathon_c90_a_new_leader_asks_only_what_is_not_ready_yet() {
    let mut cluster = Cluster::new(1);
    cluster.create(AppUpdate { instances: Some(2), ..with_readiness("/a") }).unwrap();
    cluster.settle();
    let ready = answer(&mut cluster, 200).instance_id;
    cluster.readiness_probes.clear();
    cluster.change_leader();
    cluster.settle();
    assert_eq!(cluster.readiness_probes.len(), 1);
    assert_ne!(answer(&mut cluster, 200).instance_id, ready);
    assert!(cluster.deployments().is_empty());
    assert_eq!(cluster.launched.len(), 2);
}

#[test]
fn what_is_not_ready_counts_once_its_deployment_was_stopped() {
    let mut cluster = Cluster::new(1);
    let id = cluster.create(with_readiness("/a")).unwrap().deployment_id;
    cluster.settle();
    answer(&mut cluster, 500);
    cluster.change(Request::Cancel(CancelDeploymentRequest { id, force: true })).unwrap();
    cluster.pass(600_000);
    assert_eq!((cluster.running("/a"), cluster.launched.len()), (1, 1));
    assert!(cluster.view.snapshot().readiness.is_empty() && cluster.readiness_probes.is_empty());
}

fn with_check(protocol: HealthProtocol) -> AppUpdate {
    let check = HealthCheck {
        protocol: protocol.into(),
        command: Some("true".into()),
        port: Some(80),
        interval_s: 1,
        ..Default::default()
    };
    AppUpdate { health_checks: Some(HealthCheckList { items: vec![check] }), ..app("/a") }
}

/// The task's agent says so.
fn judge(cluster: &mut Cluster, healthy: bool) {
    let task = cluster.task_ids("/a")[0].clone();
    cluster.report(&task, TaskState::TaskRunning);
    cluster.statuses.back_mut().unwrap().healthy = Some(healthy);
    cluster.settle();
}

#[test]
fn a_task_counts_once_its_agent_finds_it_healthy() {
    let mut cluster = Cluster::new(1);
    cluster.create(with_check(HealthProtocol::Command)).unwrap();
    cluster.settle();
    assert_eq!((cluster.deployments().len(), cluster.probes.len()), (1, 0));
    judge(&mut cluster, true);
    assert!(cluster.deployments().is_empty());
    let shown = cluster.view.snapshot().health[0].results[0].clone();
    assert!(shown.alive && shown.last_success_ms > 0);
    judge(&mut cluster, false);
    let shown = cluster.view.snapshot().health[0].results[0].clone();
    assert_eq!((shown.alive, shown.consecutive_failures), (false, 1));
    assert_eq!(cluster.instances("/a")[0].healthy, Some(false));
    assert!(cluster.calls.iter().all(|call| call.kill.is_none()), "the agent ends it, not we");

    let task = cluster.task_ids("/a")[0].clone();
    cluster.end(&task, TaskState::TaskKilled);
    let status = cluster.statuses.back_mut().unwrap();
    (status.healthy, status.message) = (Some(false), Some("exit status 1".into()));
    cluster.settle();
    assert_eq!(cluster.running("/a"), 1, "launched again without a delay");
    let failure = cluster.view.snapshot().failures[0].clone();
    let wanted = ("TASK_KILLED", "Task was killed since health check failed. Reason: exit status 1");
    assert_eq!((failure.state.as_str(), failure.message.as_str()), wanted);
}

#[test]
fn readers_hear_of_checks_that_begin_and_end() {
    let told = |cluster: &mut Cluster| -> Vec<bool> {
        let told = cluster.occurred.drain(..).filter_map(|occurrence| match occurrence.what? {
            What::HealthCheckAdded(added) => Some(added.app_id == "/a"),
            What::HealthChecksRemoved(_) => Some(false),
            _ => None,
        });
        told.collect()
    };
    let mut cluster = Cluster::new(1);
    cluster.create(with_check(HealthProtocol::Command)).unwrap();
    cluster.settle();
    judge(&mut cluster, true);
    assert_eq!(told(&mut cluster), [true], "once, although two steps touch the app");
    let other = AppUpdate { cmd: Some("x".into()), ..with_check(HealthProtocol::MesosTcp) };
    cluster.put(other, false).unwrap();
    cluster.settle();
    assert_eq!(told(&mut cluster), [true]);
    cluster.change(Request::Delete(DeleteAppRequest { id: "/a".into(), force: true })).unwrap();
    cluster.settle();
    assert_eq!(told(&mut cluster), [false]);
}
