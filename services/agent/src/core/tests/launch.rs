use super::*;

#[test]
fn an_end_that_overtakes_the_answer_to_the_launch_is_told_in_order() {
    let mut scene = Scene::new();
    scene.launch_with(&[], vec![task("t")]);
    let container = scene.launched[0].container_id.clone();
    scene.exit(&container, ExitStatus::Code(0));
    scene.input(Input::Launched { container_id: container, pid: 1 });
    assert_eq!(scene.drain(), [TaskState::TaskStarting, TaskState::TaskRunning, TaskState::TaskFinished]);
}

#[test]
fn a_launch_that_fails_and_a_task_that_cannot_be_run_say_why() {
    let mut scene = Scene::new();
    scene.launch_with(&[], vec![task("t")]);
    let container_id = scene.launched[0].container_id.clone();
    scene.input(Input::LaunchFailed { container_id, reason: "no such user".to_owned() });
    assert_eq!(scene.drain(), [TaskState::TaskStarting, TaskState::TaskFailed]);
    assert_eq!(
        (scene.last().reason(), scene.last().message()),
        (Reason::ContainerLaunchFailed, "no such user")
    );

    let mut info = task("u");
    info.container =
        Some(pb::ContainerInfo { hostname: Some("h".to_owned()), ..pb::ContainerInfo::default() });
    scene.launch_with(&[], vec![info]);
    assert_eq!(scene.drain(), [TaskState::TaskFailed]);
    assert!(scene.last().message().contains("--containerizers=mesos,docker"));
    assert_eq!(scene.launched.len(), 1);
}

#[test]
fn mesos_c47_memory_over_the_limit_is_a_failure_with_its_limitation() {
    let mut scene = Scene::new();
    let mut info = task("t");
    let scalar = Some(pb::value::Scalar { value: 32.0 });
    info.resources = vec![pb::Resource { name: "mem".to_owned(), scalar, ..pb::Resource::default() }];
    let container_id = scene.run(info);
    let exit = Exit { status: ExitStatus::Signal(9), out_of_memory: true };
    scene.input(Input::Exited { container_id, exit });
    assert_eq!(scene.drain().last(), Some(&TaskState::TaskFailed));
    let status = scene.last();
    assert_eq!(status.reason(), Reason::ContainerLimitationMemory);
    assert_eq!(status.limitation.unwrap().resources[0].name, "mem");
}

#[test]
fn a_launch_told_twice_runs_once() {
    let mut scene = Scene::new();
    scene.run(task("t"));
    scene.launch_with(&[], vec![task("t")]);
    assert_eq!(scene.launched.len(), 1);
}

#[test]
fn ids_that_would_leave_the_sandbox_are_dropped() {
    let mut scene = Scene::new();
    scene.launch_with(&[], vec![task("../../etc"), task(".."), task("good")]);
    assert_eq!(scene.launched.len(), 1);
    let sandbox = scene.launched[0].sandbox.display().to_string();
    let container = &scene.launched[0].container_id;
    assert_eq!(sandbox, format!("/work/slaves/a-S0/frameworks/f-0000/executors/good/runs/{container}"));
}

#[test]
fn a_task_gets_the_environment_of_mesos_then_its_own() {
    let mut scene = Scene::new();
    let mut info = task("t");
    let variable = |name: &str, value: &str| pb::environment::Variable {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        ..pb::environment::Variable::default()
    };
    let variables = vec![variable("MESOS_CONTAINER_IP", "own"), variable("A", "b")];
    info.command.as_mut().unwrap().environment = Some(pb::Environment { variables });
    scene.run(info);
    let spec = &scene.launched[0];
    let value = |name: &str| spec.environment.get(name).map_or("", String::as_str);
    assert_eq!((value("A"), value("MESOS_CONTAINER_IP")), ("b", "own"));
    assert_eq!(
        (value("MESOS_FRAMEWORK_ID"), value("MESOS_EXECUTOR_ID"), value("MESOS_SLAVE_ID")),
        (FRAMEWORK, "t", "a-S0")
    );
    assert_eq!(value("MESOS_SANDBOX"), spec.sandbox.display().to_string());
    assert_eq!((value("MESOS_AGENT_ENDPOINT"), value("MESOS_RECOVERY_TIMEOUT")), ("10.0.0.1:5051", "15mins"));
    assert_eq!((value("TRACEPARENT"), value("MESOS_CHECKPOINT")), ("00-aa-bb-01", "1"));
    assert!(value("PATH").contains("/usr/bin"));
    assert_eq!(
        (spec.program.as_str(), spec.arguments.clone()),
        ("/bin/sh", vec!["-c".to_owned(), "sleep 60".to_owned()])
    );
}

#[test]
fn arguments_without_a_shell_begin_with_the_programs_own_name() {
    let mut scene = Scene::new();
    let mut info = task("t");
    let arguments = ["ls", "-l"].map(str::to_owned).to_vec();
    info.command = Some(pb::CommandInfo {
        shell: Some(false),
        value: Some("/bin/busybox".to_owned()),
        arguments,
        ..Default::default()
    });
    scene.run(info);
    let spec = &scene.launched[0];
    assert_eq!(
        (spec.program.as_str(), spec.argument_zero.as_str(), &spec.arguments[..]),
        ("/bin/busybox", "ls", &["-l".to_owned()][..])
    );
}
