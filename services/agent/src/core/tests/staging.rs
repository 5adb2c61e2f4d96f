//! What a task is called while its files are on their way.

use super::{recovery::running, *};

fn with_a_file(id: &str) -> pb::TaskInfo {
    let uri = pb::command_info::Uri { value: "http://files.example/x".to_owned(), ..Default::default() };
    let mut info = task(id);
    info.command.as_mut().unwrap().uris = vec![uri];
    info
}

/// A task whose files are being fetched; its container.
fn staging(scene: &mut Scene) -> String {
    scene.launch_with(&[], vec![with_a_file("t")]);
    assert!(scene.sent.is_empty());
    assert_eq!(scene.core.reregister().tasks[0].state(), TaskState::TaskStaging);
    scene.launched.last().unwrap().container_id.clone()
}

#[test]
fn a_task_is_starting_when_its_files_are_there() {
    let mut scene = Scene::new();
    let container_id = staging(&mut scene);
    scene.input(Input::Fetched { container_id: container_id.clone() });
    assert_eq!(scene.drain(), [TaskState::TaskStarting]);
    scene.input(Input::Fetched { container_id: container_id.clone() });
    scene.input(Input::Launched { container_id, pid: 1 });
    assert_eq!(scene.drain(), [TaskState::TaskRunning]);
}

#[test]
fn a_task_whose_files_cannot_be_had_was_never_starting() {
    let mut scene = Scene::new();
    let container_id = staging(&mut scene);
    scene.input(Input::LaunchFailed { container_id, reason: "404".to_owned() });
    assert_eq!(scene.drain(), [TaskState::TaskFailed]);
    assert_eq!(scene.last().reason(), Reason::ContainerLaunchFailed);
}

#[test]
fn one_that_is_killed_meanwhile_was_neither() {
    let mut scene = Scene::new();
    let container_id = staging(&mut scene);
    scene.kill("t", None);
    assert_eq!(scene.abandoned, std::slice::from_ref(&container_id));
    // The files came at the same moment.
    scene.input(Input::Fetched { container_id: container_id.clone() });
    scene.input(Input::LaunchFailed { container_id, reason: "killed".to_owned() });
    assert_eq!(scene.drain(), [TaskState::TaskKilled]);
    assert_eq!(scene.last().reason(), Reason::TaskKilledDuringLaunch);
}

#[test]
fn what_an_agent_that_died_did_not_tell_is_told_by_the_next() {
    for fetched in [false, true] {
        let mut scene = Scene::new();
        let container_id = staging(&mut scene);
        if fetched {
            scene.input(Input::Fetched { container_id: container_id.clone() });
        }
        let mut scene = scene.restart(vec![running(&container_id)]);
        scene.link();
        assert_eq!(scene.drain(), [TaskState::TaskStarting, TaskState::TaskRunning]);
    }
    let mut scene = Scene::new();
    staging(&mut scene);
    let mut scene = scene.restart(vec![]);
    scene.link();
    assert_eq!(scene.drain(), [TaskState::TaskLost]);
    assert_eq!(scene.last().reason(), Reason::AgentRestarted);
}

#[test]
fn an_end_that_overtakes_everything_is_told_in_order() {
    let mut scene = Scene::new();
    let container_id = staging(&mut scene);
    scene.exit(&container_id, ExitStatus::Code(1));
    assert_eq!(scene.drain(), [TaskState::TaskStarting, TaskState::TaskRunning, TaskState::TaskFailed]);
}
