use super::*;

#[test]
fn only_the_newest_allocator_is_obeyed() {
    let mut scene = Scene::new();
    scene.run(task("t"));
    scene.epoch = 4;
    scene.kill("t", None);
    scene.launch_with(&[], vec![task("u")]);
    assert!(scene.signals.is_empty() && scene.launched.len() == 1);
    scene.epoch = 9;
    scene.link();
    assert_eq!(scene.core.reregister().highest_epoch, 9);
    let scene = scene.restart(vec![]);
    assert_eq!(scene.core.reregister().highest_epoch, 9, "the epoch survives a restart");
}

pub(super) fn running(container_id: &str) -> Recovered {
    Recovered { container_id: container_id.to_owned(), pid: 42, exit: None }
}

pub(super) fn ended(container_id: &str, status: ExitStatus) -> Recovered {
    Recovered { exit: Some(Exit { status, out_of_memory: false }), ..running(container_id) }
}

#[test]
fn mesos_c50_after_a_restart_tasks_run_on_and_no_terminal_update_is_sent() {
    let mut scene = Scene::new();
    let container = scene.run(task("t"));
    scene.drain();
    let mut scene = scene.restart(vec![running(&container)]);
    assert_eq!(scene.core.agent_id().map(AgentId::as_str), Some("a-S0"));
    assert_eq!(scene.core.reregister().tasks[0].state(), TaskState::TaskRunning);
    scene.link();
    assert!(scene.sent.is_empty() && scene.signals.is_empty() && scene.launched.is_empty());
    scene.exit(&container, ExitStatus::Code(3));
    assert_eq!(scene.drain(), [TaskState::TaskFailed]);
    assert_eq!(scene.last().message(), "Command exited with status 3");
}

#[test]
fn what_ended_while_no_agent_ran_is_told_with_its_status() {
    let mut scene = Scene::new();
    let container = scene.run(task("t"));
    let mut scene = scene.restart(vec![ended(&container, ExitStatus::Code(7))]);
    scene.link();
    assert_eq!(scene.drain(), [TaskState::TaskStarting, TaskState::TaskRunning, TaskState::TaskFailed]);
    assert_eq!(scene.last().message(), "Command exited with status 7");
    assert_eq!(scene.cleaned, [container]);
}

#[test]
fn what_is_gone_after_a_restart_failed_and_what_never_started_was_dropped() {
    for (aware, state) in [(false, TaskState::TaskLost), (true, TaskState::TaskDropped)] {
        let capabilities: &[Capability] = if aware { &[Capability::PartitionAware] } else { &[] };
        let mut scene = Scene::new();
        scene.run_with(capabilities, task("ran"));
        scene.drain();
        scene.launch_with(capabilities, vec![task("new")]);
        scene.acknowledge();
        let mut scene = scene.restart(vec![]);
        scene.link();
        let by_task: BTreeMap<_, _> = scene
            .sent
            .iter()
            .map(|update| update.status.clone().unwrap())
            .map(|s| (s.task_id.value.clone(), s))
            .collect();
        assert_eq!(
            (by_task["ran"].state(), by_task["ran"].reason()),
            (TaskState::TaskFailed, Reason::ExecutorTerminated)
        );
        assert_eq!((by_task["new"].state(), by_task["new"].reason()), (state, Reason::AgentRestarted));
    }
}

#[test]
fn a_launch_whose_answer_was_lost_with_the_agent_is_found() {
    let mut scene = Scene::new();
    scene.launch_with(&[], vec![task("t")]);
    let container = scene.launched[0].container_id.clone();
    let mut scene = scene.restart(vec![running(&container)]);
    scene.link();
    assert_eq!(scene.drain(), [TaskState::TaskStarting, TaskState::TaskRunning]);
    assert!(scene.launched.is_empty());
}

#[test]
fn a_kill_survives_a_restart() {
    let mut scene = Scene::new();
    let container = scene.run(task("t"));
    scene.drain();
    scene.kill("t", Some(seconds(4)));
    let mut scene = scene.restart(vec![running(&container)]);
    assert_eq!(scene.signals, [(container.clone(), 15)]);
    scene.wait(seconds(4));
    assert_eq!(scene.signals[1], (container.clone(), 9));
    scene.link();
    scene.exit(&container, ExitStatus::Signal(9));
    assert_eq!(scene.drain(), [TaskState::TaskKilled]);
}

#[test]
fn containers_of_no_task_are_ended_and_forgotten() {
    let scene = Scene::new();
    let mut scene = scene.restart(vec![running("lives"), ended("dead", ExitStatus::Code(0))]);
    assert_eq!(
        (scene.signals.clone(), scene.cleaned.clone()),
        (vec![("lives".to_owned(), 9)], vec!["dead".to_owned()])
    );
    scene.exit("lives", ExitStatus::Signal(9));
    assert_eq!(scene.cleaned[1], "lives");
}

#[test]
fn what_a_framework_does_not_want_checkpointed_is_not() {
    let mut scene = Scene::new();
    let plain = pb::FrameworkInfo { checkpoint: Some(false), ..framework(&[]) };
    scene.obey(Body::Launch(Launch { framework: Some(plain), tasks: vec![task("t")], ..Launch::default() }));
    let container = scene.launched[0].container_id.clone();
    let scene = scene.restart(vec![running(&container)]);
    assert!(scene.core.reregister().tasks.is_empty());
    assert_eq!(scene.signals, [(container, 9)], "its tasks die with the agent");
}

#[test]
fn the_fewest_records_give_the_same_state() {
    let mut scene = Scene::new();
    let done = scene.run(task("done"));
    scene.exit(&done, ExitStatus::Code(0));
    scene.drain();
    let runs = scene.run(task("runs"));
    scene.acknowledge();
    scene.kill("runs", None);
    let mut replay = Replay::default();
    for record in scene.core.records() {
        replay.apply(record).unwrap();
    }
    let (core, _) = Core::recover(settings(), Rng::seeded(3), replay, vec![running(&runs)], Now::default());
    assert_eq!(core.reregister(), scene.core.reregister());
    assert_eq!(core.view().frameworks[0].completed, scene.core.view().frameworks[0].completed);
}

#[test]
fn the_history_is_bounded() {
    let mut scene = Scene::new();
    for n in 0..60 {
        let id = Some(pb::FrameworkId { value: format!("f-{n:04}") });
        let framework = Some(pb::FrameworkInfo { id: id.clone(), ..framework(&[]) });
        let mut bad = task("t");
        bad.command = None;
        scene.obey(Body::Launch(Launch {
            framework,
            tasks: vec![bad],
            traceparent: String::new(),
            group_executor: None,
        }));
        let status = scene.last();
        scene.obey(Body::Acknowledge(Acknowledge {
            framework_id: id,
            task_id: Some(status.task_id),
            uuid: status.uuid.unwrap(),
        }));
    }
    assert_eq!(scene.core.view().frameworks.len(), 50);
    assert_eq!(scene.core.shown().len(), 50);
}

#[test]
fn what_ended_is_cleaned_up_again_by_the_next_agent() {
    for acknowledged in [false, true] {
        let mut scene = Scene::new();
        scene.launch_with(&[], vec![task("t")]);
        let container_id = scene.launched[0].container_id.clone();
        scene.input(Input::LaunchFailed { container_id: container_id.clone(), reason: "no".to_owned() });
        if acknowledged {
            scene.drain();
        }
        let scene = scene.restart(vec![]);
        assert_eq!(scene.cleaned, [container_id], "it may have died before it carried that out");
    }
}
