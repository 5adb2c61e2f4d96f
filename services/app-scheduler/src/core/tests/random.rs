//! Random requests, task outcomes, delays and changes of leader; then quiet. In the end exactly what is wanted runs.

use meshos_proto::{
    meshos::apps::v1::{AppUpdate, Condition, DeploymentLimits, UpgradeStrategyUpdate},
    mesos::v1::TaskState,
};
use proptest::prelude::*;

use super::{
    super::*,
    cluster::{Cluster, app},
    judged::with_readiness,
};

const APPS: [&str; 3] = ["/a", "/g/b", "/g/c"];

/// More for a longer search, which wants a release build: `MESHOS_TEST_CASES=20000 cargo test --release
/// -p meshos-app-scheduler --lib random`.
fn cases() -> u32 {
    std::env::var("MESHOS_TEST_CASES").ok().and_then(|count| count.parse().ok()).unwrap_or(300)
}

/// What happens next.
#[derive(Clone, Debug)]
enum Happening {
    Put { app: usize, instances: u32, cmd: u8, strategy: u8, limits: u8, force: bool },
    Delete(usize),
    Restart(usize),
    Kill { pick: usize, scale: bool, wipe: bool },
    Cancel { pick: usize, force: bool },
    Report { pick: usize, state: u8 },
    Offer,
    Commit,
    Deliver,
    Leader,
    Reconnect,
    Pass(u64),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        3 => (0usize..3, 0u32..5, 0u8..3, 0u8..4, 0u8..4, any::<bool>()).prop_map(
            |(app, instances, cmd, strategy, limits, force)| {
                Happening::Put { app, instances, cmd, strategy, limits, force }
            }
        ),
        1 => (0usize..3).prop_map(Happening::Delete),
        1 => (0usize..3).prop_map(Happening::Restart),
        2 => (0usize..20, any::<bool>(), any::<bool>())
            .prop_map(|(pick, scale, wipe)| Happening::Kill { pick, scale, wipe }),
        1 => (0usize..5, any::<bool>()).prop_map(|(pick, force)| Happening::Cancel { pick, force }),
        10 => (0usize..20, 0u8..12).prop_map(|(pick, state)| Happening::Report { pick, state }),
        6 => Just(Happening::Offer),
        12 => Just(Happening::Commit),
        10 => Just(Happening::Deliver),
        1 => Just(Happening::Leader),
        1 => Just(Happening::Reconnect),
        2 => (1u64..8000).prop_map(Happening::Pass),
    ]
}

fn pick<'a, T>(mut items: impl Iterator<Item = &'a T> + Clone, at: usize) -> Option<&'a T> {
    let count = items.clone().count();
    if count == 0 { None } else { items.nth(at % count) }
}

fn put(app_id: &str, instances: u32, cmd: u8, strategy: u8) -> AppUpdate {
    let (minimum, over) = [(1.0, 1.0), (0.5, 0.0), (1.0, 0.0), (0.0, 0.5)][usize::from(strategy)];
    let strategy =
        UpgradeStrategyUpdate { minimum_health_capacity: Some(minimum), maximum_over_capacity: Some(over) };
    AppUpdate {
        instances: Some(instances),
        cmd: Some(format!("sleep {cmd}")),
        upgrade_strategy: Some(strategy),
        ..app(app_id)
    }
}

fn happen(cluster: &mut Cluster, happening: &Happening) {
    match happening.clone() {
        Happening::Put { app, instances, cmd, strategy, limits, force } => {
            let mut update = put(APPS[app], instances, cmd, strategy);
            if app == 2 {
                update = AppUpdate { readiness_checks: with_readiness("").readiness_checks, ..update };
                update.port_definitions = with_readiness("").port_definitions;
            }
            let apps = vec![update];
            let limits = match limits {
                0 => Some(DeploymentLimits { deadline_s: Some(5), max_failures: None }),
                1 => Some(DeploymentLimits { deadline_s: None, max_failures: Some(1) }),
                _ => None,
            };
            cluster.ask(Request::Update(UpdateAppsRequest {
                apps,
                force,
                partial: true,
                create: true,
                limits,
            }));
        }
        Happening::Delete(app) => {
            cluster.ask(Request::Delete(DeleteAppRequest { id: APPS[app].into(), force: true }));
        }
        Happening::Restart(app) => {
            cluster.ask(Request::Restart(RestartAppRequest {
                id: APPS[app].into(),
                force: true,
                limits: None,
            }));
        }
        Happening::Kill { pick: at, scale, wipe } => {
            let task_ids: Vec<_> = pick(cluster.tasks.keys(), at).into_iter().cloned().collect();
            if !task_ids.is_empty() {
                let request = KillTasksRequest {
                    task_ids,
                    scale,
                    wipe: wipe && !scale,
                    force: true,
                    ..Default::default()
                };
                cluster.ask(Request::Kill(request));
            }
        }
        Happening::Cancel { pick: at, force } => {
            let ids: Vec<_> = cluster.core.running_deployments().into_iter().map(|d| d.id.clone()).collect();
            if let Some(id) = pick(ids.iter(), at) {
                cluster.ask(Request::Cancel(CancelDeploymentRequest { id: id.clone(), force }));
            }
        }
        Happening::Report { pick: at, state } => {
            let Some(id) = pick(cluster.tasks.keys(), at).cloned() else { return };
            match state {
                0 => cluster.end(&id, TaskState::TaskFailed),
                1 => cluster.end(&id, TaskState::TaskFinished),
                2 => cluster.report(&id, TaskState::TaskUnreachable),
                3 => cluster.report(&id, TaskState::TaskStarting),
                _ => cluster.report(&id, TaskState::TaskRunning),
            }
        }
        Happening::Offer => cluster.offer(),
        Happening::Commit => drop(cluster.commit()),
        Happening::Deliver => drop(cluster.deliver()),
        Happening::Leader => cluster.change_leader(),
        Happening::Reconnect => {
            cluster.input(Input::Disconnected);
            cluster.wants_offers = true;
            cluster.input(Input::Subscribed { framework_id: "F".into() });
        }
        Happening::Pass(ms) => {
            cluster.now += ms;
            cluster.input(Input::Tick);
        }
    }
}

