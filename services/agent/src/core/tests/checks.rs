//! Health checks and checks from their first probe to what the framework is told.

use meshos_proto::mesos::v1::{check_info, health_check};

use super::*;
use crate::containerizer::{ProbeKind, ProbeOutcome};

fn checked(health: bool, check: bool) -> pb::TaskInfo {
    let http = check_info::Http { port: 80, path: Some("/x".to_owned()) };
    pb::TaskInfo {
        health_check: health.then(|| pb::HealthCheck {
            r#type: Some(health_check::Type::Tcp as i32),
            tcp: Some(health_check::TcpCheckInfo { port: 8080, protocol: None }),
            ..pb::HealthCheck::default()
        }),
        check: check.then(|| pb::CheckInfo {
            r#type: Some(check_info::Type::Http as i32),
            http: Some(http),
            ..pb::CheckInfo::default()
        }),
        ..task("t")
    }
}

impl Scene {
    /// Goes to the next probe; it finds this.
    fn next_probe(&mut self, outcome: ProbeOutcome) -> Duration {
        while self.probes.is_empty() {
            self.time = self.core.next_timer().unwrap();
            self.input(Input::Timer);
        }
        let at = self.time;
        let (which, probe) = self.probes.remove(0);
        self.input(Input::Probed { container_id: probe.container_id, which, outcome });
        at
    }

    /// The newest update of the task, sent or not.
    fn newest(&self) -> pb::TaskStatus {
        self.core.reregister().tasks[0].statuses.last().cloned().unwrap()
    }
}

const UP: ProbeOutcome = ProbeOutcome::Connected(true);
const DOWN: ProbeOutcome = ProbeOutcome::Connected(false);

#[test]
fn three_failures_after_the_grace_period_kill_a_task() {
    let mut scene = Scene::new();
    let container = scene.run_with(&[Capability::TaskKillingState], checked(true, false));
    scene.drain();
    // With the defaults the first one comes after 15 s, the next ones after 10 s each; grace is 10 s.
    assert_eq!(scene.next_probe(DOWN), Duration::from_secs(15));
    let status = scene.acknowledge();
    assert_eq!((status.state(), status.healthy), (TaskState::TaskRunning, Some(false)));
    assert_eq!(
        (status.reason(), status.source()),
        (Reason::TaskHealthCheckStatusUpdated, pb::task_status::Source::Executor)
    );
    assert_eq!(status.message(), "Health check failed: no connection");
    assert_eq!(scene.next_probe(DOWN), Duration::from_secs(25));
    assert!(scene.signals.is_empty());
    scene.next_probe(DOWN);
    assert_eq!(scene.signals, [(container.clone(), 15)]);
    scene.drain();
    let killing = scene.newest();
    assert_eq!((killing.state(), killing.healthy), (TaskState::TaskKilling, Some(false)));
    scene.exit(&container, ExitStatus::Signal(15));
    let killed = scene.sent.last().unwrap().status.clone().unwrap();
    assert_eq!((killed.state(), killed.healthy), (TaskState::TaskKilled, Some(false)));
    assert!(scene.probes.is_empty());
    while let Some(at) = scene.core.next_timer().filter(|at| *at < Duration::from_secs(600)) {
        scene.time = at;
        scene.input(Input::Timer);
    }
    assert!(scene.probes.is_empty(), "nothing is probed any more");
}

#[test]
fn health_is_told_when_it_changes_and_survives_other_news() {
    let mut scene = Scene::new();
    scene.run(checked(true, true));
    let first = scene.newest();
    assert_eq!((first.healthy, first.check_status.unwrap().http.unwrap().status_code), (None, None));
    scene.drain();
    let mut told = Vec::new();
    let outcomes =
        [UP, ProbeOutcome::Status(200), UP, ProbeOutcome::Status(200), DOWN, ProbeOutcome::Status(500), UP];
    for outcome in outcomes {
        let before = scene.sent.len();
        scene.next_probe(outcome);
        if scene.sent.len() > before {
            let status = scene.acknowledge();
            told.push((
                status.reason(),
                status.healthy,
                status.check_status.unwrap().http.unwrap().status_code,
            ));
        }
    }
    let (health, check) = (Reason::TaskHealthCheckStatusUpdated, Reason::TaskCheckStatusUpdated);
    let wanted = [
        (health, Some(true), None),
        (check, Some(true), Some(200)),
        (health, Some(false), Some(200)),
        (check, Some(false), Some(500)),
        (health, Some(true), Some(500)),
    ];
    assert_eq!(told, wanted);
    assert_eq!(scene.core.reregister().tasks[0].statuses.len(), 2, "one entry for each state");
}

