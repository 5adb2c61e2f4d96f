//! Conformance lines of the reference, as far as they concern the core.

use meshos_proto::{
    meshos::apps::v1::{
        ActionKind, AppUpdate, Condition, Constraint, ConstraintList, KillSelection, PortDefinition,
        PortDefinitionList, StringList, StringMap, UnreachableStrategy, UpdateAppsRequest,
    },
    mesos::v1::TaskState,
};

use super::{
    super::*,
    cluster::{Cluster, app},
};

fn cluster() -> Cluster {
    Cluster::new(1)
}

/// `/a` with that many running instances.
fn with_app(instances: u32) -> Cluster {
    let mut cluster = cluster();
    cluster.create(AppUpdate { instances: Some(instances), ..app("/a") }).unwrap();
    cluster.settle();
    assert_eq!(cluster.running("/a"), instances as usize);
    assert!(cluster.deployments().is_empty());
    cluster
}

fn only(id: &str) -> AppUpdate {
    AppUpdate { id: Some(id.into()), ..Default::default() }
}

/// More than any agent has.
fn huge() -> AppUpdate {
    AppUpdate { cpus: Some(1000.0), ..app("/a") }
}

#[test]
fn marathon_c1_c2_an_app_is_created_and_runs() {
    let mut cluster = cluster();
    let response = cluster.create(app("/a")).unwrap();
    assert!(response.created && !response.deployment_id.is_empty());
    assert_eq!(response.apps[0].version_ms, response.version_ms);
    assert_eq!(response.apps[0].port_definitions[0].port, 0);
    assert_eq!(cluster.deployments()[0].id, response.deployment_id);
    cluster.settle();
    assert!(cluster.deployments().is_empty());
    assert_eq!(cluster.running("/a"), 1);
    let instance = &cluster.instances("/a")[0];
    assert!(instance.task_id.starts_with("a.instance-") && instance.task_id.ends_with("._app.1"));
    assert!(instance.host.starts_with("host-a") && instance.ports[0] >= 31000);
}

#[test]
fn marathon_c3_an_existing_app_is_not_created_again() {
    let mut cluster = with_app(1);
    let error = cluster.create(app("/a")).unwrap_err();
    assert_eq!(error.to_string(), "An app with id [/a] already exists.");
}

#[test]
fn marathon_c13_c15_service_ports_are_assigned_and_kept() {
    let mut cluster = with_app(1);
    let port = cluster.app("/a").unwrap().port_definitions[0].port;
    assert_eq!(port, 10_000);
    let two = PortDefinitionList { items: vec![PortDefinition::default(), PortDefinition::default()] };
    let update = AppUpdate { port_definitions: Some(two), ..app("/b") };
    cluster.create(update).unwrap();
    let ports: Vec<_> = cluster.app("/b").unwrap().port_definitions.iter().map(|d| d.port).collect();
    assert_eq!(ports, [10_001, 10_002]);
    let request =
        UpdateAppsRequest { apps: vec![app("/a")], force: true, partial: false, create: true, limits: None };
    cluster.change(Request::Update(request)).unwrap();
    assert_eq!(cluster.app("/a").unwrap().port_definitions[0].port, port);
}

#[test]
fn marathon_c23_scaling_keeps_tasks() {
    let mut cluster = with_app(1);
    let (before, task) = (cluster.app("/a").unwrap(), cluster.task_ids("/a"));
    let response = cluster.put(AppUpdate { instances: Some(3), ..only("/a") }, false).unwrap();
    let steps = &cluster.deployments()[0].steps;
    assert_eq!(steps.len(), 1);
    assert_eq!(steps[0].actions[0].kind(), ActionKind::ScaleApplication);
    cluster.settle();
    let after = cluster.app("/a").unwrap();
    assert_eq!(after.last_config_change_at_ms, before.last_config_change_at_ms);
    assert_eq!(after.last_scaling_at_ms, response.version_ms);
    assert_eq!(cluster.running("/a"), 3);
    assert!(cluster.task_ids("/a").contains(&task[0]));
}

