//! What becomes of deployments: limits past which they are rolled back, and what is kept of them.

use meshos_proto::{
    meshos::apps::v1::{
        AppUpdate, AppUpdateList, CreateAppRequest, DeploymentLimits, DeploymentPhase as Phase,
        FinishedDeployment, GroupUpdate, PortDefinitionList, UpdateAppsRequest, occurrence::What,
    },
    mesos::v1::TaskState,
};

use super::{
    super::*,
    cluster::{Cluster, app},
};

fn limits(deadline_s: Option<u64>, max_failures: Option<u32>) -> Option<DeploymentLimits> {
    Some(DeploymentLimits { deadline_s, max_failures })
}

fn update(cluster: &mut Cluster, app: AppUpdate, limits: Option<DeploymentLimits>) -> ChangeResponse {
    let request = UpdateAppsRequest { apps: vec![app], force: false, partial: true, create: true, limits };
    cluster.change(Request::Update(request)).unwrap()
}

fn finished(cluster: &Cluster, id: &str) -> FinishedDeployment {
    let all = cluster.view.snapshot().finished;
    all.into_iter().find(|one| one.deployment.as_ref().unwrap().id == id).expect("not kept")
}

fn running(cluster: &mut Cluster) {
    cluster.create(AppUpdate { instances: Some(2), ..app("/a") }).unwrap();
    cluster.settle();
    assert_eq!(cluster.running("/a"), 2);
}

fn phases(one: &FinishedDeployment) -> Vec<Phase> {
    one.deployment.as_ref().unwrap().history.iter().map(|moment| moment.phase()).collect()
}

#[test]
fn a_deployment_past_its_deadline_is_rolled_back() {
    let mut cluster = Cluster::new(1);
    running(&mut cluster);
    let before = cluster.task_ids("/a");
    let huge = AppUpdate { cpus: Some(1000.0), ..app("/a") };
    let id = update(&mut cluster, huge, limits(Some(60), None)).deployment_id;
    cluster.pass(59_000);
    assert_eq!(cluster.deployments()[0].id, id);
    cluster.pass(2000);
    assert!(cluster.deployments().is_empty());
    let one = finished(&cluster, &id);
    assert_eq!(
        (one.phase(), one.reason.as_str()),
        (Phase::Failed, "The deadline of the deployment has passed")
    );
    let by = finished(&cluster, &one.rolled_back_by);
    assert_eq!((by.phase(), by.deployment.unwrap().rolls_back), (Phase::Success, id));
    assert_eq!(cluster.app("/a").unwrap().cpus, 0.1);
    assert_eq!((cluster.running("/a"), cluster.task_ids("/a").len()), (2, before.len()));
    let told = cluster.occurred.iter().filter_map(|occurrence| match occurrence.what.as_ref()? {
        What::Deployment(changed) => Some(changed.phase()),
        _ => None,
    });
    let told: Vec<_> = told.collect();
    let at = told.iter().position(|phase| *phase == Phase::StepFailure).unwrap();
    assert_eq!(told[at..at + 2], [Phase::StepFailure, Phase::Failed]);
}

#[test]
fn a_deployment_with_too_many_failures_is_rolled_back() {
    let mut cluster = Cluster::new(1);
    running(&mut cluster);
    cluster.starts = false;
    let other = AppUpdate { cmd: Some("exit 1".into()), ..app("/a") };
    let id = update(&mut cluster, other, limits(None, Some(1))).deployment_id;
    let fail = |cluster: &mut Cluster| {
        cluster.pass(5000);
        let staging = cluster.tasks.iter().find(|(_, task)| task.state == TaskState::TaskStaging);
        let id = staging.map(|(id, _)| id.clone()).expect("nothing was launched");
        cluster.end(&id, TaskState::TaskFailed);
        while cluster.deliver() || cluster.commit() {}
    };
    fail(&mut cluster);
    assert_eq!((cluster.deployments()[0].id.as_str(), cluster.deployments()[0].failures), (id.as_str(), 1));
    cluster.change_leader();
    cluster.settle();
    fail(&mut cluster);
    let one = finished(&cluster, &id);
    assert_eq!(one.reason, "2 tasks failed, and the deployment may have 1 failures");
    cluster.starts = true;
    cluster.pass(60_000);
    assert!(cluster.deployments().is_empty());
    assert_eq!(cluster.app("/a").unwrap().cmd.as_deref(), Some("sleep 1000"));
    assert_eq!(cluster.running("/a"), 2);
}

#[test]
fn a_creation_past_its_deadline_is_removed_again_even_after_a_change_of_leader() {
    let mut cluster = Cluster::new(1);
    let huge = AppUpdate { cpus: Some(1000.0), ..app("/a") };
    let limits = limits(Some(60), None);
    let request = CreateAppRequest { app: Some(huge), force: false, limits };
    let id = cluster.change(Request::Create(Box::new(request))).unwrap().deployment_id;
    cluster.change_leader();
    cluster.pass(61_000);
    assert_eq!((cluster.app("/a"), cluster.deployments().len()), (None, 0));
    assert_eq!(finished(&cluster, &id).phase(), Phase::Failed);
}