#[test]
fn a_command_is_probed_beside_the_task_as_its_user() {
    let mut scene = Scene::new();
    let command = pb::CommandInfo {
        value: Some("test -e ok".to_owned()),
        environment: Some(pb::Environment {
            variables: vec![pb::environment::Variable {
                name: "OWN".to_owned(),
                value: Some("1".to_owned()),
                ..pb::environment::Variable::default()
            }],
        }),
        ..pb::CommandInfo::default()
    };
    // Frameworks that know no type give the command alone.
    let health =
        pb::HealthCheck { command: Some(command), timeout_seconds: Some(0.0), ..pb::HealthCheck::default() };
    let mut info = task("t");
    info.command.as_mut().unwrap().user = Some("nobody".to_owned());
    let container = scene.run(pb::TaskInfo { health_check: Some(health), ..info });
    scene.wait(Duration::from_secs(15));
    let (_, probe) = scene.probes[0].clone();
    scene.next_probe(ProbeOutcome::Exited(0));
    let ProbeKind::Command(spec) = probe.kind else { panic!("{probe:?}") };
    assert_eq!((probe.timeout, spec.user.as_deref()), (None, Some("nobody")));
    assert_eq!(spec.sandbox, scene.launched[0].sandbox);
    assert!(spec.container_id.starts_with(&container) && spec.container_id != container);
    assert_eq!(
        (spec.environment["OWN"].as_str(), spec.arguments.last().unwrap().as_str()),
        ("1", "test -e ok")
    );
    assert!(spec.environment.contains_key("MESOS_SANDBOX"));
    assert_eq!(scene.newest().healthy, Some(true));
}

#[test]
fn checks_go_on_after_a_restart_of_the_agent() {
    let mut scene = Scene::new();
    let container = scene.run(checked(true, true));
    scene.drain();
    scene.next_probe(DOWN);
    scene.next_probe(ProbeOutcome::Status(200));
    scene.drain();
    let recovered = Recovered { container_id: container, pid: 42, exit: None };
    let mut scene = scene.restart(vec![recovered]);
    scene.link();
    scene.drain();
    scene.wait(Duration::from_secs(10));
    assert_eq!(scene.probes.len(), 2, "both were made soon");
    let probes = std::mem::take(&mut scene.probes);
    for (which, probe) in probes {
        let outcome = if which == Which::Health { UP } else { ProbeOutcome::Status(200) };
        scene.input(Input::Probed { container_id: probe.container_id, which, outcome });
    }
    assert_eq!(scene.newest().healthy, Some(true), "the recovery is told");
    let status = scene.newest();
    assert_eq!(status.check_status.unwrap().http.unwrap().status_code, Some(200));
    assert_eq!(status.reason(), Reason::TaskHealthCheckStatusUpdated, "the check found what was known");
}

#[test]
fn a_kill_during_the_launch_gives_it_up() {
    let mut scene = Scene::new();
    let uri = pb::command_info::Uri { value: "http://h/x".to_owned(), ..pb::command_info::Uri::default() };
    let mut info = task("t");
    info.command.as_mut().unwrap().uris = vec![uri];
    scene.launch_with(&[], vec![info]);
    let container_id = scene.launched[0].container_id.clone();
    assert_eq!(scene.launched[0].uris[0].value, "http://h/x");
    assert!(scene.launched[0].uris[0].extract, "the default");
    scene.kill("t", None);
    assert_eq!((scene.abandoned.as_slice(), scene.signals.len()), ([container_id.clone()].as_slice(), 0));
    scene.input(Input::LaunchFailed { container_id, reason: "killed before it started".to_owned() });
    scene.drain();
    let status = scene.sent.last().unwrap().status.clone().unwrap();
    assert_eq!((status.state(), status.reason()), (TaskState::TaskKilled, Reason::TaskKilledDuringLaunch));
}

#[test]
fn a_task_that_takes_too_much_disk_ends_with_a_limitation() {
    let mut scene = Scene::new();
    let disk = meshos_types::parse_resources("cpus:1;disk:64", &meshos_types::RoleName::star()).unwrap();
    let resources = disk.resources.to_proto(meshos_types::Format::PostRefinement);
    let container = scene.run(pb::TaskInfo { resources, ..task("t") });
    let live = scene.core.live_sandboxes(true);
    assert_eq!((live.len(), live[0].directory.as_path()), (1, scene.launched[0].sandbox.as_path()));
    let quota = &live[0].disks[0];
    assert_eq!(quota.exceeded_by(64 << 20), None);
    let limitation = quota.exceeded_by((64 << 20) + 1).unwrap();
    assert_eq!(limitation.message, "Disk usage (65MB) exceeds quota (64MB)");
    scene.input(Input::LimitExceeded { container_id: container.clone(), limitation });
    assert_eq!(scene.signals, [(container.clone(), 9)]);
    scene.exit(&container, ExitStatus::Signal(9));
    scene.drain();
    let status = scene.sent.last().unwrap().status.clone().unwrap();
    assert_eq!((status.state(), status.reason()), (TaskState::TaskFailed, Reason::ContainerLimitationDisk));
    assert_eq!(status.limitation.unwrap().resources[0].name, "disk");
    assert!(scene.core.live_sandboxes(true).is_empty());
    assert_eq!(scene.past, [scene.launched[0].sandbox.clone()], "its sandbox may be removed");
}