#[test]
fn marathon_c24_an_identical_definition_changes_nothing() {
    let mut cluster = with_app(1);
    let (before, tasks) = (cluster.app("/a"), cluster.task_ids("/a"));
    let response = cluster.put(app("/a"), false).unwrap();
    assert!(!response.deployment_id.is_empty());
    cluster.settle();
    assert_eq!((cluster.app("/a"), cluster.task_ids("/a")), (before, tasks));
    assert!(cluster.deployments().is_empty());
}

#[test]
fn marathon_c27_put_creates_and_patch_does_not() {
    let mut cluster = cluster();
    assert!(cluster.put(app("/b"), false).unwrap().created);
    let request =
        UpdateAppsRequest { apps: vec![app("/c")], force: false, partial: true, create: false, limits: None };
    let error = cluster.change(Request::Update(request)).unwrap_err();
    assert_eq!(error.to_string(), "App '/c' does not exist");
}

#[test]
fn marathon_c28_c29_an_old_version_comes_back_as_a_new_one() {
    let mut cluster = with_app(1);
    let first = cluster.app("/a").unwrap();
    cluster.put(AppUpdate { cmd: Some("sleep 2000".into()), ..only("/a") }, false).unwrap();
    cluster.settle();
    let back = AppUpdate { version_ms: Some(first.version_ms), ..only("/a") };
    cluster.put(back.clone(), false).unwrap();
    cluster.settle();
    let third = cluster.app("/a").unwrap();
    assert_eq!(third.cmd, first.cmd);
    assert!(third.version_ms > first.version_ms);
    let reply = cluster.answer(Request::Versions(ListVersionsRequest { app_id: "/a".into() })).unwrap();
    let Reply::Versions(versions) = reply else { panic!("{reply:?}") };
    assert_eq!(versions.versions.len(), 3);
    assert_eq!(versions.versions[0], third);
    let error = cluster.put(AppUpdate { cmd: Some("x".into()), ..back }, false).unwrap_err();
    assert_eq!(error.to_string(), "The 'version' field may only be combined with the 'id' field.");
    let error = cluster.put(AppUpdate { version_ms: Some(5), ..only("/a") }, false).unwrap_err();
    assert_eq!(error.to_string(), "App '/a' does not exist in version 1970-01-01T00:00:00.005Z");
}

#[test]
fn marathon_c31_restart_replaces_the_tasks() {
    let mut cluster = with_app(2);
    let (before, tasks) = (cluster.app("/a").unwrap(), cluster.task_ids("/a"));
    cluster
        .change(Request::Restart(RestartAppRequest { id: "/a".into(), force: false, limits: None }))
        .unwrap();
    cluster.settle();
    let after = cluster.app("/a").unwrap();
    assert!(after.last_config_change_at_ms > before.last_config_change_at_ms);
    assert_eq!(after.last_scaling_at_ms, before.last_scaling_at_ms);
    assert_eq!(cluster.running("/a"), 2);
    assert!(cluster.task_ids("/a").iter().all(|task| !tasks.contains(task)));
    assert!(cluster.deployments().is_empty());
}

#[test]
fn marathon_c32_c33_a_deployment_locks_its_apps_until_forced() {
    let mut cluster = cluster();
    let first = cluster.create(huge()).unwrap().deployment_id;
    cluster.settle();
    let error = cluster.put(app("/a"), false).unwrap_err();
    assert_eq!(error, Refusal::Locked(vec![first.clone()]));
    let second = cluster.put(app("/a"), true).unwrap().deployment_id;
    cluster.settle();
    assert!(cluster.deployments().iter().all(|deployment| deployment.id != first && deployment.id != second));
    assert_eq!(cluster.running("/a"), 1);
}