/// Unreachable tasks come back, and a day goes by.
fn quiet(cluster: &mut Cluster) {
    cluster.settle();
    let lost: Vec<String> = cluster
        .tasks
        .iter()
        .filter(|(_, task)| task.state == TaskState::TaskUnreachable)
        .map(|(id, _)| id.clone())
        .collect();
    lost.iter().for_each(|id| cluster.report(id, TaskState::TaskRunning));
    cluster.settle();
    cluster.pass(1_300_000);
}

fn assert_converged(cluster: &Cluster) {
    let snapshot = cluster.view.snapshot();
    assert!(snapshot.deployments.is_empty(), "{:#?}", snapshot.deployments);
    for app in &snapshot.apps {
        let running = cluster.running(&app.id);
        assert_eq!(running, app.instances as usize, "{} {:#?}", app.id, cluster.instances(&app.id));
    }
    let mut wanted: Vec<_> = snapshot.instances.iter().map(|instance| instance.task_id.clone()).collect();
    wanted.sort();
    assert_eq!(wanted, cluster.tasks.keys().cloned().collect::<Vec<_>>());
    assert!(snapshot.instances.iter().all(|instance| instance.condition() == Condition::Running));
    assert!(snapshot.queue.is_empty());
    let stored = crate::view::View::new(&crate::store::Records::from_map(&cluster.stored), String::new());
    let mut stored = stored.snapshot();
    stored.queue = snapshot.queue.clone();
    assert_eq!(stored.failures, snapshot.failures, "what is shown is what is stored");
    assert_eq!(stored.finished, snapshot.finished, "what is shown is what is stored");
    assert_eq!(stored, snapshot, "what is shown is what is stored");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn in_the_end_exactly_what_is_wanted_runs(
        seed in any::<u64>(), happenings in prop::collection::vec(happening(), 1..150),
    ) {
        let mut cluster = Cluster::new(seed);
        cluster.answers_ready = true;
        for happening in &happenings {
            happen(&mut cluster, happening);
        }
        quiet(&mut cluster);
        assert_converged(&cluster);
    }

    #[test]
    fn a_rolling_restart_keeps_within_its_bounds(
        seed in any::<u64>(), n in 1u32..6, strategy in 0u8..4,
        order in prop::collection::vec((0usize..20, 0u8..3), 0..80),
    ) {
        let mut cluster = Cluster::new(seed);
        cluster.create(put("/a", n, 0, strategy)).unwrap();
        cluster.settle();
        let (minimum, over) = [(1.0, 1.0), (0.5, 0.0), (1.0, 0.0), (0.0, 0.5)][usize::from(strategy)];
        let limits = crate::deployment::upgrade::Limits::new(n as usize, minimum, over);
        cluster.starts = false;
        cluster.put(put("/a", n, 1, strategy), false).unwrap();
        for (at, what) in order {
            match what {
                0 => drop(cluster.commit()),
                1 => {
                    let staging = cluster.tasks.iter().filter(|(_, task)| task.state == TaskState::TaskStaging);
                    let ids: Vec<String> = staging.map(|(id, _)| id.clone()).collect();
                    if let Some(id) = pick(ids.iter(), at) {
                        cluster.report(id, TaskState::TaskRunning);
                    }
                }
                _ => {
                    cluster.deliver();
                    cluster.offer();
                }
            }
            let running = cluster.tasks.values().filter(|task| task.state == TaskState::TaskRunning).count();
            assert!(cluster.tasks.len() <= limits.max_capacity, "{} {limits:?}", cluster.tasks.len());
            assert!(running >= limits.min_healthy.min(n as usize), "{running} {limits:?}");
        }
        cluster.starts = true;
        cluster.settle();
        assert_converged(&cluster);
    }
}
