//! Changes of many instances.

use meshos_proto::meshos::apps::v1::{AppUpdate, Condition, UpgradeStrategyUpdate};

use super::{
    super::*,
    cluster::{Cluster, app},
};

const MANY: u32 = 1500;

fn cluster() -> Cluster {
    let mut cluster = Cluster::new(5);
    cluster.cpus_per_agent = 1e6;
    cluster
}

fn many(instances: u32) -> AppUpdate {
    AppUpdate { instances: Some(instances), ..app("/a") }
}

fn stored_instances(cluster: &Cluster) -> usize {
    cluster.stored.keys().filter(|key| key.starts_with("apps/instances/")).count()
}

#[test]
fn a_large_app_is_made_and_ended_some_at_a_time() {
    let mut cluster = cluster();
    cluster.create(many(MANY)).unwrap();
    assert_eq!(cluster.instances("/a").len(), 1000, "others come in between");
    cluster.pass(1000);
    assert_eq!((cluster.running("/a"), cluster.deployments().len()), (MANY as usize, 0));
    cluster.put(many(600), false).unwrap();
    cluster.pass(1000);
    assert_eq!((cluster.running("/a"), cluster.tasks.len()), (600, 600));
    cluster.put(AppUpdate { cmd: Some("sleep 1".into()), ..many(600) }, false).unwrap();
    cluster.pass(1000);
    assert_eq!((cluster.running("/a"), cluster.tasks.len(), cluster.deployments().len()), (600, 600, 0));
    cluster.change(Request::Delete(DeleteAppRequest { id: "/a".into(), force: false })).unwrap();
    assert!(cluster.instances("/a").len() > 100);
    cluster.pass(1000);
    assert_eq!((cluster.instances("/a").len(), cluster.tasks.len(), cluster.deployments().len()), (0, 0, 0));
}

#[test]
fn what_is_about_to_go_is_not_launched() {
    let mut cluster = cluster();
    cluster.create(many(MANY)).unwrap();
    cluster.now += 40;
    cluster.input(Input::Tick);
    while cluster.commit() {}
    assert_eq!(cluster.instances("/a").len(), MANY as usize);
    cluster.now += 40;
    cluster.put(many(0), true).unwrap();
    assert!(cluster.instances("/a").iter().any(|instance| instance.condition() == Condition::Scheduled));
    cluster.wants_offers = true;
    cluster.offer();
    while cluster.commit() {}
    assert!(cluster.launched.is_empty());
    cluster.pass(1000);
    assert!(cluster.instances("/a").is_empty() && cluster.deployments().is_empty());
}

#[test]
fn only_what_was_launched_is_stored_and_a_new_leader_makes_the_rest() {
    let mut cluster = cluster();
    cluster.starts = false;
    cluster.create(many(5)).unwrap();
    assert_eq!((cluster.instances("/a").len(), stored_instances(&cluster)), (5, 0));
    cluster.change_leader();
    while cluster.commit() {}
    assert_eq!((cluster.instances("/a").len(), stored_instances(&cluster)), (5, 0));
    cluster.settle();
    assert_eq!((cluster.launched.len(), stored_instances(&cluster)), (5, 5));
    let written = cluster.written;
    for id in cluster.task_ids("/a") {
        cluster.report(&id, pb::TaskState::TaskStarting);
    }
    cluster.settle();
    assert_eq!(cluster.written, written, "that a task starts needs no record");
    cluster.change_leader();
    cluster.settle();
    for id in cluster.task_ids("/a") {
        cluster.report(&id, pb::TaskState::TaskRunning);
    }
    cluster.settle();
    assert_eq!((cluster.running("/a"), cluster.launched.len()), (5, 5));
}

#[test]
fn events_that_are_taken_in_together_come_to_the_same_as_one_by_one() {
    let launched = || {
        let mut cluster = cluster();
        cluster.starts = false;
        cluster.create(many(20)).unwrap();
        cluster.settle();
        for (at, id) in cluster.task_ids("/a").into_iter().enumerate() {
            let ends = if at % 5 == 0 { pb::TaskState::TaskFailed } else { pb::TaskState::TaskRunning };
            cluster.report(&id, pb::TaskState::TaskStarting);
            cluster.report(&id, ends);
        }
        cluster
    };
    let (mut one, mut two) = (launched(), launched());
    let mut outputs = Vec::new();
    for status in std::mem::take(&mut one.statuses) {
        outputs.push(one.core.handle(Input::Status(Box::new(status)), one.now));
    }
    let statuses = std::mem::take(&mut two.statuses).into_iter();
    let together = two.core.handle_all(statuses.map(|status| Input::Status(Box::new(status))), two.now);
    let sorted =
        |core: &Core| core.instances.values().map(|i| (i.id.clone(), i.clone())).collect::<BTreeMap<_, _>>();
    assert_eq!(sorted(&one.core), sorted(&two.core));
    assert_eq!(one.core.launchable, two.core.launchable);
    let occurred = |output: &Output| output.delta.occurrences.clone();
    assert_eq!(outputs.iter().flat_map(occurred).collect::<Vec<_>>(), occurred(&together));
    let calls = |outputs: &[Output]| outputs.iter().map(|output| output.after.len()).sum::<usize>();
    assert_eq!(calls(&outputs), calls(&[together]), "every status is acknowledged");
}