#[test]
fn marathon_c35_cancelling_a_creation_removes_the_app() {
    let mut cluster = cluster();
    let id = cluster.create(huge()).unwrap().deployment_id;
    cluster.settle();
    cluster.change(Request::Cancel(CancelDeploymentRequest { id, force: false })).unwrap();
    cluster.settle();
    assert_eq!(cluster.app("/a"), None);
    assert!(cluster.instances("/a").is_empty() && cluster.deployments().is_empty());
    assert!(cluster.stored.keys().all(|key| outlives_apps(key)), "{:?}", cluster.stored.keys());
}

fn outlives_apps(key: &str) -> bool {
    let history = ["apps/groups/", "apps/roots/", "apps/finished/"];
    key == crate::store::FRAMEWORK || history.iter().any(|prefix| key.starts_with(prefix))
}

#[test]
fn marathon_c35_cancelling_an_update_brings_the_old_definition_back() {
    let mut cluster = with_app(2);
    let id = cluster.put(AppUpdate { cpus: Some(1000.0), ..only("/a") }, false).unwrap().deployment_id;
    cluster.settle();
    assert_eq!(cluster.running("/a"), 2);
    cluster.change(Request::Cancel(CancelDeploymentRequest { id, force: false })).unwrap();
    cluster.settle();
    assert_eq!(cluster.app("/a").unwrap().cpus, 0.1);
    assert_eq!(cluster.running("/a"), 2);
    assert!(cluster.deployments().is_empty());
}

#[test]
fn marathon_c36_c37_a_forced_cancel_only_stops() {
    let mut cluster = cluster();
    let id = cluster.create(huge()).unwrap().deployment_id;
    cluster.settle();
    cluster.change(Request::Cancel(CancelDeploymentRequest { id, force: true })).unwrap();
    cluster.settle();
    assert!(cluster.deployments().is_empty());
    assert_eq!(cluster.app("/a").unwrap().cpus, 1000.0);
    let nope = CancelDeploymentRequest { id: "nope".into(), force: false };
    let error = cluster.change(Request::Cancel(nope)).unwrap_err();
    assert_eq!(error.to_string(), "DeploymentPlan nope does not exist");
}

#[test]
fn marathon_c38_an_unknown_app_is_not_found() {
    let mut cluster = cluster();
    for request in [
        Request::Restart(RestartAppRequest { id: "/x".into(), force: false, limits: None }),
        Request::Delete(DeleteAppRequest { id: "/x".into(), force: true }),
        Request::Kill(KillTasksRequest { app_id: Some("/x".into()), ..Default::default() }),
        Request::Versions(ListVersionsRequest { app_id: "/x".into() }),
    ] {
        assert_eq!(cluster.answer(request).unwrap_err().to_string(), "App '/x' does not exist");
    }
}

fn kill(cluster: &mut Cluster, task_id: &str, scale: bool, wipe: bool) -> Result<KillTasksResponse, Refusal> {
    let request = KillTasksRequest {
        task_ids: vec![task_id.to_owned()],
        app_id: Some("/a".into()),
        scale,
        wipe,
        ..Default::default()
    };
    match cluster.answer(Request::Kill(request))? {
        Reply::Kill(response) => Ok(response),
        other => panic!("{other:?}"),
    }
}

#[test]
fn marathon_c39_a_killed_task_is_launched_again_by_the_same_instance() {
    let mut cluster = with_app(2);
    let task = cluster.task_ids("/a")[0].clone();
    let response = kill(&mut cluster, &task, false, false).unwrap();
    assert_eq!(response.instances[0].task_id, task);
    assert_eq!(response.deployment, None);
    cluster.settle();
    let next = task.replace("._app.1", "._app.2");
    assert!(cluster.task_ids("/a").contains(&next), "{:?}", cluster.task_ids("/a"));
    assert_eq!(cluster.running("/a"), 2);
    assert!(cluster.view.snapshot().failures.is_empty());
}

