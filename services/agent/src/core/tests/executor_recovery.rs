//! Executors over restarts of the agent.

use meshos_proto::mesos::v1::executor::{call, event};

use super::{
    executors::{EXECUTOR, task_for_executor, update},
    recovery::{ended, running},
    *,
};

#[test]
fn after_a_restart_an_executor_comes_back_with_what_it_knows() {
    let mut scene = Scene::new();
    scene.launch_with(&[], vec![task_for_executor("a"), task_for_executor("b"), task_for_executor("c")]);
    let container = scene.launched[0].container_id.clone();
    scene.input(Input::Launched { container_id: container.clone(), pid: 42 });
    scene.subscribe(1, call::Subscribe::default());
    scene.update("a", TaskState::TaskRunning, 1);
    scene.drain();
    let mut scene = scene.restart(vec![running(&container)]);
    assert_eq!(scene.core.reregister().executors[0].executor_id.value, EXECUTOR);
    scene.link();
    assert!(scene.launched.is_empty() && scene.sent.is_empty());
    // It heard of `b`, and finished `a` while there was no agent; `c` was lost on the way.
    let subscribe = call::Subscribe {
        unacknowledged_tasks: vec![task_for_executor("b")],
        unacknowledged_updates: vec![update("a", TaskState::TaskFinished, 2)],
    };
    scene.subscribe(7, subscribe);
    assert_eq!(scene.told(7), [event::Type::Subscribed, event::Type::Acknowledged]);
    assert_eq!(scene.state("b"), Some(TaskState::TaskStaging));
    assert_eq!(scene.state("a"), Some(TaskState::TaskFinished));
    let lost: Vec<_> = scene.sent.iter().map(|sent| sent.status.clone().unwrap()).collect();
    let lost = lost.iter().find(|status| status.task_id.value == "c").unwrap();
    assert_eq!((lost.state(), lost.reason()), (TaskState::TaskLost, Reason::AgentRestarted));
    scene.wait(seconds(100));
    assert!(scene.signals.is_empty());
}

#[test]
fn an_executor_that_does_not_come_back_is_ended() {
    for (aware, state) in [(false, TaskState::TaskLost), (true, TaskState::TaskGone)] {
        let mut scene = Scene::new();
        let capabilities: &[Capability] = if aware { &[Capability::PartitionAware] } else { &[] };
        scene.launch_with(capabilities, vec![task_for_executor("t")]);
        let container = scene.launched[0].container_id.clone();
        scene.input(Input::Launched { container_id: container.clone(), pid: 42 });
        scene.subscribe(1, call::Subscribe::default());
        let mut scene = scene.restart(vec![running(&container)]);
        scene.link();
        scene.wait(seconds(2));
        assert_eq!(scene.signals, [(container.clone(), 9)]);
        scene.exit(&container, ExitStatus::Signal(9));
        assert_eq!(scene.drain(), [state]);
        assert_eq!(scene.last().reason(), Reason::ExecutorReregistrationTimeout);
    }
}

#[test]
fn what_was_never_told_is_told_after_a_restart() {
    let mut scene = Scene::new();
    scene.launch_with(&[], vec![task_for_executor("t")]);
    let container = scene.launched[0].container_id.clone();
    let mut scene = scene.restart(vec![running(&container)]);
    scene.link();
    scene.wait(seconds(30));
    scene.subscribe(1, call::Subscribe::default());
    assert_eq!(scene.told(1), [event::Type::Subscribed, event::Type::Launch]);
    scene.wait(seconds(100));
    assert!(scene.signals.is_empty(), "it came in time");
}

#[test]
fn an_executor_that_ended_while_no_agent_ran_is_told_once() {
    for there in [true, false] {
        let mut scene = Scene::new();
        let container = scene.with_executor("t");
        let containers = if there { vec![ended(&container, ExitStatus::Code(1))] } else { vec![] };
        let mut scene = scene.restart(containers);
        scene.link();
        assert_eq!(scene.drain(), [TaskState::TaskFailed]);
        assert_eq!(scene.last().reason(), Reason::ExecutorTerminated);
        let scene = scene.restart(vec![]);
        assert!(scene.core.reregister().tasks.is_empty());
        assert_eq!(scene.core.view().frameworks[0].completed_executors.len(), 1);
    }
}

#[test]
fn the_fewest_records_give_the_same_executors() {
    let mut scene = Scene::new();
    let gone = scene.with_executor("x");
    scene.exit(&gone, ExitStatus::Code(0));
    let container = scene.with_executor("t");
    let mut replay = Replay::default();
    for record in scene.core.records() {
        replay.apply(record).unwrap();
    }
    let (core, _) =
        Core::recover(settings(), Rng::seeded(3), replay, vec![running(&container)], Now::default());
    assert_eq!(core.reregister(), scene.core.reregister());
    let completed = |core: &Core| core.view().frameworks[0].completed_executors.clone();
    assert_eq!(completed(&core), completed(&scene.core));
}