#[test]
fn another_number_of_instances_leaves_each_where_it_is() {
    let mut cluster = cluster();
    cluster.create(many(3)).unwrap();
    cluster.pass(1000);
    let filed = |cluster: &Cluster| format!("{:?}", cluster.core.apps["/a"].members);
    let before = filed(&cluster);
    cluster.change(Request::Update(UpdateAppsRequest { apps: vec![many(3)], ..Default::default() })).unwrap();
    assert_eq!(filed(&cluster), before);
    cluster.put(AppUpdate { cmd: Some("sleep 1".into()), ..many(3) }, false).unwrap();
    assert_ne!(filed(&cluster), before, "another configuration does not");
}

#[test]
fn while_agents_say_nothing_not_everything_is_launched() {
    let mut cluster = cluster();
    cluster.starts = false;
    cluster.create(many(12_000)).unwrap();
    cluster.pass(2000);
    assert_eq!(cluster.launched.len(), 11_000);
    for id in cluster.task_ids("/a").into_iter().filter(|id| !id.is_empty()) {
        cluster.report(&id, pb::TaskState::TaskStarting);
    }
    while cluster.commit() || cluster.deliver() {}
    cluster.pass(2000);
    assert_eq!(cluster.launched.len(), 12_000);
}

#[test]
fn kills_that_nothing_is_heard_of_hold_the_next_ones_back() {
    let mut cluster = cluster();
    cluster.create(many(13_000)).unwrap();
    cluster.pass(2000);
    assert_eq!(cluster.running("/a"), 13_000);
    cluster.ask(Request::Delete(DeleteAppRequest { id: "/a".into(), force: false }));
    let mut told = BTreeSet::new();
    for _ in 0..20 {
        cluster.now += 40;
        cluster.input(Input::Tick);
        while cluster.commit() {}
        told.extend(cluster.calls.drain(..).filter_map(|call| Some(call.kill?.task_id.value)));
    }
    assert_eq!(told.len(), 12_000, "the last ones come more slowly");
    while cluster.commit() || cluster.deliver() {}
    cluster.pass(5000);
    assert_eq!((cluster.instances("/a").len(), cluster.tasks.len(), cluster.deployments().len()), (0, 0, 0));
}

/// Tasks that were told to end since the last time.
fn told(cluster: &mut Cluster) -> Vec<String> {
    while cluster.commit() {}
    cluster.calls.drain(..).filter_map(|call| Some(call.kill?.task_id.value)).collect()
}

/// Time passes, and nothing is heard of any task.
fn deafly_pass(cluster: &mut Cluster, ms: u64) {
    cluster.now += ms;
    cluster.input(Input::Tick);
}

#[test]
fn a_restart_that_ends_very_many_makes_new_ones_meanwhile() {
    let mut cluster = cluster();
    let strategy =
        UpgradeStrategyUpdate { minimum_health_capacity: Some(0.0), maximum_over_capacity: Some(1.0) };
    cluster.create(AppUpdate { upgrade_strategy: Some(strategy), ..many(3000) }).unwrap();
    cluster.pass(1000);
    told(&mut cluster);
    cluster.put(AppUpdate { cmd: Some("sleep 1".into()), ..many(3000) }, false).unwrap();
    for made in [1000, 2000, 3000] {
        assert_eq!(told(&mut cluster).len(), 1000);
        let new = cluster.instances("/a").into_iter().filter(|one| one.condition() == Condition::Scheduled);
        assert_eq!(new.count(), made);
        deafly_pass(&mut cluster, 40);
    }
    while cluster.commit() || cluster.deliver() {}
    cluster.pass(1000);
    assert_eq!((cluster.running("/a"), cluster.tasks.len(), cluster.deployments().len()), (3000, 3000, 0));
}

#[test]
fn a_new_subscription_repeats_kills_some_at_a_time() {
    let mut cluster = cluster();
    cluster.create(many(MANY)).unwrap();
    cluster.pass(1000);
    told(&mut cluster);
    cluster.ask(Request::Delete(DeleteAppRequest { id: "/a".into(), force: false }));
    deafly_pass(&mut cluster, 40);
    let all: BTreeSet<String> = told(&mut cluster).into_iter().collect();
    assert_eq!(all.len(), MANY as usize);
    let again: fn(&mut Cluster) = |cluster| {
        cluster.input(Input::Disconnected);
        cluster.input(Input::Subscribed { framework_id: "F".into() });
    };
    for subscribe in [again, Cluster::change_leader] {
        subscribe(&mut cluster);
        assert!(told(&mut cluster).is_empty());
        let mut repeated = Vec::new();
        for _ in 0..100 {
            deafly_pass(&mut cluster, 1);
            let some = told(&mut cluster);
            assert!(some.len() <= 50, "{}", some.len());
            repeated.extend(some);
        }
        assert_eq!(repeated.len(), MANY as usize);
        assert!(repeated.into_iter().collect::<BTreeSet<_>>() == all);
    }
}

#[test]
fn a_task_that_was_told_to_end_twice_is_not_told_twice_as_often() {
    let mut cluster = cluster();
    cluster.create(many(1)).unwrap();
    cluster.settle();
    let request = KillTasksRequest { task_ids: cluster.task_ids("/a"), ..Default::default() };
    cluster.answer(Request::Kill(request.clone())).unwrap();
    deafly_pass(&mut cluster, 10_000);
    cluster.answer(Request::Kill(request)).unwrap();
    assert_eq!(told(&mut cluster).len(), 2);
    let begin = cluster.now;
    let mut at = Vec::new();
    while let Some(due) = cluster.core.next_deadline().filter(|due| *due <= begin + 100_000) {
        cluster.now = due;
        cluster.input(Input::Tick);
        at.extend(told(&mut cluster).iter().map(|_| due - begin));
    }
    assert_eq!(at, [30_000, 60_000, 90_000]);
}