#[test]
fn marathon_c40_kill_and_scale_ends_exactly_that_task() {
    let mut cluster = with_app(2);
    let tasks = cluster.task_ids("/a");
    let response = kill(&mut cluster, &tasks[0], true, false).unwrap();
    assert!(response.deployment.is_some());
    cluster.settle();
    assert_eq!(cluster.app("/a").unwrap().instances, 1);
    assert_eq!(cluster.task_ids("/a"), [tasks[1].clone()]);
    assert!(cluster.deployments().is_empty());
}

#[test]
fn marathon_c41_wipe_makes_a_new_instance() {
    let mut cluster = with_app(1);
    let before = cluster.instances("/a")[0].clone();
    kill(&mut cluster, &before.task_id, false, true).unwrap();
    cluster.settle();
    let after = cluster.instances("/a")[0].clone();
    assert_ne!(after.id, before.id);
    assert!(after.task_id.ends_with("._app.1"));
}

#[test]
fn marathon_c42_c43_odd_kills_are_refused_or_ignored() {
    let mut cluster = with_app(1);
    let error = kill(&mut cluster, "a.instance-1._app.1", true, true).unwrap_err();
    assert_eq!(error.to_string(), "You cannot use scale and wipe at the same time.");
    let error = kill(&mut cluster, "bogus", false, false).unwrap_err();
    assert_eq!(error.to_string(), "Invalid task id 'bogus'. [taskId bogus no valid identifier]");
    assert!(kill(&mut cluster, "a.instance-1._app.1", false, false).unwrap().instances.is_empty());
}

#[test]
fn marathon_c44_only_tasks_on_that_host() {
    let mut cluster = with_app(3);
    let request =
        KillTasksRequest { app_id: Some("/a".into()), host: Some("host-a1".into()), ..Default::default() };
    let Reply::Kill(response) = cluster.answer(Request::Kill(request)).unwrap() else { panic!() };
    assert_eq!(response.instances.len(), 1);
    assert!(response.instances.iter().all(|instance| instance.host == "host-a1"));
    cluster.settle();
    assert_eq!(cluster.running("/a"), 3);
}

#[test]
fn marathon_c54_c57_cycles_and_clashes_are_refused() {
    let mut cluster = cluster();
    let depends = |id: &str, on: &str| AppUpdate {
        dependencies: Some(StringList { items: vec![on.into()] }),
        ..app(id)
    };
    let apps = vec![depends("/g/a", "/g/b"), depends("/g/b", "/g/a")];
    let request = UpdateAppsRequest { apps, force: false, partial: false, create: true, limits: None };
    let Err(Refusal::Invalid(violations)) = cluster.change(Request::Update(request)) else { panic!() };
    assert_eq!(violations[0].errors, ["Dependency graph has cyclic dependencies."]);
    cluster.create(app("/g/a")).unwrap();
    for id in ["/g", "/g/a/b"] {
        let Err(Refusal::Invalid(violations)) = cluster.create(app(id)) else { panic!("{id}") };
        assert!(violations[0].errors[0].contains("same identifier"), "{violations:?}");
    }
}

#[test]
fn marathon_c55_a_dependent_app_waits_for_its_dependency() {
    let mut cluster = cluster();
    cluster.starts = false;
    let web = AppUpdate { dependencies: Some(StringList { items: vec!["/p/db".into()] }), ..app("/p/web") };
    let request = UpdateAppsRequest {
        apps: vec![web, app("/p/db")],
        force: false,
        partial: false,
        create: true,
        limits: None,
    };
    cluster.change(Request::Update(request)).unwrap();
    cluster.settle();
    assert_eq!(cluster.instances("/p/db").len(), 1);
    assert!(cluster.instances("/p/web").is_empty());
    assert_eq!(cluster.deployments()[0].current_step, 2);
    cluster.starts = true;
    cluster.settle();
    assert_eq!((cluster.running("/p/web"), cluster.deployments().len()), (1, 0));
}

