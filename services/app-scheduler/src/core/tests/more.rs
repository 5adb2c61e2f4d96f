//! Events, groups and health in the core.

use meshos_proto::meshos::apps::v1::{
    AppUpdate, AppUpdateList, Condition, ExecutorResources, Fetch, GroupUpdate, HealthCheck, HealthCheckList,
    occurrence::What,
};

use super::super::*;
use super::cluster::{Cluster, app};

fn group(cluster: &mut Cluster, id: &str, update: GroupUpdate) -> Result<ChangeResponse, Refusal> {
    let request = UpdateGroupRequest { id: id.into(), update: Some(update), ..Default::default() };
    cluster.change(Request::UpdateGroup(Box::new(request)))
}

fn apps(ids: &[&str]) -> GroupUpdate {
    let items = ids.iter().map(|id| app(id)).collect();
    GroupUpdate { apps: Some(AppUpdateList { items }), ..Default::default() }
}

fn versions(cluster: &mut Cluster, id: &str) -> Vec<u64> {
    let request = Request::GroupVersions(ListGroupVersionsRequest { id: id.into() });
    match cluster.answer(request) {
        Ok(Reply::GroupVersions(response)) => response.versions_ms,
        other => panic!("{other:?}"),
    }
}

#[test]
fn groups_and_their_history_survive_a_change_of_leader() {
    let mut cluster = Cluster::new(1);
    group(&mut cluster, "/g", apps(&["a", "b"])).unwrap();
    cluster.settle();
    let first = versions(&mut cluster, "/g")[0];
    group(&mut cluster, "/g", apps(&["a"])).unwrap();
    group(&mut cluster, "/g/empty", GroupUpdate::default()).unwrap();
    cluster.settle();
    cluster.change_leader();
    cluster.settle();
    assert_eq!(versions(&mut cluster, "/g").len(), 3);
    assert_eq!(versions(&mut cluster, "/g/empty").len(), 1);
    let request = GetGroupVersionRequest { id: "/g".into(), version_ms: first };
    let Ok(Reply::GroupVersion(old)) = cluster.answer(Request::GroupVersion(request)) else { panic!() };
    assert_eq!(old.apps.len(), 2);
    group(&mut cluster, "/g", GroupUpdate { version_ms: Some(first), ..Default::default() }).unwrap();
    cluster.settle();
    assert_eq!((cluster.running("/g/a"), cluster.running("/g/b")), (1, 1));
    assert!(!cluster.core.has_group("/g/empty"));
}

#[test]
fn an_app_takes_the_place_of_an_empty_group_only() {
    let mut cluster = Cluster::new(1);
    group(&mut cluster, "/g", GroupUpdate::default()).unwrap();
    cluster.create(app("/g")).unwrap();
    cluster.settle();
    assert_eq!(cluster.running("/g"), 1);
    assert!(matches!(group(&mut cluster, "/g", GroupUpdate::default()), Err(Refusal::Invalid(_))));
    cluster.create(app("/h/a")).unwrap();
    assert!(matches!(cluster.create(app("/h")), Err(Refusal::Invalid(_))));
    assert!(matches!(cluster.create(app("/g/x")), Err(Refusal::Invalid(_))));
}

#[test]
fn a_group_passes_its_dependencies_on() {
    let mut cluster = Cluster::new(1);
    cluster.create(app("/db")).unwrap();
    cluster.settle();
    let dependent = GroupUpdate {
        dependencies: Some(meshos_proto::meshos::apps::v1::StringList { items: vec!["/db".into()] }),
        ..apps(&["web"])
    };
    let request = UpdateGroupRequest {
        id: "/".into(),
        update: Some(GroupUpdate {
            groups: Some(meshos_proto::meshos::apps::v1::GroupUpdateList {
                items: vec![GroupUpdate { id: Some("g".into()), ..dependent }],
            }),
            apps: Some(AppUpdateList { items: vec![AppUpdate { cmd: Some("other".into()), ..app("db") }] }),
            ..Default::default()
        }),
        dry_run: true,
        ..Default::default()
    };
    let steps = cluster.change(Request::UpdateGroup(Box::new(request))).unwrap().steps;
    let first = steps.iter().position(|step| step.actions.iter().any(|action| action.app_id == "/db"));
    let last = steps.iter().rposition(|step| step.actions.iter().any(|action| action.app_id == "/g/web"));
    assert!(first < last, "{steps:?}");
}

fn happened(cluster: &mut Cluster) -> Vec<What> {
    std::mem::take(&mut cluster.occurred).into_iter().filter_map(|one| one.what).collect()
}

