use super::*;

#[test]
fn mesos_c40_a_kill_is_term_then_kill_after_3_seconds() {
    let mut scene = Scene::new();
    let container = scene.run(task("t"));
    scene.kill("t", None);
    assert_eq!(scene.signals, [(container.clone(), 15)]);
    scene.wait(Duration::from_millis(2999));
    assert_eq!(scene.signals.len(), 1);
    scene.wait(Duration::from_millis(1));
    assert_eq!(scene.signals[1], (container.clone(), 9));
    scene.wait(seconds(1));
    assert_eq!(scene.signals.len(), 3, "SIGKILL is repeated");
    scene.exit(&container, ExitStatus::Signal(9));
    assert_eq!(scene.drain(), [TaskState::TaskStarting, TaskState::TaskRunning, TaskState::TaskKilled]);
    assert_eq!(scene.last().message(), "Command terminated with signal Killed");
    let signals = scene.signals.len();
    scene.wait(seconds(100));
    assert_eq!(scene.signals.len(), signals, "nothing is signalled after its end");
}

#[test]
fn mesos_c41_killing_comes_first_where_it_is_known() {
    let mut scene = Scene::new();
    let container = scene.run_with(&[Capability::TaskKillingState], task("t"));
    scene.kill("t", None);
    // It may even end well: it is killed all the same.
    scene.exit(&container, ExitStatus::Code(0));
    let states = scene.drain();
    assert_eq!(states[2..], [TaskState::TaskKilling, TaskState::TaskKilled]);
}

#[test]
fn a_second_kill_may_only_be_stricter() {
    let mut scene = Scene::new();
    let mut info = task("t");
    info.kill_policy =
        Some(pb::KillPolicy { grace_period: Some(pb::DurationInfo { nanoseconds: 20_000_000_000 }) });
    scene.run(info);
    scene.kill("t", None);
    scene.kill("t", Some(seconds(60)));
    scene.wait(seconds(5));
    assert_eq!(scene.signals.len(), 1);
    scene.kill("t", Some(seconds(2)));
    scene.wait(seconds(2));
    assert_eq!(scene.signals[1].1, 9, "two seconds after the stricter kill");
}

#[test]
fn a_kill_before_the_start_says_so() {
    let mut scene = Scene::new();
    scene.launch_with(&[], vec![task("t")]);
    let container = scene.launched[0].container_id.clone();
    scene.kill("t", None);
    assert!(scene.signals.is_empty(), "there is nothing to signal yet");
    scene.input(Input::Launched { container_id: container.clone(), pid: 1 });
    assert_eq!(scene.signals, [(container.clone(), 9)]);
    scene.wait(seconds(1));
    assert_eq!(scene.signals.len(), 2, "until it is gone");
    scene.exit(&container, ExitStatus::Signal(9));
    assert_eq!(scene.drain(), [TaskState::TaskStarting, TaskState::TaskKilled]);
    assert_eq!(scene.last().reason(), Reason::TaskKilledDuringLaunch);
}

#[test]
fn max_completion_time_ends_a_task_as_failed() {
    let mut scene = Scene::new();
    let mut info = task("t");
    info.max_completion_time = Some(pb::DurationInfo { nanoseconds: 7_000_000_000 });
    let container = scene.run_with(&[Capability::TaskKillingState], info);
    scene.wait(seconds(7));
    assert_eq!(scene.signals, [(container.clone(), 15)]);
    scene.exit(&container, ExitStatus::Signal(15));
    assert_eq!(scene.drain(), [TaskState::TaskStarting, TaskState::TaskRunning, TaskState::TaskFailed]);
    assert_eq!(scene.last().reason(), Reason::MaxCompletionTimeReached);
}

#[test]
fn a_framework_that_is_shut_down_leaves_nothing_and_nobody_is_told() {
    let mut scene = Scene::new();
    let container = scene.run(task("t"));
    scene.drain();
    let sent = scene.sent.len();
    scene.obey(Body::ShutdownFramework(ShutdownFramework {
        framework_id: Some(pb::FrameworkId { value: FRAMEWORK.to_owned() }),
    }));
    scene.wait(seconds(5));
    assert_eq!(scene.signals, [(container.clone(), 15), (container.clone(), 9)]);
    scene.exit(&container, ExitStatus::Signal(9));
    assert_eq!((scene.state("t"), scene.sent.len()), (None, sent));
    assert_eq!(scene.cleaned, [container]);
    assert!(scene.core.reregister().tasks.is_empty());
}

#[test]
fn all_tasks_end_when_the_node_stops() {
    let mut scene = Scene::new();
    let container = scene.run(task("t"));
    scene.input(Input::Shutdown);
    assert_eq!((scene.core.live(), scene.signals.len()), (1, 1));
    scene.launch_with(&[], vec![task("late")]);
    assert_eq!(scene.launched.len(), 1, "nothing starts any more");
    scene.exit(&container, ExitStatus::Signal(15));
    assert_eq!(scene.core.live(), 0);
}