#[test]
fn marathon_c63_a_version_that_never_comes_up_leaves_the_old_task() {
    let mut cluster = with_app(1);
    let old = cluster.task_ids("/a");
    cluster.starts = false;
    cluster.put(AppUpdate { cmd: Some("bad".into()), ..only("/a") }, false).unwrap();
    cluster.settle();
    assert_eq!(cluster.instances("/a").len(), 2);
    assert!(cluster.tasks.contains_key(&old[0]));
    assert_eq!(cluster.deployments().len(), 1);
}

#[test]
fn marathon_c64_scaling_down_ends_the_youngest_or_the_oldest() {
    for (selection, keep_first) in [(KillSelection::YoungestFirst, true), (KillSelection::OldestFirst, false)]
    {
        let mut cluster = with_app(1);
        let mut select = only("/a");
        select.set_kill_selection(selection);
        cluster.put(select, false).unwrap();
        cluster.settle();
        let first = cluster.task_ids("/a")[0].clone();
        cluster.pass(5000);
        cluster.put(AppUpdate { instances: Some(2), ..only("/a") }, false).unwrap();
        cluster.settle();
        cluster.pass(5000);
        cluster.put(AppUpdate { instances: Some(1), ..only("/a") }, false).unwrap();
        cluster.settle();
        assert_eq!(cluster.task_ids("/a") == [first], keep_first, "{selection:?}");
    }
}

#[test]
fn marathon_c65_what_does_not_fit_waits_with_a_reason() {
    let mut cluster = cluster();
    cluster.create(AppUpdate { instances: Some(2), ..huge() }).unwrap();
    cluster.settle();
    let queue = cluster.view.snapshot().queue;
    assert_eq!((queue.len(), queue[0].count, queue[0].delayed_until_ms), (1, 2, 0));
    let refusals = cluster.core.refusals("/a").unwrap();
    assert_eq!(refusals.by_reason[&crate::matcher::Reason::InsufficientCpus], 3);
}

#[test]
fn marathon_c66_c67_failing_tasks_are_delayed_until_reset() {
    let mut cluster = with_app(1);
    let mut waits = Vec::new();
    for _ in 0..3 {
        let task = cluster.task_ids("/a")[0].clone();
        cluster.end(&task, TaskState::TaskFailed);
        cluster.settle();
        let queue = cluster.view.snapshot().queue;
        waits.push(queue[0].delayed_until_ms - cluster.now);
        cluster.pass(waits[waits.len() - 1]);
        // Failed tasks ask for offers at most every five seconds, unless none were wanted before.
        cluster.pass(5000);
        assert_eq!(cluster.running("/a"), 1);
    }
    assert_eq!(waits, [1000, 1150, 1323]);
    let task = cluster.task_ids("/a")[0].clone();
    cluster.end(&task, TaskState::TaskFailed);
    cluster.settle();
    cluster.put(AppUpdate { instances: Some(2), ..only("/a") }, false).unwrap();
    cluster.settle();
    assert_eq!(cluster.running("/a"), 0);
    cluster.answer(Request::ResetDelay(ResetDelayRequest { app_id: "/a".into() })).unwrap();
    cluster.settle();
    assert_eq!(cluster.running("/a"), 2);
}

#[test]
fn marathon_c67_a_new_definition_starts_at_once() {
    let mut cluster = with_app(1);
    let task = cluster.task_ids("/a")[0].clone();
    cluster.end(&task, TaskState::TaskFailed);
    cluster.settle();
    cluster.put(AppUpdate { cmd: Some("sleep 5".into()), ..only("/a") }, false).unwrap();
    cluster.settle();
    assert_eq!(cluster.running("/a"), 1);
}

#[test]
fn marathon_c68_resetting_what_does_not_wait_is_an_error() {
    let mut cluster = with_app(1);
    let error = cluster.answer(Request::ResetDelay(ResetDelayRequest { app_id: "/a".into() })).unwrap_err();
    assert_eq!(error.to_string(), "Application /a not found in tasks queue.");
}