#[test]
fn marathon_c85_a_status_is_told_before_the_instance_and_a_repeated_one_is_not() {
    let mut cluster = Cluster::new(1);
    cluster.create(app("/a")).unwrap();
    cluster.settle();
    let told = happened(&mut cluster);
    let status =
        told.iter().position(|what| matches!(what, What::TaskStatus(s) if s.state == "TASK_RUNNING"));
    let running = |what: &What| {
        matches!(what, What::Instance(changed)
            if changed.instance.as_ref().unwrap().condition() == Condition::Running)
    };
    assert!(status.unwrap() < told.iter().position(running).unwrap());
    let task = cluster.task_ids("/a").remove(0);
    cluster.report(&task, meshos_proto::mesos::v1::TaskState::TaskRunning);
    cluster.settle();
    assert!(happened(&mut cluster).is_empty());
}

#[test]
fn a_checked_app_is_ready_when_it_is_healthy_and_a_sick_task_is_replaced_at_once() {
    let mut cluster = Cluster::new(1);
    let check =
        HealthCheck { port: Some(80), interval_s: 10, max_consecutive_failures: 1, ..Default::default() };
    let checks = HealthCheckList { items: vec![check] };
    cluster.create(AppUpdate { health_checks: Some(checks), ..app("/a") }).unwrap();
    cluster.settle();
    assert_eq!((cluster.running("/a"), cluster.deployments().len()), (1, 1), "it waits for health");
    cluster.pass(5000);
    let probe = |cluster: &mut Cluster, outcome: Outcome| {
        let probe = cluster.probes.pop().expect("a probe is due");
        cluster.input(Input::Probed { probe: Box::new(probe), outcome });
        cluster.settle();
        cluster.pass(10_000);
    };
    probe(&mut cluster, Outcome::Alive);
    assert!(cluster.deployments().is_empty());
    assert_eq!(cluster.instances("/a")[0].healthy, Some(true));
    let old = cluster.task_ids("/a");
    probe(&mut cluster, Outcome::Failed("x".into()));
    assert_eq!((cluster.task_ids("/a"), cluster.instances("/a")[0].healthy), (old.clone(), Some(false)));
    happened(&mut cluster);
    probe(&mut cluster, Outcome::Failed("x".into()));
    cluster.settle();
    assert!(happened(&mut cluster).iter().any(|what| matches!(what, What::UnhealthyKill(_))));
    assert_ne!(cluster.task_ids("/a"), old);
}

fn scale(cluster: &mut Cluster, factor: f64) -> Result<ChangeResponse, Refusal> {
    group(cluster, "/g", GroupUpdate { scale_by: Some(factor), ..Default::default() })
}