#[test]
fn deployments_stay_listed_with_their_history_for_a_while() {
    let mut cluster = Cluster::new(1);
    let id = cluster.create(app("/a")).unwrap().deployment_id;
    cluster.settle();
    let one = finished(&cluster, &id);
    assert_eq!((one.phase(), one.deployment.as_ref().unwrap().targets.len()), (Phase::Success, 0));
    let steps = [Phase::Info, Phase::StepSuccess];
    assert_eq!(phases(&one), [steps, steps].concat().into_iter().chain([Phase::Success]).collect::<Vec<_>>());
    cluster.change_leader();
    cluster.settle();
    assert_eq!(finished(&cluster, &id), one, "a new leader knows them");
    for count in 0..150 {
        cluster.put(AppUpdate { instances: Some(count % 2), ..app("/a") }, true).unwrap();
        cluster.settle();
    }
    let kept = cluster.view.snapshot().finished;
    assert_eq!(kept.len(), 100);
    assert_eq!(cluster.stored.keys().filter(|key| key.starts_with("apps/finished/")).count(), 100);
    cluster.pass(24 * 3_600_000);
    cluster.put(AppUpdate { instances: Some(3), ..app("/a") }, true).unwrap();
    cluster.settle();
    assert_eq!(cluster.view.snapshot().finished.len(), 1, "not for longer than a day");
}

#[test]
fn a_rollback_is_possible_when_no_more_deployments_are() {
    let mut cluster = Cluster::new(1);
    let mut ids = Vec::new();
    for index in 0..100 {
        let huge = AppUpdate { id: Some(format!("/a{index}")), cpus: Some(1000.0), ..app("/a") };
        ids.push(cluster.create(huge).unwrap().deployment_id);
    }
    let cancel = CancelDeploymentRequest { id: ids[0].clone(), force: false };
    let by = cluster.change(Request::Cancel(cancel)).unwrap().deployment_id;
    assert_eq!(finished(&cluster, &ids[0]).rolled_back_by, by);
    assert_eq!(cluster.app("/a0"), None);
}

#[test]
fn a_change_to_one_app_writes_a_fixed_number_of_keys() {
    let written = |cluster: &mut Cluster, instances: u32| -> usize {
        let before = cluster.written;
        cluster.put(AppUpdate { instances: Some(instances), ..app("/a") }, true).unwrap();
        cluster.settle();
        cluster.written - before
    };
    let mut cluster = Cluster::new(1);
    cluster.create(app("/a")).unwrap();
    cluster.settle();
    let alone = written(&mut cluster, 2);
    for index in 0..200 {
        let id = Some(format!("/b{index}"));
        cluster.create(AppUpdate { id, instances: Some(0), ..app("/b") }).unwrap();
        cluster.settle();
    }
    // The oldest version of the root and the oldest ended deployment go as well by now.
    assert!(written(&mut cluster, 3) <= alone + 6, "{alone}");
    assert_eq!(written(&mut cluster, 4), written(&mut cluster, 5));
}

/// A group of so many apps, each with a command and an id of so many bytes.
fn large_group(count: usize, bytes: usize, id: usize) -> Request {
    let one = |at: usize| AppUpdate {
        cmd: Some("x".repeat(bytes)),
        instances: Some(0),
        port_definitions: Some(PortDefinitionList::default()),
        ..app(&format!("a{at}{}", "x".repeat(id)))
    };
    let apps = AppUpdateList { items: (0..count).map(one).collect() };
    let update = Some(GroupUpdate { apps: Some(apps), ..Default::default() });
    Request::UpdateGroup(Box::new(UpdateGroupRequest { id: "/g".into(), update, ..Default::default() }))
}

#[test]
fn a_change_of_very_many_apps_is_stored_in_parts_and_survives_a_change_of_leader() {
    let mut cluster = Cluster::new(1);
    cluster.change(large_group(2000, 2000, 0)).unwrap();
    cluster.settle();
    let largest = |cluster: &Cluster| cluster.stored.values().map(|value| value.len()).max().unwrap();
    assert!(largest(&cluster) < meshos_store::MAX_VALUE_BYTES);
    cluster.starts = false;
    cluster.ask(Request::DeleteGroup(DeleteGroupRequest { id: "/g".into(), force: false }));
    while cluster.commit() {}
    assert!(largest(&cluster) < meshos_store::MAX_VALUE_BYTES);
    cluster.change_leader();
    cluster.settle();
    let versions = ListGroupVersionsRequest { id: "/".into() };
    let Reply::GroupVersions(versions) = cluster.answer(Request::GroupVersions(versions)).unwrap() else {
        panic!("another answer")
    };
    let before = GetGroupVersionRequest { id: "/g".into(), version_ms: versions.versions_ms[1] };
    let Reply::GroupVersion(before) = cluster.answer(Request::GroupVersion(before)).unwrap() else {
        panic!("another answer")
    };
    assert_eq!(before.apps.len(), 2000);
    assert!(cluster.stored.keys().all(|key| !key.starts_with("apps/deployments/")), "no part is left");
}

#[test]
fn a_plan_that_no_record_could_hold_is_refused() {
    let mut cluster = Cluster::new(1);
    let refused = cluster.change(large_group(2500, 1, 150)).unwrap_err();
    assert!(refused.to_string().contains("Send it in several requests"), "{refused}");
    assert!(cluster.stored.keys().all(|key| !key.starts_with("apps/specs/")));
}