#[test]
fn marathon_c69_c70_failures_are_kept_and_finished_tasks_are_none() {
    let mut cluster = with_app(1);
    let task = cluster.task_ids("/a")[0].clone();
    cluster.end(&task, TaskState::TaskFinished);
    cluster.settle();
    assert!(cluster.view.snapshot().failures.is_empty());
    assert!(cluster.view.snapshot().queue[0].delayed_until_ms > 0);
    cluster.pass(10_000);
    let task = cluster.task_ids("/a")[0].clone();
    cluster.end(&task, TaskState::TaskFailed);
    cluster.settle();
    let failures = cluster.view.snapshot().failures;
    assert_eq!((failures[0].state.as_str(), failures[0].task_id.as_str()), ("TASK_FAILED", task.as_str()));
    assert!(!failures[0].host.is_empty());
}

#[test]
fn marathon_c71_c72_unique_does_not_block_an_upgrade() {
    let mut cluster = cluster();
    let unique = Constraint { field: "hostname".into(), operator: "unique".into(), value: None };
    let constraints = Some(ConstraintList { items: vec![unique] });
    cluster.create(AppUpdate { instances: Some(3), constraints, ..app("/a") }).unwrap();
    cluster.settle();
    assert_eq!(cluster.running("/a"), 3);
    cluster.put(AppUpdate { cmd: Some("sleep 7".into()), ..only("/a") }, false).unwrap();
    cluster.settle();
    assert_eq!((cluster.running("/a"), cluster.deployments().len()), (3, 0));
    cluster.put(AppUpdate { instances: Some(4), ..only("/a") }, false).unwrap();
    cluster.settle();
    assert_eq!((cluster.running("/a"), cluster.view.snapshot().queue[0].count), (3, 1));
}

#[test]
fn marathon_c86_deleting_an_app_ends_its_tasks() {
    let mut cluster = with_app(3);
    cluster.change(Request::Delete(DeleteAppRequest { id: "/a".into(), force: true })).unwrap();
    assert_eq!(cluster.app("/a"), None);
    cluster.settle();
    assert!(
        cluster.tasks.is_empty() && cluster.instances("/a").is_empty() && cluster.deployments().is_empty()
    );
    let killed = cluster.instances_seen.iter().filter(|i| i.condition() == Condition::Killed).count();
    assert_eq!(killed, 3);
    cluster.create(app("/a")).unwrap();
    cluster.settle();
    assert_eq!(cluster.running("/a"), 1);
}

#[test]
fn marathon_c90_a_rolling_restart_goes_on_after_a_change_of_leader() {
    let mut cluster = with_app(4);
    cluster.starts = false;
    cluster.put(AppUpdate { cmd: Some("sleep 3".into()), ..only("/a") }, false).unwrap();
    cluster.settle();
    let launched = cluster.launched.len();
    assert_eq!(launched, 8);
    cluster.change_leader();
    cluster.settle();
    cluster.starts = true;
    cluster.settle();
    assert_eq!(cluster.launched.len(), launched, "tasks that were started already are kept");
    assert_eq!((cluster.running("/a"), cluster.tasks.len(), cluster.deployments().len()), (4, 4, 0));
}

#[test]
fn marathon_c93_unreachable_tasks_are_replaced_unless_that_is_disabled() {
    let mut cluster = with_app(1);
    let task = cluster.task_ids("/a")[0].clone();
    cluster.report(&task, TaskState::TaskUnreachable);
    cluster.settle();
    assert_eq!(cluster.running("/a"), 1);
    assert_ne!(cluster.task_ids("/a")[0], task);
    // It comes back, and is not known any more.
    cluster.report(&task, TaskState::TaskRunning);
    cluster.settle();
    assert!(!cluster.tasks.contains_key(&task));
    let never = UnreachableStrategy { disabled: true, ..Default::default() };
    cluster.put(AppUpdate { unreachable_strategy: Some(never), ..only("/a") }, false).unwrap();
    cluster.settle();
    let task = cluster.task_ids("/a")[0].clone();
    cluster.report(&task, TaskState::TaskUnreachable);
    cluster.pass(3_600_000);
    assert_eq!(cluster.instances("/a")[0].condition(), Condition::Unreachable);
    assert_eq!(cluster.instances("/a").len(), 1);
}