fn violated(refused: Result<ChangeResponse, Refusal>) -> Vec<(String, Vec<String>)> {
    match refused {
        Err(Refusal::Invalid(violations)) => violations.into_iter().map(|v| (v.path, v.errors)).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn scaling_a_group_obeys_the_rules_for_apps() {
    let mut cluster = Cluster::new(1);
    group(&mut cluster, "/g", apps(&["a"])).unwrap();
    cluster.settle();
    scale(&mut cluster, 2.0).unwrap();
    cluster.settle();
    assert_eq!(cluster.running("/g/a"), 2);
    for factor in [50_000.1, f64::MAX] {
        let found = violated(scale(&mut cluster, factor));
        assert_eq!(found, [("/g/a/instances".to_owned(), vec!["error.max".to_owned()])], "{factor}");
    }
    assert_eq!(cluster.app("/g/a").unwrap().instances, 2);
}

#[test]
fn scaling_a_group_keeps_a_single_instance_app_single() {
    let mut cluster = Cluster::new(1);
    let labels = [("MARATHON_SINGLE_INSTANCE_APP".to_owned(), "true".to_owned())];
    let single = AppUpdate {
        labels: Some(meshos_proto::meshos::apps::v1::StringMap { items: labels.into() }),
        upgrade_strategy: Some(meshos_proto::meshos::apps::v1::UpgradeStrategyUpdate {
            minimum_health_capacity: Some(0.0),
            maximum_over_capacity: Some(0.0),
        }),
        ..app("a")
    };
    let update = GroupUpdate { apps: Some(AppUpdateList { items: vec![single] }), ..Default::default() };
    group(&mut cluster, "/g", update).unwrap();
    cluster.settle();
    let found = violated(scale(&mut cluster, 2.0));
    assert_eq!(found[0].0, "/g/a/instances");
    assert!(found[0].1[0].contains("Single instance app"), "{found:?}");
}

#[test]
fn one_event_places_no_more_than_the_offers_may_take() {
    let mut cluster = Cluster::new(1);
    cluster.core.settings.args.max_instances_per_offer = 2;
    cluster.create(AppUpdate { instances: Some(50), cpus: Some(0.001), ..app("/a") }).unwrap();
    while cluster.commit() {}
    assert_eq!(cluster.core.waiting_by_definition("/a", 6)[0].1.len(), 6);
    cluster.settle();
    assert_eq!(cluster.running("/a"), 50, "the rest comes with later offers");
}

/// As a former version of this program accepted it.
fn store_formerly(cluster: &mut Cluster, id: &str, change: impl FnOnce(&mut App)) {
    let state = cluster.core.apps.get_mut(id).unwrap();
    change(Arc::make_mut(state.spec.as_mut().unwrap()));
}

#[test]
fn an_app_that_was_accepted_formerly_can_still_be_scaled() {
    let mut cluster = Cluster::new(1);
    group(&mut cluster, "/g", apps(&["a"])).unwrap();
    cluster.settle();
    store_formerly(&mut cluster, "/g/a", |app| {
        app.fetch = vec![Fetch { uri: "http://h/a b".into(), ..Default::default() }];
        app.labels.insert("DCOS_MIGRATION_API_VERSION".into(), "v1".into());
    });
    let put = |instances, cpus| AppUpdate {
        id: Some("/g/a".into()),
        instances: Some(instances),
        cpus: Some(cpus),
        ..Default::default()
    };
    cluster.put(put(2, 0.1), false).unwrap();
    cluster.settle();
    cluster.put(put(2, 0.2), false).unwrap();
    cluster.settle();
    // Other rules as well may have come since.
    store_formerly(&mut cluster, "/g/a", |app| app.backoff_factor = 0.5);
    scale(&mut cluster, 2.0).unwrap();
    cluster.settle();
    assert_eq!(cluster.running("/g/a"), 4);
    let labels = [("DCOS_MIGRATION_API_VERSION".to_owned(), "v2".to_owned())];
    store_formerly(&mut cluster, "/g/a", |app| app.backoff_factor = 1.0);
    let other = AppUpdate {
        labels: Some(meshos_proto::meshos::apps::v1::StringMap { items: labels.into() }),
        ..put(4, 0.2)
    };
    assert_eq!(violated(cluster.put(other, false))[0].0, "/");
}

#[test]
fn deployments_are_counted_where_they_begin() {
    let mut cluster = Cluster::new(1);
    cluster.create(AppUpdate { instances: Some(2), ..app("/a") }).unwrap();
    cluster.settle();
    assert_eq!(cluster.deployments_started, 1);
    let huge = AppUpdate { cpus: Some(1000.0), ..app("/a") };
    let id = cluster.put(huge.clone(), false).unwrap().deployment_id;
    cluster.change(Request::Cancel(CancelDeploymentRequest { id, force: true })).unwrap();
    assert_eq!(cluster.deployments_started, 2, "to stop one starts none");
    assert!(cluster.put(AppUpdate { cpus: Some(0.0), ..huge }, false).is_err());
    cluster.settle();
    assert_eq!(cluster.deployments_started, 2, "nor does what is refused");
    let task_ids = cluster.task_ids("/a").into_iter().filter(|id| !id.is_empty()).take(1).collect();
    let kill = KillTasksRequest { task_ids, scale: true, ..Default::default() };
    cluster.answer(Request::Kill(kill)).unwrap();
    assert_eq!(cluster.deployments_started, 3);
    cluster.change_leader();
    cluster.settle();
    assert_eq!(cluster.deployments_started, 3, "another leader goes on with it");
}

#[test]
fn the_executor_of_all_apps_gets_what_is_asked_for_it() {
    let args = MarathonArgs { executor: "/opt/x".into(), ..MarathonArgs::default() };
    let mut cluster = Cluster::of(1, args);
    let asked = ExecutorResources { cpus: 0.5, mem: 64.0, disk: 10.0 };
    cluster.create(AppUpdate { executor_resources: Some(asked), ..app("/a") }).unwrap();
    cluster.settle();
    let accept = cluster.calls.iter().find_map(|call| call.accept.as_ref()).unwrap();
    let task = &accept.operations[0].launch.as_ref().unwrap().task_infos[0];
    let resources = &task.executor.as_ref().unwrap().resources;
    let cpus = resources.iter().find(|one| one.name == "cpus").unwrap();
    assert_eq!(cpus.scalar.as_ref().unwrap().value, 0.5);
}