#[test]
fn a_late_return_leaves_no_double() {
    let mut cluster = cluster();
    let strategy = UnreachableStrategy { disabled: false, inactive_after_s: 10, expunge_after_s: 600 };
    cluster.create(AppUpdate { unreachable_strategy: Some(strategy), ..app("/a") }).unwrap();
    cluster.settle();
    let task = cluster.task_ids("/a")[0].clone();
    cluster.report(&task, TaskState::TaskUnreachable);
    cluster.settle();
    assert_eq!(cluster.instances("/a").len(), 1);
    cluster.pass(10_000);
    assert_eq!((cluster.instances("/a").len(), cluster.running("/a")), (2, 1));
    cluster.report(&task, TaskState::TaskRunning);
    cluster.settle();
    assert_eq!((cluster.instances("/a").len(), cluster.tasks.len()), (1, 1));
}

#[test]
fn marathon_c97_no_more_deployments_than_allowed() {
    let mut cluster = cluster();
    for index in 0..100 {
        cluster.create(AppUpdate { id: Some(format!("/a{index}")), ..huge() }).unwrap();
    }
    let error = cluster.create(huge()).unwrap_err();
    assert!(error.to_string().starts_with("Max number (100) of running deployments is achieved."), "{error}");
}

#[test]
fn a_thousand_instances_go_out_in_one_call() {
    let mut cluster = cluster();
    cluster.cpus_per_agent = 1000.0;
    cluster
        .create(AppUpdate { instances: Some(1000), env: Some(StringMap::default()), ..app("/a") })
        .unwrap();
    cluster.settle();
    assert_eq!(cluster.running("/a"), 1000);
    let accepts = cluster.calls.iter().filter(|call| call.accept.is_some()).count();
    assert_eq!(accepts, 3);
}

#[test]
fn a_task_that_does_not_come_up_is_killed() {
    let mut cluster = cluster();
    cluster.starts = false;
    cluster.create(app("/a")).unwrap();
    cluster.settle();
    let task = cluster.task_ids("/a")[0].clone();
    cluster.pass(299_000);
    assert!(cluster.tasks.contains_key(&task));
    cluster.pass(2000);
    assert!(!cluster.tasks.contains_key(&task));
    assert_eq!(cluster.tasks.len(), 1, "launched again");
}

#[test]
fn a_refused_launch_is_tried_again() {
    let mut cluster = cluster();
    cluster.create(app("/a")).unwrap();
    cluster.offer();
    cluster.outputs.iter_mut().for_each(|output| output.after.retain(|a| !matches!(a, After::Launch { .. })));
    while cluster.commit() {}
    let task = cluster.task_ids("/a")[0].clone();
    cluster.input(Input::LaunchRefused { task_ids: vec![task], message: "no".into() });
    cluster.pass(10_000);
    assert_eq!(cluster.running("/a"), 1);
    assert!(cluster.task_ids("/a")[0].ends_with("._app.2"));
}

#[test]
fn offers_are_asked_for_once_and_refused_when_nothing_waits() {
    let mut cluster = with_app(1);
    let count = |cluster: &Cluster, f: fn(&meshos_proto::mesos::v1::scheduler::Call) -> bool| {
        cluster.calls.iter().filter(|call| f(call)).count()
    };
    assert!(!cluster.wants_offers);
    let revives = count(&cluster, |call| call.revive.is_some());
    cluster.create(app("/b")).unwrap();
    assert_eq!(count(&cluster, |call| call.revive.is_some()), revives + 1);
    cluster.settle();
    assert!(!cluster.wants_offers);
}
